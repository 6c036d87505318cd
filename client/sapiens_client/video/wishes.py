"""What may be wished of a video."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypedDict

from sapiens_client.bulk.items import DEFAULT_CONCURRENCY, Limits, OnError
from sapiens_client.connection.options import CallOptions
from sapiens_client.errors import InvalidInputError
from sapiens_client.tasks.analyze import checked_tasks
from sapiens_client.tasks.call import check_model_name
from sapiens_client.tasks.table import AnalysisTask
from sapiens_core.motion.one_euro import OneEuro


class VideoOptions(TypedDict, total=False):
    """Options of `SapiensClient.video`, which describes them."""

    every: int
    start: int
    det_frequency: int
    tracks: bool
    smooth: bool | OneEuro
    smooth_maps: float
    concurrency: int
    on_error: OnError
    progress: bool
    model: str | None
    timeout_s: float | None
    headers: Mapping[str, str] | None


@dataclass(frozen=True)
class Wishes:
    """What is wished, as `SapiensClient.video` describes it.

    Attributes:
        tasks: What is asked about every frame.
        every: Every n-th frame.
        start: Index of the first.
        det_frequency: Every n-th of these has its persons looked for.
        tracks: Whether to tell who is who.
        smooth: How keypoints and boxes are smoothed; None: not at all.
        smooth_maps: How much of a map stays where nothing moves, 0..1.
        limits: How many frames are asked about at a time, and what an error does.
        progress: Whether to draw a bar.
        model: Ensemble that is asked instead of the single task's own; None: that of each task.
        call: Options of every call.
    """

    tasks: tuple[AnalysisTask, ...]
    every: int
    start: int
    det_frequency: int
    tracks: bool
    smooth: OneEuro | None
    smooth_maps: float
    limits: Limits
    progress: bool
    model: str | None
    call: CallOptions

    @property
    def finds_persons_apart(self) -> bool:
        """Whether persons are looked for in some frames, and only their keypoints in the others."""
        return self.det_frequency > 1 and AnalysisTask.PEOPLE in self.tasks

    @property
    def looks_for_cuts(self) -> bool:
        """Whether it matters where another shot begins."""
        follows = self.tracks and {*self.tasks} & {AnalysisTask.PEOPLE, AnalysisTask.DETECT}
        return bool(follows) or self.finds_persons_apart or self.smooth is not None or self.smooth_maps > 0


def wishes(tasks: Iterable[str], options: VideoOptions) -> Wishes:
    """Check what is wished.

    Raises:
        InvalidInputError: There is no such task or option, or it cannot be used.
    """
    for name in options:
        if name not in VideoOptions.__annotations__:
            close = difflib.get_close_matches(name, VideoOptions.__annotations__, n=1)
            hint = f"; perhaps {close[0]!r}" if close else ""
            listed = ", ".join(VideoOptions.__annotations__)
            raise InvalidInputError(f"options of video must be some of {listed}, got {name!r}{hint}")
    smooth = options.get("smooth", False)
    if not isinstance(smooth, bool | OneEuro):
        raise InvalidInputError(f"smooth must be True, False or a OneEuro, got {smooth!r:.80}")
    smooth_maps = options.get("smooth_maps", 0.0)
    if not isinstance(smooth_maps, int | float) or not 0 <= smooth_maps < 1:
        raise InvalidInputError(f"smooth_maps must be from 0 and below 1, got {smooth_maps!r:.80}")
    chosen, model = checked_tasks(tasks), options.get("model")
    if model is not None and (len(chosen) > 1 or chosen[0] == AnalysisTask.PEOPLE):
        raise InvalidInputError(
            f"model must be None for {', '.join(chosen)}, got {model!r:.80}; ask for one task"
        )
    if model is not None:
        check_model_name(model)
    concurrency = options.get("concurrency", DEFAULT_CONCURRENCY)
    return Wishes(
        tasks=chosen,
        every=_whole("every", options.get("every", 1), 1),
        start=_whole("start", options.get("start", 0), 0),
        det_frequency=_whole("det_frequency", options.get("det_frequency", 1), 1),
        tracks=bool(options.get("tracks", True)),
        smooth=(OneEuro() if smooth else None) if isinstance(smooth, bool) else smooth,
        smooth_maps=float(smooth_maps),
        limits=Limits.checked(concurrency, ordered=True, on_error=options.get("on_error", "raise")),
        progress=bool(options.get("progress")),
        model=model,
        # Frames are RGB, whatever the client's arrays are.
        call=CallOptions(
            timeout_s=options.get("timeout_s"), headers=options.get("headers"), channel_order="rgb"
        ),
    )


def _whole(name: str, value: object, lowest: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
        raise InvalidInputError(f"{name} must be a whole number from {lowest}, got {value!r:.80}")
    return value
