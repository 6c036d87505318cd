"""Videos: the method `video` of both clients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Unpack

from sapiens_client.tasks.table import AnalysisTask
from sapiens_client.video.run import AsyncVideo, Video
from sapiens_client.video.wishes import VideoOptions, wishes

if TYPE_CHECKING:
    from sapiens_client.tasks.table import TaskName
    from sapiens_client.video.sources import VideoSource

_EVERYBODY = (AnalysisTask.PEOPLE,)


class WatchesVideos:
    """A client whose methods can be asked about videos."""

    def video(
        self,
        source: VideoSource,
        tasks: TaskName | Iterable[TaskName] = _EVERYBODY,
        **options: Unpack[VideoOptions],
    ) -> Video:
        """Ask about the frames of a video, in their order and several at a time.

        Frames are decoded upright and one by one, by PyAV (extra `video`); how many are in memory follows
        from `concurrency`. They travel by themselves: batches form on the server. What is damaged in a file
        is left out, and a file that breaks off ends there: `video.problem` tells.

        Args:
            source: A file; the address of a stream, such as "rtsp://camera/live"; or the number of a camera.
            tasks: Names of methods, as `analyze` takes them. "people" is everybody, "pose" the whole frame
                as one person.
            options: `every=1`: take every n-th frame, `start=0`: from this one on.
                `det_frequency=1`: look for the persons of "people" in every n-th of these and where a
                shot begins; between them boxes move straight, and only keypoints are asked for.
                `tracks=True`: tell who is who, in `frame.track_ids`; a cut makes everybody new.
                `smooth=False`: True or a `OneEuro` smooths keypoints and boxes of each person over time.
                `smooth_maps=0.0`: how much of depth, normals and mattes stays where the picture rests; what
                moves is as new, and so is everything after a cut. `concurrency=8`: how many frames to ask
                about at a time. `on_error="raise"`: the first error of a frame ends everything; "yield": it
                stands in `frame.error`. `progress=False`: whether to draw a bar. `model=None`: another
                ensemble for a single task. `timeout_s` and `headers`: of every call, see `CallOptions`.

        Returns:
            An iterator of frames; `with` or `close()` ends it early. `info` is what the video says of itself.

        Raises:
            InvalidInputError: There is no such task or option, PyAV is not installed, or lacks the protocol.
            ImageReadError: The video is missing (ImageNotFoundError), is none, or does not answer.

        Example:
            >>> for frame in client.video("clip.mp4", tasks=("people", "seg"), smooth=True):
            ...     print(frame.time_s, frame.track_ids, frame.results.people.keypoints)
        """
        return Video(self, source, wishes(tasks, options))


class WatchesVideosAsync:
    """A client whose coroutine methods can be asked about videos."""

    def video(
        self,
        source: VideoSource,
        tasks: TaskName | Iterable[TaskName] = _EVERYBODY,
        **options: Unpack[VideoOptions],
    ) -> AsyncVideo:
        """Ask about the frames of a video, in their order and several at a time.

        Frames are decoded upright and one by one, by PyAV (extra `video`); how many are in memory follows
        from `concurrency`. They travel by themselves: batches form on the server. What is damaged in a file
        is left out, and a file that breaks off ends there: `video.problem` tells.

        Args:
            source: A file; the address of a stream, such as "rtsp://camera/live"; or the number of a camera.
            tasks: Names of methods, as `analyze` takes them. "people" is everybody, "pose" the whole frame
                as one person.
            options: `every=1`: take every n-th frame, `start=0`: from this one on.
                `det_frequency=1`: look for the persons of "people" in every n-th of these and where a
                shot begins; between them boxes move straight, and only keypoints are asked for.
                `tracks=True`: tell who is who, in `frame.track_ids`; a cut makes everybody new.
                `smooth=False`: True or a `OneEuro` smooths keypoints and boxes of each person over time.
                `smooth_maps=0.0`: how much of depth, normals and mattes stays where the picture rests; what
                moves is as new, and so is everything after a cut. `concurrency=8`: how many frames to ask
                about at a time. `on_error="raise"`: the first error of a frame ends everything; "yield": it
                stands in `frame.error`. `progress=False`: whether to draw a bar. `model=None`: another
                ensemble for a single task. `timeout_s` and `headers`: of every call, see `CallOptions`.

        Returns:
            An asynchronous iterator of frames; `async with` or `aclose()` ends it early. `await video.open()`
            is what the video says of itself.

        Raises:
            InvalidInputError: There is no such task or option, PyAV is not installed, or lacks the protocol.
            ImageReadError: When awaited: the video is missing (ImageNotFoundError), is none, or does not
                answer.

        Example:
            >>> async for frame in client.video("clip.mp4", tasks=("people", "seg"), smooth=True):
            ...     print(frame.time_s, frame.track_ids, frame.results.people.keypoints)
        """
        return AsyncVideo(self, source, wishes(tasks, options))
