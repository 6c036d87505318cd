"""The examples about moving to the second family."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from sapiens_client.testing import FakeServer

DOCS = Path(__file__).parents[2] / "docs"


def test_the_examples_run(photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo).save("photo.jpg")
    text = (DOCS / "migration.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert examples
    models = ("seg", "seg_v2", "depth", "pointmap", "pose", "detect")
    names: dict[str, object] = {}
    with FakeServer(models=models, keypoints="goliath") as server:
        for example in examples:
            exec(compile(example.replace("sapiens:8001", server.url), "docs/migration.md", "exec"), names)
        names["client"].close()
    assert {path.name for path in tmp_path.iterdir()} == {"photo.jpg", "relative.ply", "photo.openpose.json"}
