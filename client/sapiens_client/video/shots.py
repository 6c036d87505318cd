"""Frames on their way: where another shot begins, and which persons are in them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from sapiens_client.errors import SapiensError
from sapiens_client.results.detections import DetectionResult
from sapiens_core.motion.tracks import NOBODY, Persons, TrackRules, Tracks, followed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_client.video.decoding import Frame
    from sapiens_client.video.wishes import Wishes


@dataclass(frozen=True, eq=False)
class Shot:
    """A frame on its way.

    Attributes:
        frame: The frame.
        thumbnail: See `sapiens_core.motion.maps`; None: nobody looks back.
        is_first: Whether a shot begins with it.
        is_key: Whether its persons are looked for, where they are not in all frames.
        persons: Where its persons are, or why nobody knows; None: nobody looked for them apart.
        track_ids: (N,) int64, who they are.
    """

    frame: Frame
    thumbnail: NDArray[np.uint8] | None = field(default=None, repr=False)
    is_first: bool = False
    is_key: bool = False
    persons: DetectionResult | SapiensError | None = None
    track_ids: NDArray[np.int64] | None = None


def shots(frames: Iterable[Frame], wished: Wishes) -> Iterator[Shot]:
    """Tell where shots begin, and which frames are keys: the first of a shot, and some after it."""
    if not wished.looks_for_cuts:
        yield from map(Shot, frames)
        return
    from sapiens_core.motion.maps import is_cut, thumbnail

    before, since_key = None, 0
    for frame in frames:
        small = thumbnail(frame.image)
        is_first = before is None or is_cut(before, small)
        since_key = 0 if is_first else since_key + 1
        yield Shot(frame, small, is_first, since_key % wished.det_frequency == 0)
        before = small


class KeyFrames:
    """Puts boxes into the frames between those whose persons were looked for.

    A person who is in the frames on both sides moves straight from one box to the other; one who is only in
    the frame before stays. Whoever is only in the frame after comes with that.
    """

    def __init__(self) -> None:
        self._rules = TrackRules()
        self._tracks = Tracks.none()
        self._key: Shot | None = None
        self._waiting: list[Shot] = []

    def ready(self, shot: Shot) -> list[Shot]:
        """Take the next frame; return those whose persons are known with it, in order."""
        if not shot.is_key:
            self._waiting.append(shot)
            return []
        if isinstance(shot.persons, DetectionResult):
            shot = self._recognised(shot, shot.persons)
        between = self._between(None if shot.is_first else shot)
        self._key = shot
        return [*between, shot]

    def rest(self) -> list[Shot]:
        """Return those that still wait: there are no further frames."""
        return self._between(None)

    def _recognised(self, shot: Shot, persons: DetectionResult) -> Shot:
        before = Tracks.none(self._tracks.last_id) if shot.is_first else self._tracks
        found = Persons.in_boxes(persons.bboxes, persons.scores)
        result = followed(before, found, shot.frame.time_s, self._rules)
        self._tracks = result.tracks
        return replace(shot, track_ids=result.ids)

    def _between(self, after: Shot | None) -> list[Shot]:
        waiting, self._waiting = self._waiting, []
        before = self._key
        return [] if before is None else [_moved(shot, before, after) for shot in waiting]


def _moved(shot: Shot, before: Shot, after: Shot | None) -> Shot:
    """Return the frame with the persons of the key before, where they are between both."""
    persons, ids = before.persons, before.track_ids
    if not isinstance(persons, DetectionResult) or ids is None:
        return replace(shot, persons=persons)
    bboxes = persons.bboxes.astype(np.float32, copy=True)
    if after is not None and isinstance(after.persons, DetectionResult) and after.track_ids is not None:
        begin_s, end_s = before.frame.time_s, after.frame.time_s
        share = (shot.frame.time_s - begin_s) / (end_s - begin_s) if end_s > begin_s else 0.0
        _, here, there = np.intersect1d(ids, after.track_ids, return_indices=True)
        is_known = ids[here] != NOBODY
        here, there = here[is_known], there[is_known]
        bboxes[here] += np.float32(share) * (after.persons.bboxes[there] - bboxes[here])
    return replace(shot, persons=replace(persons, bboxes=bboxes), track_ids=ids)
