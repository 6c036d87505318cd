"""What became of each frame of a video."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sapiens_client.errors import SapiensError
from sapiens_client.tasks.analyze import Analysis

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """What became of one frame: `frame.results.people`, `frame.results.seg` and so on.

    Attributes:
        index: Its place among all frames of the video, from 0; with `every=5` they are 0, 5, 10, ...
        time_s: When it is shown, seconds from the beginning of the video.
        duration_s: For how long. [s]
        image: (H, W, 3) uint8, RGB, upright, read-only: what was asked about.
        answer: Results of the tasks, or the error that stands in their place.
        track_ids: (N,) int64: who the persons of `people` are, else those of `detect`, in the order of that
            result; the same number is the same person, -1 is nobody known. None: none of both was asked for,
            it failed, or nobody wanted tracks.
    """

    index: int
    time_s: float
    duration_s: float
    image: NDArray[np.uint8] = field(repr=False)
    answer: Analysis | SapiensError = field(repr=False)
    track_ids: NDArray[np.int64] | None = None

    @property
    def error(self) -> SapiensError | None:
        """What went wrong with the whole frame; None: nothing, see `results.failed` for single tasks."""
        return self.answer if isinstance(self.answer, SapiensError) else None

    @property
    def results(self) -> Analysis:
        """The results of the tasks; raises what went wrong with all of them."""
        if isinstance(self.answer, SapiensError):
            raise self.answer
        return self.answer
