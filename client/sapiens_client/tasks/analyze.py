"""Several tasks about one image: asked together, answered or failed one by one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from sapiens_client.errors import InferenceError, InvalidInputError, ModelNotServedError, SapiensError
from sapiens_client.results.base import Result
from sapiens_client.results.dense import FeatureResult, NormalResult, SegmentationResult
from sapiens_client.results.depth import DepthResult
from sapiens_client.results.detections import DetectionResult
from sapiens_client.results.matting import AlbedoResult, MattingResult
from sapiens_client.results.people import PoseResult
from sapiens_client.results.pointmap import PointmapResult
from sapiens_client.steps import Flow, Together
from sapiens_client.tasks.call import Call
from sapiens_client.tasks.dense import dense_results, lean_way
from sapiens_client.tasks.table import CLIENT_TASKS, AnalysisTask
from sapiens_core.contract.tensors import IMAGE_HW
from sapiens_core.recipes.combined import HUMAN, HUMAN_TASKS, HUMAN_TASKS_OF
from sapiens_core.recipes.lookup import first_recipe
from sapiens_core.recipes.recipe import Task

if TYPE_CHECKING:
    from sapiens_client.servers.session import Session
    from sapiens_client.tasks.call import Upload

R = TypeVar("R", bound=Result)

# The families' ensembles answer different ones; which, the one that is served tells.
_IN_SOME_HUMAN = {task.value for tasks in HUMAN_TASKS_OF.values() for task in tasks}


# Of no shape that networks or detectors refuse.
SMALL_IMAGE = np.full((64, 48, 3), 127, np.uint8)
# What may befall one task alone, even if it was the only one.
OF_ONE_TASK = (ModelNotServedError, InferenceError)


_OF_SURFACES = (DepthResult, NormalResult, PointmapResult, AlbedoResult)


class _NotAskedError(InvalidInputError, KeyError):
    """A task was not asked for; mappings need it to be a KeyError."""

    __str__ = Exception.__str__


@dataclass(frozen=True, eq=False)
class Analysis(Mapping[str, Result]):
    """What each task answered: `analysis.depth`, or `analysis["depth"]`, is its result, or raises its error.

    As a mapping it holds results by the names of their tasks, in the order asked, without those that failed.

    Attributes:
        answers: Result or error of every task.
    """

    answers: Mapping[str, Result | SapiensError]

    def __getitem__(self, task: str) -> Result:
        """Return the result of a task.

        Raises:
            SapiensError: What went wrong with it; it was not asked for.
        """
        answer = self.answers.get(task)
        if isinstance(answer, SapiensError):
            raise answer
        if answer is None:
            raise _NotAskedError(f"{task!r} must be a task that was asked for, got {list(self.answers)}")
        return answer

    def __contains__(self, task: object) -> bool:
        return task in self.answers and task not in self.failed

    def __iter__(self) -> Iterator[str]:
        return (task for task in self.answers if task in self)

    def __len__(self) -> int:
        return len(self.answers) - len(self.failed)

    @property
    def failed(self) -> dict[str, SapiensError]:
        """The errors of the tasks that failed; empty when all went well."""
        return {task: answer for task, answer in self.answers.items() if isinstance(answer, SapiensError)}

    @property
    def depth(self) -> DepthResult:
        """Result of `depth`."""
        return self._result(AnalysisTask.DEPTH, DepthResult)

    @property
    def normal(self) -> NormalResult:
        """Result of `normal`."""
        return self._result(AnalysisTask.NORMAL, NormalResult)

    @property
    def seg(self) -> SegmentationResult:
        """Result of `seg`."""
        return self._result(AnalysisTask.SEG, SegmentationResult)

    @property
    def pose(self) -> PoseResult:
        """Result of `pose`, the whole image taken as one person."""
        return self._result(AnalysisTask.POSE, PoseResult)

    @property
    def features(self) -> FeatureResult:
        """Result of `features`."""
        return self._result(AnalysisTask.FEATURES, FeatureResult)

    @property
    def pointmap(self) -> PointmapResult:
        """Result of `pointmap`."""
        return self._result(AnalysisTask.POINTMAP, PointmapResult)

    @property
    def matting(self) -> MattingResult:
        """Result of `matting`."""
        return self._result(AnalysisTask.MATTING, MattingResult)

    @property
    def albedo(self) -> AlbedoResult:
        """Result of `albedo`."""
        return self._result(AnalysisTask.ALBEDO, AlbedoResult)

    @property
    def detect(self) -> DetectionResult:
        """Result of `detect`."""
        return self._result(AnalysisTask.DETECT, DetectionResult)

    @property
    def people(self) -> PoseResult:
        """Result of `people`."""
        return self._result(AnalysisTask.PEOPLE, PoseResult)

    def _result(self, task: AnalysisTask, kind: type[R]) -> R:
        result = self[task.value]
        if not isinstance(result, kind):
            raise InvalidInputError(f"{task.value!r} must be a {kind.__name__}, got {type(result).__name__}")
        return result


def checked_tasks(tasks: Iterable[str]) -> tuple[AnalysisTask, ...]:
    """Return the tasks, each once.

    Raises:
        InvalidInputError: There is none, or one that does not exist.
    """
    names = tuple(tasks) if isinstance(tasks, Iterable) and not isinstance(tasks, str) else (tasks,)
    unknown = [name for name in names if not isinstance(name, str) or name not in CLIENT_TASKS]
    if unknown or not names:
        close = difflib.get_close_matches(str(*unknown[:1]), map(str, CLIENT_TASKS), n=1)
        hint = f"; perhaps {close[0]!r}" if close else ""
        raise InvalidInputError(
            f"tasks must be some of {[*map(str, CLIENT_TASKS)]}, got {unknown or names}{hint}"
        )
    return tuple(dict.fromkeys(map(AnalysisTask, names)))


def analyze(session: Session, upload: Upload, tasks: tuple[AnalysisTask, ...] | None) -> Flow[Analysis]:
    """Ask for all tasks at the same time, for those that one ensemble answers together in one request.

    Args:
        session: The server.
        upload: The image.
        tasks: What to ask for. None: what `human` answers in the family that is served.

    Raises:
        SapiensError: No task was answered, all for the same reason: no server, a wrong token, no image. It is
            raised as soon as the first question meets it.
    """
    if tasks is None:
        tasks = yield from _usual_tasks(session, upload)
    groups = yield from _groups(session, upload, tasks)
    answers: dict[str, Result | SapiensError] = {}
    for some in (yield Together([_answers(session, upload, group) for group in groups])):
        answers.update(some)
    analysis = Analysis(_with_foreground({task.value: answers[task] for task in tasks}))
    kinds = {type(error): error for error in analysis.failed.values()}
    if not analysis and len(kinds) == 1 and not kinds.keys() & {*OF_ONE_TASK}:
        raise kinds.popitem()[1]
    return analysis


def warmed_up(call: Call, tasks: tuple[str, ...]) -> Flow[None]:
    """Ask for some tasks, or for all that are served, and let the answers go.

    Args:
        call: About which image.
        tasks: What to ask for; none: all.

    Raises:
        SapiensError: A task has no answer.
    """
    chosen = checked_tasks(tasks or AnalysisTask)
    analysis = yield from analyze(call.session, call.upload, chosen)
    for error in analysis.failed.values():
        if tasks or not analysis or not isinstance(error, ModelNotServedError):
            raise error


def _with_foreground(answers: Mapping[str, Result | SapiensError]) -> dict[str, Result | SapiensError]:
    """Tell the results of surfaces where the person is, if the classes are among the answers."""
    seg = answers.get(AnalysisTask.SEG)
    if not isinstance(seg, SegmentationResult):
        return dict(answers)
    foreground = seg.foreground
    return {
        task: replace(answer, foreground=foreground) if isinstance(answer, _OF_SURFACES) else answer
        for task, answer in answers.items()
    }


def _usual_tasks(session: Session, upload: Upload) -> Flow[tuple[AnalysisTask, ...]]:
    """Return what `human` answers; without it, what it would in the first family that is served."""
    returned = yield from _outputs(session, upload, HUMAN)
    for tasks in HUMAN_TASKS_OF.values():
        own = tasks[0]  # the one that other families lack
        if _results(own) <= returned or (not returned and (yield from _outputs(session, upload, own))):
            return tuple(map(AnalysisTask, tasks))
    return tuple(map(AnalysisTask, HUMAN_TASKS))


def _groups(
    session: Session, upload: Upload, tasks: tuple[AnalysisTask, ...]
) -> Flow[list[tuple[AnalysisTask, ...]]]:
    together = tuple(task for task in tasks if task in _IN_SOME_HUMAN)
    if len(together) > 1:
        returned = yield from _outputs(session, upload, HUMAN)
        together = tuple(task for task in together if returned.issuperset(_results(task)))
    if len(together) < 2:
        together = ()
    if session.output != "image" and (yield from _travels_lighter_apart(session, upload, together)):
        together = ()
    alone = ((task,) for task in tasks if task not in together)
    return [group for group in (together, *alone) if group]


def _travels_lighter_apart(session: Session, upload: Upload, tasks: tuple[AnalysisTask, ...]) -> Flow[bool]:
    """Return whether some task alone would be answered in fewer bytes, which outweighs sending it again."""
    call = Call(session, upload)
    for task in map(Task, tasks):
        try:
            served = yield from call.served_model(task)
            if (yield from lean_way(call, task, served)) is not None:
                return True
        except OF_ONE_TASK:  # which asking will tell
            continue
    return False


def _results(task: str) -> set[str]:
    return {tensor.name for tensor in first_recipe(task).outputs if tensor != IMAGE_HW}


def _outputs(session: Session, upload: Upload, model: str) -> Flow[set[str]]:
    """Return the names of a model's outputs; none if it is not served."""
    try:
        served = yield from session.served_model(model, upload.deadline)
    except OF_ONE_TASK:
        return set()
    return set(served.output_dims)


def _answers(
    session: Session, upload: Upload, tasks: tuple[AnalysisTask, ...]
) -> Flow[dict[str, Result | SapiensError]]:
    if len(tasks) > 1:
        kinds: dict[str, type[Result]] = {Task(task): CLIENT_TASKS[task].kind for task in tasks}
        try:
            results = yield from dense_results(Call(session, upload), HUMAN, kinds)
        except OF_ONE_TASK:
            pass  # one engine's failure is the whole ensemble's; asked alone, the others answer
        except SapiensError as error:
            return dict.fromkeys(tasks, error)
        else:
            return {task: results[Task(task)] for task in tasks}
    answers: dict[str, Result | SapiensError] = {}
    for task in tasks:
        answers[task] = yield from _answer(session, upload, task)
    return answers


def _answer(session: Session, upload: Upload, task: AnalysisTask) -> Flow[Result | SapiensError]:
    try:
        return (yield from CLIENT_TASKS[task].ask(Call(session, upload)))
    except SapiensError as error:
        return error
