"""Identities of people who cross, beside those of another library in an environment of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from crossings import crossing, num_switches

from sapiens_core.motion.tracks import TrackRules, Tracks, followed

TRACKERS = "trackers==2.6.1"
RATE = 25.0
STARTS, SPEEDS = [(100, 200), (500, 205)], [(100, 0), (-100, 0)]


@pytest.fixture(scope="module")
def python() -> Path:
    folder = Path(sys.prefix) / "trackers"
    done = folder / "installed.txt"
    if not done.exists() or done.read_text() != TRACKERS:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, TRACKERS], check=True)
        done.write_text(TRACKERS)
    return folder / "bin" / "python"


def ours(scene):
    tracks, ids = Tracks.none(), []
    for time_s, persons in zip(scene.times_s, scene.found, strict=True):
        result = followed(tracks, persons, float(time_s), TrackRules())
        tracks = result.tracks
        ids.append(result.ids)
    return ids


def theirs(python, scene):
    frames = [np.column_stack([each.bboxes, each.scores]).tolist() for each in scene.found]
    program = Path(__file__).with_name("trackers_ids.py")
    asked = json.dumps({"rate": RATE, "frames": frames})
    done = subprocess.run([python, program], input=asked, capture_output=True, text=True, check=True)
    return {kind: [np.array(ids) for ids in numbers] for kind, numbers in json.loads(done.stdout).items()}


def known(who, ids):
    """Without persons whom a tracker gives no number yet."""
    pairs = [
        (persons[numbers >= 0], numbers[numbers >= 0]) for persons, numbers in zip(who, ids, strict=True)
    ]
    return zip(*pairs, strict=True)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("noise", [1.0, 4.0], ids="noise {:g}".format)
def test_there_are_no_more_switches_than_of_other_trackers(python, noise, seed, record_property):
    scene = crossing(STARTS, SPEEDS, rate=RATE, noise=noise, lost=0.1, seed=seed)
    mine = num_switches(scene.who, ours(scene))
    others = {kind: num_switches(*known(scene.who, ids)) for kind, ids in theirs(python, scene).items()}
    record_property("switches", {"ours": mine, **others})
    assert mine == 0
    assert mine <= min(others.values()), others
