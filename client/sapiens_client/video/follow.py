"""Frames after one another: who is who, and what is noise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sapiens_client.errors import SapiensError
from sapiens_client.results.base import full
from sapiens_client.results.dense import NormalResult
from sapiens_client.results.depth import DepthResult
from sapiens_client.results.detections import DetectionResult
from sapiens_client.results.matting import MattingResult
from sapiens_client.results.people import PoseResult
from sapiens_client.tasks.analyze import Analysis
from sapiens_client.tasks.table import AnalysisTask
from sapiens_client.video.frames import VideoFrame
from sapiens_core.motion.one_euro import Smoothed, smoothed
from sapiens_core.motion.tracks import NOBODY, Persons, TrackRules, Tracks, followed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from sapiens_client.results.base import Result
    from sapiens_client.video.shots import Shot
    from sapiens_client.video.wishes import Wishes

_FOLLOWED = (AnalysisTask.PEOPLE, AnalysisTask.DETECT)
_MEMORY_S = TrackRules().memory_s


class Follower:
    """What is known of the frames so far; a cut makes it forget all but the numbers that were given."""

    def __init__(self, wished: Wishes) -> None:
        self._wished = wished
        self._tracks = Tracks.none()
        self._points: dict[tuple[str, str, int], Smoothed] = {}
        self._maps: dict[tuple[str, str], NDArray[np.float32]] = {}
        self._thumbnail: NDArray[np.uint8] | None = None

    def next(self, shot: Shot, answer: Analysis | SapiensError) -> VideoFrame:
        """Take the answer about the next frame; return what callers get."""
        wished, frame = self._wished, shot.frame
        if shot.is_first:
            self._tracks = Tracks.none(self._tracks.last_id)
            self._points, self._maps = {}, {}
        ids = None
        if isinstance(answer, Analysis):
            answers = dict(answer.answers)
            ids = self._ids(shot, answers)
            if wished.smooth is not None:
                answers |= self._steady_persons(answers, ids, frame.time_s)
            if wished.smooth_maps:
                answers |= self._steady_maps(shot, answers)
            answer = Analysis(answers)
        self._thumbnail = shot.thumbnail
        shown_ids = ids if wished.tracks else None
        return VideoFrame(frame.index, frame.time_s, frame.duration_s, frame.image, answer, shown_ids)

    def _ids(self, shot: Shot, answers: Mapping[str, Result | SapiensError]) -> NDArray[np.int64] | None:
        if not self._wished.tracks and self._wished.smooth is None:
            return None
        result = next((answers[task] for task in _FOLLOWED if task in answers), None)
        if not isinstance(result, PoseResult | DetectionResult):
            return None
        if shot.track_ids is not None:
            return shot.track_ids
        found = followed(self._tracks, _persons(result), shot.frame.time_s, _rules(result))
        self._tracks = found.tracks
        return found.ids

    def _steady_persons(
        self, answers: Mapping[str, Result | SapiensError], ids: NDArray[np.int64] | None, time_s: float
    ) -> dict[str, Result]:
        steady: dict[str, Result] = {}
        followed_task = next((task.value for task in _FOLLOWED if task in answers), None)
        for task, result in answers.items():
            if not isinstance(result, PoseResult | DetectionResult):
                continue
            # One person per image is always the same one; of a second list of boxes nobody knows who is who.
            whose = ids if task == followed_task else np.arange(1) if task == AnalysisTask.POSE else None
            if whose is None or len(whose) != len(result.bboxes):
                continue
            bboxes = self._steady(task, "bboxes", result.bboxes, result.bboxes, whose, time_s)
            if isinstance(result, PoseResult):
                points = self._steady(task, "keypoints", result.keypoints, result.bboxes, whose, time_s)
                steady[task] = replace(result, bboxes=bboxes, keypoints=points)
            else:
                steady[task] = replace(result, bboxes=bboxes)
        self._points = {key: state for key, state in self._points.items() if _is_recent(state, time_s)}
        return steady

    def _steady(
        self,
        task: str,
        name: str,
        values: NDArray[np.float32],
        bboxes: NDArray[np.float32],
        ids: NDArray[np.int64],
        time_s: float,
    ) -> NDArray[np.float32]:
        """Smooth (N, ...) values of persons, each by its own past; speeds count in heights of the boxes."""
        how = self._wished.smooth
        steady = values.astype(np.float32, copy=True)
        heights = np.maximum(bboxes[:, 3] - bboxes[:, 1], 1).tolist()
        for row, person in enumerate(ids.tolist()):
            if person == NOBODY or how is None:
                continue
            key = task, name, person
            state = smoothed(self._points.get(key), values[row], time_s, how, heights[row])
            self._points[key] = state
            steady[row] = state.values
        return steady

    def _steady_maps(self, shot: Shot, answers: Mapping[str, Result | SapiensError]) -> dict[str, Result]:
        steady: dict[str, Result] = {}
        for task, result in answers.items():
            if isinstance(result, DepthResult):
                depth = self._steady_map((task, "depth"), full(result.depth), shot)
                steady[task] = replace(result, depth=depth)
            elif isinstance(result, NormalResult):
                steady[task] = replace(
                    result, normals=_unit(self._steady_map((task, "normals"), full(result.normals), shot))
                )
            elif isinstance(result, MattingResult):
                alpha = self._steady_map((task, "alpha"), full(result.alpha), shot)
                foreground = self._steady_map((task, "foreground"), full(result.foreground), shot)
                steady[task] = replace(result, alpha=alpha, foreground=foreground)
        return steady

    def _steady_map(
        self, key: tuple[str, str], values: NDArray[np.float32], shot: Shot
    ) -> NDArray[np.float32]:
        from sapiens_core.motion.maps import blended, change

        before = self._maps.get(key)
        last, now = self._thumbnail, shot.thumbnail
        if before is not None and before.shape == values.shape and last is not None and now is not None:
            height, width = values.shape[:2]
            moved = change(last, now, (height, width))
            values = blended(before, values, moved, self._wished.smooth_maps)
        self._maps[key] = values
        return values


def _is_recent(state: Smoothed, time_s: float) -> bool:
    return time_s - state.time_s <= _MEMORY_S


def _persons(result: PoseResult | DetectionResult) -> Persons:
    if isinstance(result, DetectionResult):
        return Persons.in_boxes(result.bboxes, result.scores)
    scores = np.ones(len(result), np.float32) if result.bbox_scores is None else result.bbox_scores
    return Persons(result.bboxes, scores, result.keypoints, result.scores)


def _rules(result: PoseResult | DetectionResult) -> TrackRules:
    return TrackRules(sigmas=result.keypoint_set.sigmas) if isinstance(result, PoseResult) else TrackRules()


def _unit(normals: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(normals, axis=2, keepdims=True)
    return np.divide(normals, lengths, out=normals.astype(np.float32, copy=True), where=lengths > 0)
