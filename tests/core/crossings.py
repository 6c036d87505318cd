"""People who cross each other, as a detector sees them: whoever is behind somebody is not found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sapiens_core.motion.similarity import box_similarity
from sapiens_core.motion.tracks import Persons

# Nose, shoulders, hips and feet of somebody who stands, in widths and heights of the box.
STANDING = np.float32(
    [(0.5, 0.08), (0.25, 0.22), (0.75, 0.22), (0.3, 0.52), (0.7, 0.52), (0.35, 0.97), (0.65, 0.97)]
)
HIDDEN = 0.35  # intersection over union with somebody nearer, from which one is not found


@dataclass
class Scene:
    """Frames with the persons found in each, and who they are.

    Attributes:
        times_s: (T,) of the frames.
        found: Persons of each frame, in no particular order.
        who: (N,) of each frame, who they are.
    """

    times_s: np.ndarray
    found: list[Persons]
    who: list[np.ndarray]


def crossing(
    starts, speeds, *, rate=25.0, seconds=4.0, sizes=((60, 160),), noise=1.0, lost=0.0, seed=0
) -> Scene:
    """Render people who walk straight on; later ones in the list are behind earlier ones.

    Args:
        starts: (P, 2) centres at first, pixels.
        speeds: (P, 2) pixels/s.
        rate: Frames a second.
        seconds: How long.
        sizes: Width and height of each, or of all.
        noise: Standard deviation of what is found, pixels.
        lost: Share of the persons who are not found for no reason.
        seed: Of the noise.
    """
    rng = np.random.default_rng(seed)
    starts, speeds, sizes = np.float32(starts), np.float32(speeds), np.float32(sizes)
    halves = np.broadcast_to(sizes / 2, starts.shape)
    times_s = np.arange(0, seconds, 1 / rate)
    found, who = [], []
    for time_s in times_s:
        centers = starts + speeds * time_s
        bboxes = np.concatenate([centers - halves, centers + halves], axis=1)
        overlaps = box_similarity(bboxes, bboxes)
        is_seen = np.array([overlaps[i, :i].max(initial=0) < HIDDEN for i in range(len(bboxes))])
        seen = rng.permutation(np.flatnonzero(is_seen & (rng.random(len(bboxes)) >= lost)))
        found.append(_found(bboxes[seen], rng, noise))
        who.append(seen)
    return Scene(times_s, found, who)


def _found(bboxes, rng, noise) -> Persons:
    keypoints = bboxes[:, None, :2] + STANDING * (bboxes[:, None, 2:] - bboxes[:, None, :2])
    return Persons(
        (bboxes + rng.normal(0, noise, bboxes.shape)).astype(np.float32),
        rng.uniform(0.6, 1, len(bboxes)).astype(np.float32),
        (keypoints + rng.normal(0, noise, keypoints.shape)).astype(np.float32),
        np.full(keypoints.shape[:2], 0.9, np.float32),
    )


def num_switches(who, ids) -> int:
    """Count how often a person is under another number than when seen before."""
    last, switches = {}, 0
    for persons, numbers in zip(who, ids, strict=True):
        for person, number in zip(persons.tolist(), numbers.tolist(), strict=True):
            switches += last.get(person, number) != number
            last[person] = number
    return switches
