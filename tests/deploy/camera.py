"""Runs with Debian's Python: a camera that plays a clip of H.264 to everybody, by GStreamer's RTSP server.

camera.py CLIP tells the address, and serves until it is killed.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")

from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1")
server.set_service("0")
media = GstRtspServer.RTSPMediaFactory()
media.set_launch(f"( filesrc location={sys.argv[1]} ! qtdemux ! rtph264pay name=pay0 config-interval=-1 )")
server.get_mount_points().add_factory("/live", media)
server.attach(None)
sys.stdout.write(f"rtsp://127.0.0.1:{server.get_bound_port()}/live\n")
sys.stdout.flush()
GLib.MainLoop().run()
