"""Who is who from frame to frame: persons are followed by where their boxes and keypoints should be next.

A track is a person under a number. Its box moves on at its last speed, and so do its keypoints; the persons
of the next frame are given to tracks so that the likeness of all is greatest. Whoever is not seen, behind
somebody else for instance, is expected further along the same way for a short time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from sapiens_core.motion.assignment import best_pairs
from sapiens_core.motion.similarity import box_similarity, keypoint_similarity

if TYPE_CHECKING:
    from numpy.typing import NDArray

NOBODY = -1
_DOUBT, _DOUBTFUL_S = (
    0.25,
    0.25,
)  # of whoever was hidden: where all stand in one place, who was seen stays seen


@dataclass(frozen=True)
class TrackRules:
    """When persons of two frames are the same one.

    Attributes:
        memory_s: How long a person who is not seen is waited for. [s]
        start_score: Boxes below it continue tracks and start none; it is also who is looked for first.
        lowest_likeness: Of a person to where a track should be, 0..1.
        speed_s: Over how long a track's speed is a mean. [s]
        sigmas: Of the keypoints, see `keypoint_similarity`.
    """

    memory_s: float = 1.0
    start_score: float = 0.3
    lowest_likeness: float = 0.15
    speed_s: float = 0.4
    sigmas: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Persons:
    """The persons of one frame.

    Attributes:
        bboxes: (N, 4) float32, xyxy, pixels.
        scores: (N,) float32, 0..1, of the detector.
        keypoints: (N, K, 2) float32, x and y, pixels; K may be 0.
        keypoint_scores: (N, K) float32, about 0..1.
    """

    bboxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    keypoints: NDArray[np.float32]
    keypoint_scores: NDArray[np.float32]

    @classmethod
    def in_boxes(cls, bboxes: NDArray[np.float32], scores: NDArray[np.float32]) -> Persons:
        """Return persons of whom only (N, 4) boxes and (N,) scores are known."""
        nothing = np.zeros((len(bboxes), 0, 3), np.float32)
        return cls(bboxes, scores, nothing[..., :2], nothing[..., 2])


@dataclass(frozen=True, eq=False)
class Tracks:
    """Who is known at a moment.

    Attributes:
        ids: (T,) int64, from 1, each of one person.
        persons: Of the tracks, as each was seen last.
        speeds: (T, 2) float32, x and y, of the centres of the boxes. [pixels/s]
        seen_s: (T,) float64, when each was seen last. [s]
        since_s: (T,) float64, when each was seen first. [s]
        last_id: The highest number that was given so far.
    """

    ids: NDArray[np.int64]
    persons: Persons
    speeds: NDArray[np.float32]
    seen_s: NDArray[np.float64]
    since_s: NDArray[np.float64]
    last_id: int = 0

    @classmethod
    def none(cls, last_id: int = 0) -> Tracks:
        """Return nobody; numbers go on after `last_id`."""
        empty = np.zeros(0)
        persons = Persons.in_boxes(np.zeros((0, 4), np.float32), empty.astype(np.float32))
        return cls(empty.astype(np.int64), persons, np.zeros((0, 2), np.float32), empty, empty, last_id)


@dataclass(frozen=True, eq=False)
class Followed:
    """What a frame came to.

    Attributes:
        tracks: Who is known now.
        ids: (N,) int64, of the persons in their order; -1: nobody known, and too faint to be new.
    """

    tracks: Tracks
    ids: NDArray[np.int64]


def followed(tracks: Tracks, persons: Persons, time_s: float, rules: TrackRules) -> Followed:
    """Recognise the persons of the next frame.

    Args:
        tracks: Who was known so far.
        persons: Of the frame, with as many keypoints as those of the frames before.
        time_s: Of the frame, later than those before. [s]
        rules: When persons are the same.

    Raises:
        ValueError: Arrays do not fit together.
    """
    _check(persons)
    known = _picked(tracks, time_s - tracks.seen_s <= rules.memory_s)
    rows = np.full(len(persons.bboxes), NOBODY, np.intp)  # of tracks
    likeness = _likeness(_expected(known, time_s), persons, rules.sigmas) * _trust(known)[:, None]
    is_strong = persons.scores >= rules.start_score
    for wanted in (is_strong, ~is_strong):
        free = np.setdiff1d(np.arange(len(known.ids)), rows)
        places = np.flatnonzero(wanted)
        pairs = best_pairs(likeness[np.ix_(free, places)], rules.lowest_likeness)
        rows[places[pairs[:, 1]]] = free[pairs[:, 0]]
    moved = _moved(known, persons, rows, time_s, rules.speed_s)
    is_new = is_strong & (rows == NOBODY)
    ids = np.where(rows == NOBODY, NOBODY, np.append(known.ids, NOBODY)[rows])
    ids[is_new] = tracks.last_id + 1 + np.arange(is_new.sum())
    return Followed(_joined(moved, persons, is_new, ids, time_s), ids)


def _check(persons: Persons) -> None:
    num_persons, num_keypoints = persons.keypoint_scores.shape
    shapes = persons.bboxes.shape, persons.scores.shape, persons.keypoints.shape
    if shapes != ((num_persons, 4), (num_persons,), (num_persons, num_keypoints, 2)):
        raise ValueError(
            f"bboxes, scores and keypoints must be (N, 4), (N,) and (N, K, 2) for keypoint_scores of shape "
            f"{persons.keypoint_scores.shape}, got {shapes}; pass the persons of one frame"
        )


def _expected(tracks: Tracks, time_s: float) -> Persons:
    """Return where the tracks should be."""
    moves = (tracks.speeds * (time_s - tracks.seen_s)[:, None]).astype(np.float32)
    last = tracks.persons
    return replace(last, bboxes=last.bboxes + np.tile(moves, 2), keypoints=last.keypoints + moves[:, None])


def _likeness(expected: Persons, persons: Persons, sigmas: tuple[float, ...]) -> NDArray[np.float32]:
    """Return (T, N): the mean of what boxes and keypoints say; boxes alone where keypoints say nothing."""
    by_boxes = box_similarity(expected.bboxes, persons.bboxes)
    if not len(by_boxes) or not persons.keypoints.shape[1]:
        return by_boxes
    areas = (expected.bboxes[:, 2:] - expected.bboxes[:, :2]).clip(0).prod(axis=1)
    by_keypoints = keypoint_similarity(
        expected.keypoints,
        expected.keypoint_scores,
        persons.keypoints,
        persons.keypoint_scores,
        areas,
        sigmas,
    )
    both: NDArray[np.float32] = np.where(np.isnan(by_keypoints), by_boxes, (by_boxes + by_keypoints) / 2)
    return both


def _trust(tracks: Tracks) -> NDArray[np.float32]:
    """Return (T,), 0..1: less for tracks that were not seen when others were."""
    hidden_s = tracks.seen_s.max(initial=-np.inf) - tracks.seen_s
    trust: NDArray[np.float32] = (1 - _DOUBT * (hidden_s / _DOUBTFUL_S).clip(0, 1)).astype(np.float32)
    return trust


def _moved(tracks: Tracks, persons: Persons, rows: NDArray[np.intp], time_s: float, speed_s: float) -> Tracks:
    """Return the tracks with what is new of those that were seen; `rows` (N,) says which each person is."""
    places = np.flatnonzero(rows != NOBODY)
    mine = rows[places]
    passed_s = np.maximum(time_s - tracks.seen_s[mine], 1e-6)[:, None]
    moves = _centers(persons.bboxes[places]) - _centers(tracks.persons.bboxes[mine])
    known_s = np.maximum(time_s - tracks.since_s[mine], 1e-6)[:, None]
    share = np.maximum(1 - np.exp(-passed_s / speed_s), passed_s / known_s)  # at first the mean of all
    speeds, seen_s = tracks.speeds.copy(), tracks.seen_s.copy()
    speeds[mine] += share * (moves / passed_s - speeds[mine])
    seen_s[mine] = time_s
    return replace(
        tracks, persons=_replaced(tracks.persons, mine, persons, places), speeds=speeds, seen_s=seen_s
    )


def _replaced(persons: Persons, rows: NDArray[np.intp], by: Persons, places: NDArray[np.intp]) -> Persons:
    if not len(rows):  # of no tracks nobody knows how many keypoints they have
        return persons
    arrays = {name: array.copy() for name, array in vars(persons).items()}
    for name, array in arrays.items():
        array[rows] = getattr(by, name)[places]
    return Persons(**arrays)


def _picked(tracks: Tracks, which: NDArray[np.bool_]) -> Tracks:
    persons = Persons(**{name: array[which] for name, array in vars(tracks.persons).items()})
    arrays = {name: getattr(tracks, name)[which] for name in ("ids", "speeds", "seen_s", "since_s")}
    return replace(tracks, persons=persons, **arrays)


def _joined(
    tracks: Tracks, persons: Persons, which: NDArray[np.bool_], ids: NDArray[np.int64], time_s: float
) -> Tracks:
    """Return the tracks with some of the persons as new ones."""
    fresh = {name: array[which] for name, array in vars(persons).items()}
    if len(tracks.ids):
        fresh = {
            name: np.concatenate([getattr(tracks.persons, name), array]) for name, array in fresh.items()
        }
    times = np.full(which.sum(), time_s)
    return Tracks(
        ids=np.append(tracks.ids, ids[which]),
        persons=Persons(**fresh),
        speeds=np.concatenate([tracks.speeds, np.zeros((len(times), 2), np.float32)]),
        seen_s=np.append(tracks.seen_s, times),
        since_s=np.append(tracks.since_s, times),
        last_id=tracks.last_id + len(times),
    )


def _centers(bboxes: NDArray[np.float32]) -> NDArray[np.float32]:
    return (bboxes[:, :2] + bboxes[:, 2:]) / 2
