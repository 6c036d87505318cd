"""Images that the client fetches from web servers: real ones on loopback."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sapiens_client import ImageReadError, InvalidInputError, RequestTimeoutError, SapiensClient
from sapiens_client.tasks.fetch import fetched
from sapiens_client.tasks.images import encoded_image
from sapiens_client.testing import FakeServer
from sapiens_core.contract.limits import LIMITS


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    content = b""
    never = threading.Event()

    def log_message(self, format, *args):
        pass

    def do_GET(self):
        path = self.path.partition("?")[0]
        target = {"/moved": "/photo.png", "/local": "file:///etc/hostname", "/ftp": "ftp://127.0.0.1/"}.get(
            path
        )
        if target:
            self.send_response(302)
            self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        size = {"/short": 10, "/hangs": 1}.get(path, 0) + len(self.content)
        self.send_header("Content-Length", str(2**40 if path == "/endless" else size))
        self.end_headers()
        self.close_connection = path != "/kept"
        if path == "/hangs":
            self.wfile.flush()
            self.never.wait(60)
        try:
            for _ in range(10**6 if path == "/endless" else 1):
                self.wfile.write(self.content)
        except OSError:  # the client has had enough
            pass


@pytest.fixture
def web(encode, photo) -> Iterator[str]:
    Handler.content = encode(photo)
    Handler.never = threading.Event()
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            Handler.never.set()
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("path", ["/photo.png", "/moved", "/kept", "/photo.png?token=secret"])
def test_an_image_is_fetched(web, path):
    with FakeServer() as server, SapiensClient(server.url) as client:
        result = client.depth(web + path)
        assert bytes(result.encoded_image) == Handler.content
        (item,) = client.map("depth", [web + path])
        assert (item.image, item.error) == (web + path, None)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/missing", "HTTP Error 404"),
        ("/short", "must be whole, got"),
        ("/local", "file:///"),
        ("/ftp", "unknown url type: ftp"),
    ],
)
def test_what_cannot_be_fetched_is_an_image_that_cannot_be_read(web, path, words):
    with pytest.raises(ImageReadError, match=words) as caught:
        encoded_image(f"{web}{path}?token=secret")
    assert "secret" not in str(caught.value)


def test_nobody_there_is_an_image_that_cannot_be_read(dead_url):
    with pytest.raises(ImageReadError, match="refused"):
        encoded_image(f"http://{dead_url}/photo.png")


def test_more_bytes_than_an_image_has_are_not_fetched(web, monkeypatch):
    with pytest.raises(InvalidInputError, match=f"at most {LIMITS.max_image_bytes} bytes"):
        fetched(f"{web}/endless", 60)


def test_fetching_is_part_of_the_time_of_a_call(web):
    with FakeServer() as server, SapiensClient(server.url) as client:
        with pytest.raises((RequestTimeoutError, ImageReadError)):
            client.depth(f"{web}/hangs", timeout_s=0.3)
        assert server.requests == ()


@pytest.mark.parametrize(
    "url", ["s3://bucket/a.jpg", "file:///etc/hostname", "data:image/png;base64,AA", "ftp://127.0.0.1/a.jpg"]
)
def test_other_urls_are_refused(url):
    with pytest.raises(InvalidInputError, match="http or https"):
        encoded_image(url)


def test_passwords_in_urls_are_refused_and_not_told():
    with pytest.raises(InvalidInputError, match="without a password") as caught:
        encoded_image("https://me:secret@127.0.0.1/a.jpg")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://[::1/a.jpg", "http://127.0.0.1:port/a.jpg", "https:///a.jpg", "http://"]
)
def test_what_is_no_address_is_told(url):
    with pytest.raises((InvalidInputError, ImageReadError), match=r"image must|must be answered"):
        encoded_image(url)
