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


def test_every_file_that_is_linked_exists():
    links = re.findall(r"\]\((?!https?://)([^)#]+)\)", README) + re.findall(r"src=\"([^\"]+)\"", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


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
    commands = subprocess.run(
        ["make", "--dry-run", "--assume-old=.venv/installed", "demo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    binaries = Path(sys.executable).parent
    for line in commands.splitlines():
        if line.startswith(".venv/bin/"):
            program, *arguments = line.split()
            absolute = [str(ROOT / word) if (ROOT / word).is_file() else word for word in arguments]
            subprocess.run([binaries / Path(program).name, *absolute], cwd=tmp_path, check=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "eileen_collins_depth.16.json",
        "eileen_collins_depth.16.png",
        "eileen_collins_depth.npy",
        "eileen_collins_depth.png",
    ]
