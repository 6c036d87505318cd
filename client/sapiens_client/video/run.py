"""Videos asked about: decoded, asked about several frames at a time, and put in their order again.

Frames are decoded by whoever iterates, or on a thread for event loops, one when a frame is wanted and more
only while none is ready, see `sapiens_client.bulk.run`: at most twice the concurrency is under way or kept,
twice that and `det_frequency` more where persons are looked for apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator, Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from sapiens_client.bulk.progress import shown, shown_async
from sapiens_client.bulk.run import mapped, mapped_async
from sapiens_client.errors import SapiensError
from sapiens_client.tasks.analyze import OF_ONE_TASK, Analysis
from sapiens_client.tasks.table import AnalysisTask
from sapiens_client.video.decoding import Frame, Reader, VideoInfo
from sapiens_client.video.follow import Follower
from sapiens_client.video.frames import VideoFrame
from sapiens_client.video.live import interruptible, left_behind, newest
from sapiens_client.video.shots import KeyFrames, Shot, shots
from sapiens_client.video.wishes import Wishes

if TYPE_CHECKING:
    from sapiens_client.video.sources import VideoSource


@dataclass(frozen=True)
class _Question:
    """A method of a client, and what it is asked about."""

    method: str
    arguments: tuple[Any, ...]
    options: Mapping[str, str] = field(default_factory=dict)


_Questions = Generator[_Question, Any, "_Answered"]


@dataclass(frozen=True, eq=False)
class _Answered:
    shot: Shot
    answer: Analysis | SapiensError


class Video(Iterator[VideoFrame]):
    """The frames of a video in their order, each asked about; made by `SapiensClient.video`.

    Leaving a `with` block, or `close`, stops everything without waiting and closes the file.

    Attributes:
        info: What the video says of itself.
    """

    def __init__(self, client: object, source: VideoSource, wished: Wishes) -> None:
        self._reader = left_behind(partial(Reader, source)).result()
        self.info: VideoInfo = self._reader.info
        frames = _answered(client, self._reader, wished)
        self._frames = shown(frames, "video", _num_wanted(self.info, wished)) if wished.progress else frames

    @property
    def problem(self) -> str | None:
        """What is wrong with the video as far as it was read: damaged frames, an end before its time."""
        return self._reader.problem

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> VideoFrame:
        return next(self._frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop, and close the file or leave the stream."""
        self._frames.close()
        self._reader.close()


class AsyncVideo(AsyncIterator[VideoFrame]):
    """A `Video` to await; it is opened when the first frame is."""

    def __init__(self, client: object, source: VideoSource, wished: Wishes) -> None:
        self._client, self._source, self._wished = client, source, wished
        self._reader: Reader | None = None
        self._frames: AsyncGenerator[VideoFrame, None] | None = None

    async def open(self) -> VideoInfo:
        """Open the video; return what it says of itself."""
        if self._reader is None:
            self._reader = await asyncio.wrap_future(left_behind(partial(Reader, self._source)))
            frames = _answered_async(self._client, self._reader, self._wished)
            total = _num_wanted(self._reader.info, self._wished)
            self._frames = shown_async(frames, "video", total) if self._wished.progress else frames
        return self._reader.info

    @property
    def problem(self) -> str | None:
        """What is wrong with the video as far as it was read: damaged frames, an end before its time."""
        return self._reader.problem if self._reader else None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> VideoFrame:
        await self.open()
        if self._frames is None:
            raise StopAsyncIteration
        return await anext(self._frames)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop, and close the file or leave the stream."""
        if self._frames is not None:
            await self._frames.aclose()
        if self._reader is not None:
            await asyncio.to_thread(self._reader.close)


def _num_wanted(info: VideoInfo, wished: Wishes) -> int | None:
    return None if info.num_frames is None else -(-max(0, info.num_frames - wished.start) // wished.every)


def _frames(reader: Reader, wished: Wishes) -> Iterator[Frame]:
    frames = reader.frames(start=wished.start, every=wished.every)
    if reader.info.is_live:
        return newest(frames)
    return interruptible(frames) if reader.is_remote else frames


def _answered(client: object, reader: Reader, wished: Wishes) -> Generator[VideoFrame, None, None]:
    follower, concurrency = Follower(wished), wished.limits.concurrency
    taken: Iterable[Shot] = shots(_frames(reader, wished), wished)
    if wished.finds_persons_apart:
        taken = _in_boxes(mapped(partial(_asked, client, wished, _detection), taken, concurrency=concurrency))
    items = mapped(partial(_asked, client, wished, _results), taken, concurrency=concurrency)
    with closing(items):
        for item in items:
            yield follower.next(item.result.shot, item.result.answer)


async def _answered_async(client: object, reader: Reader, wished: Wishes) -> AsyncGenerator[VideoFrame, None]:
    follower, concurrency = Follower(wished), wished.limits.concurrency
    taken: Any = _on_a_thread(shots(_frames(reader, wished), wished))
    if wished.finds_persons_apart:
        detect = partial(_asked_async, client, wished, _detection)
        taken = _in_boxes_async(mapped_async(detect, taken, concurrency=concurrency))
    items = mapped_async(partial(_asked_async, client, wished, _results), taken, concurrency=concurrency)
    async with aclosing(items):
        async for item in items:
            yield follower.next(item.result.shot, item.result.answer)


async def _on_a_thread(source: Iterator[Shot]) -> AsyncGenerator[Shot, None]:
    while (shot := await asyncio.wrap_future(left_behind(partial(next, source, None)))) is not None:
        yield shot


def _in_boxes(items: Generator[Any, None, None]) -> Generator[Shot, None, None]:
    keys = KeyFrames()
    with closing(items):
        for item in items:
            yield from keys.ready(item.result.shot)
    yield from keys.rest()


async def _in_boxes_async(items: AsyncGenerator[Any, None]) -> AsyncGenerator[Shot, None]:
    keys = KeyFrames()
    async with aclosing(items):
        async for item in items:
            for shot in keys.ready(item.result.shot):
                yield shot
    for shot in keys.rest():
        yield shot


def _detection(shot: Shot, _: Wishes) -> _Questions:
    """Ask where the persons of a key frame are."""
    if shot.is_key:
        persons = yield _Question("detect", (shot.frame.image,))
        shot = replace(shot, persons=persons)
    return _Answered(shot, Analysis({}))


def _results(shot: Shot, wished: Wishes) -> _Questions:
    """Ask for all tasks, for the keypoints of persons whose boxes are known by these."""
    if wished.model is not None:
        (task,) = wished.tasks
        answer = yield _Question(task, (shot.frame.image,), {"model": wished.model})
        return _Answered(shot, Analysis({task.value: answer}))
    answers: dict[str, Any] = {}
    tasks = wished.tasks
    if wished.finds_persons_apart:
        tasks = tuple(task for task in tasks if task != AnalysisTask.PEOPLE)
        answers[AnalysisTask.PEOPLE.value] = shot.persons
        if not isinstance(shot.persons, SapiensError):
            answers[AnalysisTask.PEOPLE.value] = yield _Question("pose", (shot.frame.image, shot.persons))
    if tasks:
        rest = yield _Question("analyze", (shot.frame.image, tasks))
        if isinstance(rest, SapiensError):
            return _Answered(shot, rest)
        answers |= rest.answers
    return _Answered(shot, Analysis({task.value: answers[task.value] for task in wished.tasks}))


def _asked(client: object, wished: Wishes, about: Any, shot: Shot) -> _Answered:
    questions: _Questions = about(shot, wished)
    answer: Any = None
    try:
        while True:
            question = questions.send(answer)
            try:
                answer = getattr(client, question.method)(
                    *question.arguments, **question.options, **wished.call
                )
            except SapiensError as error:
                answer = _kept(error, question, wished)
    except StopIteration as end:
        answered: _Answered = end.value
        return answered


async def _asked_async(client: object, wished: Wishes, about: Any, shot: Shot) -> _Answered:
    questions: _Questions = about(shot, wished)
    answer: Any = None
    while True:
        try:
            question = questions.send(answer)
        except StopIteration as end:
            answered: _Answered = end.value
            return answered
        try:
            answer = await getattr(client, question.method)(
                *question.arguments, **question.options, **wished.call
            )
        except SapiensError as error:
            answer = _kept(error, question, wished)


def _kept(error: SapiensError, question: _Question, wished: Wishes) -> SapiensError:
    """Return an error for the frame or the task that it belongs to, unless callers want it raised."""
    is_of_one_task = question.method != "analyze" and isinstance(error, OF_ONE_TASK)
    if wished.limits.on_error == "raise" and not is_of_one_task:
        raise error
    return error
