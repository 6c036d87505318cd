"""The pages about models and about moving to them: examples run, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image

from sapiens_client.testing import FakeServer

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ("models.md", "migration.md")


def test_the_examples_run(photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo).save("photo.jpg")
    text = (DOCS / "migration.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert examples
    models = ("seg_v1", "seg_v2", "depth", "pointmap", "pose", "detect")
    names: dict[str, object] = {}
    with FakeServer(models=models, keypoints="goliath") as server:
        for example in examples:
            exec(compile(example.replace("sapiens:8001", server.url), "docs/migration.md", "exec"), names)
        names["client"].close()
    assert {path.name for path in tmp_path.iterdir()} == {"photo.jpg", "relative.ply", "photo.openpose.json"}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    text = (DOCS / page).read_text()
    links = re.findall(r"\]\((?!https?://)([^)]*)\)", text)
    for link in links:
        name, _, heading = link.partition("#")
        target = (DOCS / (name or page)).read_text()
        headings = [
            line.lstrip("# ").lower().replace(" ", "-") for line in target.splitlines() if line[:1] == "#"
        ]
        assert not heading or heading in headings, link
    assert links
