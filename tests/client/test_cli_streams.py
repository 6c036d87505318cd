"""Cameras and streams that send nothing, or nothing more: Ctrl-C ends whoever waits for them at once."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path

import pytest
from clips import numbered, write_clip
from real_servers import LONG_S, becomes_true

# No read ends by itself while the test lasts.
PATIENT = "from sapiens_client.video import sources; sources._TIMEOUT_S = 1e6"
COMMAND = f"{PATIENT}; from sapiens_client.cli.main import main; main()"
EVENT_LOOP = f"""
{PATIENT}
import asyncio, sys
from sapiens_client import AsyncSapiensClient

async def watch():
    async with AsyncSapiensClient() as client, client.video(sys.argv[1], tasks="detect") as video:
        async for frame in video:
            print(frame.index, flush=True)

asyncio.run(watch())
"""
HEADER = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp2t\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def transport_stream(tmp_path_factory) -> bytes:
    return write_clip(tmp_path_factory.mktemp("live") / "live.ts", numbered(20) * 10).read_bytes()


@contextmanager
def program(url: str, folder: Path, *command: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "SAPIENS_URL": url}
    process = subprocess.Popen(
        [sys.executable, "-c", *command],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def sapiens(url: str, folder: Path, address: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return program(url, folder, COMMAND, "detect", address, "--format", "json", "--format", "picture")


def ctrl_c(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Press it; return the exit status and what was told."""
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=LONG_S)
    return process.returncode, told


def num_lines(folder: Path) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in folder.glob("out/*.jsonl"))


@pytest.mark.parametrize("protocol", ["rtsp", "http", "rtmp"])
def test_ctrl_c_ends_the_wait_for_an_address_that_is_silent(protocol, url, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"{protocol}://127.0.0.1:{silent.getsockname()[1]}/live"
        with sapiens(url, tmp_path, address) as process:
            connection, _ = silent.accept()
            with connection:
                assert connection.recv(1)  # it has asked
                status, told = ctrl_c(process)
    assert (status, "Traceback" in told) == (130, False), told


def test_ctrl_c_ends_a_stream_that_falls_silent_and_its_frames_are_kept(transport_stream, url, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/live"
        with sapiens(url, tmp_path, address) as process:
            connection, _ = server.accept()
            with connection:
                connection.sendall(HEADER + transport_stream)
                assert becomes_true(lambda: num_lines(tmp_path) > 180)  # of 200; it waits for more
                status, told = ctrl_c(process)
    assert (status, "Traceback" in told) == (130, False), told
    assert f"interrupted after {num_lines(tmp_path)} frames" in told


def test_ctrl_c_ends_a_camera_that_falls_silent_and_its_files_get_their_names(
    transport_stream, url, tmp_path
):
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    is_silent = threading.Event()

    def send():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as camera:
            while not is_silent.is_set():
                for start in range(0, len(transport_stream), 1316):
                    camera.sendto(transport_stream[start : start + 1316], ("127.0.0.1", port))
                    is_silent.wait(0.005)

    with sapiens(url, tmp_path, f"udp://127.0.0.1:{port}") as process:
        camera = threading.Thread(target=send)
        camera.start()
        has_begun = becomes_true(lambda: num_lines(tmp_path) or process.poll() is not None)
        is_silent.set()
        camera.join()
        status, told = ctrl_c(process)
    assert has_begun
    assert (status, "Traceback" in told) == (0, False), told
    (lines,) = (tmp_path / "out").glob("*_detect.jsonl")
    frames = [json.loads(line)["frame"] for line in lines.read_text().splitlines()]
    assert frames == sorted({*frames})


@pytest.mark.parametrize("has_begun", [False, True], ids=["silent", "falls silent"])
def test_ctrl_c_ends_an_event_loop_that_waits_for_a_stream(has_begun, transport_stream, url, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/live"
        with program(url, tmp_path, EVENT_LOOP, address) as process:
            connection, _ = server.accept()
            with connection:
                assert connection.recv(1)
                if has_begun:
                    connection.sendall(HEADER + transport_stream)
                    while int(process.stdout.readline()) < 180:  # of 200; it waits for more
                        pass
                status, told = ctrl_c(process)
    assert (status, "KeyboardInterrupt" in told) == (-signal.SIGINT, True), told
