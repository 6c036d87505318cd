"""The manual of the client: its examples run, in their order, and its table of errors is complete."""

import contextlib
import io
import re
from pathlib import Path

import pytest
from clips import write_clip
from PIL import Image

import sapiens_client
from sapiens_client.testing import FakeServer

TEXT = (Path(__file__).parents[2] / "docs" / "client.md").read_text()


@pytest.fixture
def place(tasks_server, photo, tmp_path, monkeypatch):
    """A folder with what the examples read, beside a server."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAPIENS_URL", tasks_server.grpc_url)
    Image.fromarray(photo).save("photo.jpg")
    write_clip(tmp_path / "clip.mp4", [photo] * 3)
    Path("photos").mkdir()
    for name in ("a", "b"):
        Image.fromarray(photo).save(f"photos/{name}.jpg")
    Path("photos/c.jpg").write_bytes(b"no image")
    Path("token").write_text("secret\n")
    for name in ("ca.crt", "me.crt", "me.key"):  # which nobody is shown: there is no such server
        Path(name).write_text("-----BEGIN CERTIFICATE-----\n")
    return tmp_path


def test_the_examples_run(place, tasks_server):
    examples = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    assert len(examples) == TEXT.count("```") / 2
    names = {}
    # The networks of the second family are served in a test of their own.
    with contextlib.redirect_stdout(io.StringIO()) as output, FakeServer() as second:
        for example in examples:
            reachable = example.replace("sapiens:8001", second.url)
            if "tls=" not in example:
                reachable = re.sub(r"gpu-[12]:8001", tasks_server.grpc_url, reachable)
            exec(compile(reachable, "docs/client.md", "exec"), names)
    names["client"].close()
    names["fleet"].close()
    names["second"].close()
    written = {path.name for path in place.rglob("*.png")}
    assert written == {"depth.png", "people.png", "white.png", "a.jpg_seg.png", "b.jpg_seg.png"}
    assert {path.name for path in place.rglob("*.ply")} == {"points.ply", "person.ply", "depth.ply"}
    assert "photos/c.jpg image must be a JPEG" in output.getvalue()
    assert "depth_engine: " in output.getvalue()


def test_every_error_stands_in_the_table():
    errors = {name for name in sapiens_client.__all__ if name.endswith("Error")} - {"SapiensError"}
    rows = re.findall(r"^\| (`\w+Error`.*?) \|", TEXT, flags=re.MULTILINE)
    assert errors == set(re.findall(r"\w+Error", " ".join(rows)))


def test_every_link_leads_somewhere():
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", TEXT)
    assert [link for link in links if not (Path(__file__).parents[2] / "docs" / link).exists()] == []
