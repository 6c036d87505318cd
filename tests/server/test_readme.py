"""What the README tells people to type."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def code_blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_every_make_target_exists():
    targets = set(re.findall(r"(?:^|`)make ([a-z]+)", README, flags=re.MULTILINE))
    makefile = (ROOT / "Makefile").read_text()
    assert {"demo", "test"} <= targets
    assert [target for target in targets if not re.search(rf"^{target}:", makefile, flags=re.MULTILINE)] == []


def test_the_python_example_runs(depth_server, photo, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAPIENS_URL", depth_server.grpc_url)
    Image.fromarray(photo).save("photo.jpg")
    (example,) = code_blocks("python")
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    assert names["result"].depth.shape == photo.shape[:2]


@pytest.mark.slow
def test_the_commands_of_the_demo_leave_pictures(tmp_path):
    binaries = Path(sys.executable).parent
    places = [f"MODELS={tmp_path / 'models'}", f"OUT={tmp_path / 'out'}", f"BIN={binaries}"]
    subprocess.run(["make", "--assume-old=.venv/installed", "demo", *places], cwd=ROOT, check=True)
    pictures = {path.name.removeprefix("eileen_collins_") for path in (tmp_path / "out").iterdir()}
    tasks = ("depth", "normal", "seg", "pose", "features", "detect", "people")
    assert pictures == {f"{task}.png" for task in tasks}
