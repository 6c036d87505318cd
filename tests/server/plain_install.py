"""What the plain install can do; test_plain_install.py runs this in an environment that has nothing else.

Arguments: address of a server with every task, image file, folder for the answers of the tasks.
"""

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np

from sapiens_client import AsyncSapiensClient, SapiensClient
from sapiens_client.results.saving import Format
from sapiens_client.testing import FakeServer

TASKS = ("depth", "normal", "seg", "pose", "features", "detect", "people")


def main(url, image, output):
    with SapiensClient(url) as client:
        answers = {task: getattr(client, task)(image) for task in TASKS}
        for task, answer in answers.items():
            check_equal(client.analyze(image, tasks=(task,))[task], answer)
            for item in client.map(task, [image, image.read_bytes()]):
                check_equal(item.result, answer)
    asyncio.run(check_async(url, image, answers))
    check_results(answers)
    for task, answer in answers.items():
        save_all(answer, output / task)
    check_command(url, image, output, answers["depth"])
    with FakeServer(persons=2) as server, SapiensClient(server.url) as client:
        for task in TASKS:
            save_all(getattr(client, task)(image), output / "fake" / task)


async def check_async(url, image, answers):
    async with AsyncSapiensClient(url) as client:
        for task, answer in answers.items():
            check_equal(await getattr(client, task)(image), answer)
            async for item in client.map(task, [image]):
                check_equal(item.result, answer)


def check_equal(one, other):
    for name, array in other.arrays().items():
        # Batches differ, and so do the last bits, of boxes in pixels and of heatmaps; where these are flat,
        # shares of a pixel.
        errors, allowed = np.abs(one.arrays()[name].astype(float) - array), 1e-5
        if name == "bboxes":
            allowed = 1e-3
        if name == "keypoints":
            errors, allowed = np.median(errors), 1e-2
        assert np.max(errors, initial=0) <= allowed, name
        assert one.arrays()[name].dtype == array.dtype


def check_results(answers):
    normals = answers["depth"].normal_from_depth()
    assert normals.dtype == np.float32
    assert answers["seg"].mask("Hair").dtype == bool
    assert answers["seg"].to_rle()
    assert len(answers["people"].persons) == len(answers["detect"].bboxes) > 0
    assert isinstance(answers["pose"].persons[0]["left_elbow"].score, float)


def save_all(answer, stem):
    stem.parent.mkdir(exist_ok=True)
    for form in answer.writers:
        for path in answer.save(Path(f"{stem}{form.suffix}"), image_id=7):
            assert path.stat().st_size > 0


def check_command(url, image, output, depth):
    command = Path(sys.executable).with_name("sapiens")
    for words in (
        ["--help"],
        ["depth", "--help"],
        ["zoo"],
        ["export", "--help"],
        ["serve", "--help"],
        ["demo", "--help"],
    ):
        assert subprocess.run([command, *words], check=True, capture_output=True).stdout
    forms = [word for form in depth.writers for word in ("--format", form.value)]
    subprocess.run([command, "depth", image, "-o", output / "cli", "--url", url, *forms], check=True)
    saved = np.load(output / "cli" / f"{image.name}_depth{Format.NPY.suffix}")
    np.testing.assert_allclose(saved, depth.depth, rtol=0, atol=1e-5)


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
