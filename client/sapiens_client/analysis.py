"""Several tasks about one image: asked together, answered or failed one by one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from sapiens_client.dense import lean_way
from sapiens_client.errors import InferenceError, InvalidInputError, ModelNotServedError, SapiensError
from sapiens_client.flows import Flow, Together
from sapiens_client.questions import QUESTIONS, AnalysisTask, dense_results
from sapiens_client.results import Result
from sapiens_client.results_dense import DepthResult, FeatureResult, NormalResult, SegmentationResult
from sapiens_client.results_people import DetectionResult, PoseResult
from sapiens_client.session import Call
from sapiens_core.tasks import HUMAN, HUMAN_TASKS, Task

if TYPE_CHECKING:
    from sapiens_client.session import Session, Upload

R = TypeVar("R", bound=Result)

_ANSWERED_TOGETHER = tuple(map(AnalysisTask, HUMAN_TASKS))


@dataclass(frozen=True, eq=False)
class Analysis(Mapping[str, "Result | SapiensError"]):
    """What each task answered: `analysis.depth` is its result, or raises what went wrong with it.

    As a mapping it holds, by the names of the tasks and in the order asked, results and errors as they came.

    Attributes:
        answers: Result or error of every task.
    """

    answers: Mapping[str, Result | SapiensError]

    def __getitem__(self, task: str) -> Result | SapiensError:
        return self.answers[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self.answers)

    def __len__(self) -> int:
        return len(self.answers)

    @property
    def failed(self) -> dict[str, SapiensError]:
        """The errors of the tasks that failed; empty when all went well."""
        return {task: answer for task, answer in self.items() if isinstance(answer, SapiensError)}

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
    def detect(self) -> DetectionResult:
        """Result of `detect`."""
        return self._result(AnalysisTask.DETECT, DetectionResult)

    @property
    def people(self) -> PoseResult:
        """Result of `people`."""
        return self._result(AnalysisTask.PEOPLE, PoseResult)

    def _result(self, task: AnalysisTask, kind: type[R]) -> R:
        answer = self.answers.get(task)
        if isinstance(answer, kind):
            return answer
        if isinstance(answer, SapiensError):
            raise answer
        raise InvalidInputError(
            f"{task.value!r} must be a task that was asked for, got {list(map(str, self))}"
        )


def checked_tasks(tasks: Iterable[str]) -> tuple[AnalysisTask, ...]:
    """Return the tasks, each once.

    Raises:
        InvalidInputError: There is none, or one that does not exist.
    """
    names = (tasks,) if isinstance(tasks, str) else tuple(dict.fromkeys(tasks))
    unknown = [name for name in names if name not in QUESTIONS]
    if unknown or not names:
        raise InvalidInputError(f"tasks must be some of {[*map(str, QUESTIONS)]}, got {unknown or names}")
    return tuple(map(AnalysisTask, names))


def analyze(session: Session, upload: Upload, tasks: tuple[AnalysisTask, ...]) -> Flow[Analysis]:
    """Ask for all tasks at the same time, for those that one ensemble answers together in one request.

    Args:
        session: The server.
        upload: The image.
        tasks: What to ask for.
    """
    groups = yield from _groups(session, upload, tasks)
    answers: dict[str, Result | SapiensError] = {}
    for some in (yield Together([_answers(session, upload, group) for group in groups])):
        answers.update(some)
    return Analysis({task: answers[task] for task in tasks})


def _groups(
    session: Session, upload: Upload, tasks: tuple[AnalysisTask, ...]
) -> Flow[list[tuple[AnalysisTask, ...]]]:
    together = tuple(task for task in tasks if task in _ANSWERED_TOGETHER)
    if len(together) < 2 or not (yield from _is_served(session, upload, HUMAN)):
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
        except SapiensError:  # which asking will tell
            continue
    return False


def _is_served(session: Session, upload: Upload, model: str) -> Flow[bool]:
    try:
        yield from session.served_model(model, upload.deadline)
    except SapiensError:  # what else may be wrong, each task will tell
        return False
    return True


def _answers(
    session: Session, upload: Upload, tasks: tuple[AnalysisTask, ...]
) -> Flow[dict[str, Result | SapiensError]]:
    if len(tasks) > 1:
        kinds = {Task(task): QUESTIONS[task].kind for task in tasks}
        try:
            results = yield from dense_results(Call(session, upload), HUMAN, kinds)
        except (InferenceError, ModelNotServedError):
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
        return (yield from QUESTIONS[task].ask(Call(session, upload)))
    except SapiensError as error:
        return error
