"""A call of the client: an image as it travels, the requests about it, and their time."""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sapiens_client.deadline import Deadline
from sapiens_client.errors import InvalidInputError, ModelNotServedError, SapiensError
from sapiens_client.results.base import Origin, Timing
from sapiens_client.steps import Flow, Work
from sapiens_client.tasks.images import encoded_image
from sapiens_client.tasks.sizes import num_bytes
from sapiens_client.wire.served_model import is_of_task
from sapiens_core.contract.tensors import IMAGE, RESULT_DTYPE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_client.connection.options import ChannelOrder, FloatType
    from sapiens_client.servers.session import Session
    from sapiens_client.tasks.images import ImageLike
    from sapiens_client.wire.served_model import ServedModel
    from sapiens_core.contract.model_info import ModelInfo
    from sapiens_core.contract.tensors import TensorSpec

R = TypeVar("R")

_LEAST_S, _NAMES_TIMEOUT_S = 0.01, 2.0  # for the names of models, which an error tells


def about(
    session: Session,
    image: ImageLike,
    timeout_s: float,
    ask: Callable[[Call], Flow[R]],
    channel_order: ChannelOrder = "rgb",
    dtype: FloatType = "float32",
) -> Flow[R]:
    """Start the clock, make the bytes, and ask.

    Args:
        session: The servers.
        image: What callers have as an image.
        timeout_s: How long the call may take.
        ask: What to ask about it.
        channel_order: Of an array.
        dtype: Of results that are float and as large as the image.

    Raises:
        InvalidInputError: The image or the timeout cannot be used.
        ImageReadError: The image file cannot be read.
    """
    started_s = time.perf_counter()
    deadline = Deadline.after(timeout_s)
    encode = partial(encoded_image, image, channel_order, timeout_s)
    # For a disk, or another machine.
    may_wait = isinstance(image, str | os.PathLike) or hasattr(image, "read")
    encoded = yield Work(encode, deadline if may_wait else None, "the image")
    upload = Upload(encoded, deadline, started_s, time.perf_counter() - started_s, dtype)
    return (yield from ask(Call(session, upload)))


@dataclass(frozen=True)
class Upload:
    """An image as it travels, and the clock of the call that it was passed to.

    Attributes:
        encoded: (B,) uint8, the bytes of an image file.
        deadline: When all answers must be here.
        started_s: When the call began, on the clock of `time.perf_counter`.
        prepare_s: What making the bytes took.
        dtype: What results that are float and as large as the image shall be.
    """

    encoded: NDArray[Any]
    deadline: Deadline
    started_s: float
    prepare_s: float
    dtype: FloatType = "float32"


class Call:
    """The requests for one result, one after another; it keeps their time.

    Attributes:
        session: The servers.
        upload: The image, which several calls may share.
    """

    def __init__(self, session: Session, upload: Upload) -> None:
        self.session = session
        self.upload = upload
        self._request_s = self._finish_s = 0.0
        self._request_bytes = self._response_bytes = self._shared_bytes = self._attempts = 0
        self._url = self._request_id = ""

    @property
    def wants_halves(self) -> bool:
        """Whether results that are float and as large as the image shall be float16."""
        return self.upload.dtype == "float16"

    def served_model(self, name: str) -> Flow[ServedModel]:
        """Return the config of a model.

        Raises:
            ModelNotServedError: There is no such model; it names those that there are.
            SapiensError: No answer.
        """
        try:
            return (yield from self.session.served_model(name, self.upload.deadline))
        except ModelNotServedError as error:
            names = yield from self._names_served()
            if name in names or not names:
                raise
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"; perhaps {close[0]!r}" if close else ""
            raise error.with_more(f"; served are {', '.join(names)}{hint}") from error

    def ensemble(self, task: str, model: str | None = None) -> Flow[ServedModel]:
        """Return the config of the ensemble to ask for a task.

        Args:
            task: What is asked for.
            model: Name of the ensemble; None: that of the task.

        Raises:
            InvalidInputError: `model` is no name.
            ModelNotServedError: There is no such model, or it is not one for the task.
            SapiensError: No answer.
        """
        if model is not None:
            check_model_name(model)
        served = yield from self.served_model(model or task)
        served.check_answers(task)
        return served

    def _names_served(self) -> Flow[list[str]]:
        """Return the names of the ensembles that may be asked for, none if nobody tells."""
        deadline = Deadline.after(max(_LEAST_S, min(_NAMES_TIMEOUT_S, self.upload.deadline.left_s())))
        try:
            names = yield from self.session.model_names(deadline)
        except SapiensError:
            return []
        return sorted(name for name in names if is_of_task(name))

    def ask(
        self, model: str, outputs: Iterable[TensorSpec], **inputs: NDArray[Any]
    ) -> Flow[Mapping[str, NDArray[Any]]]:
        """Let a model compute something about the image.

        Args:
            model: Name of the model.
            outputs: What is wanted.
            inputs: Further inputs by name, each of the shape in the model's config.

        Returns:
            The outputs by name, read-only.

        Raises:
            SapiensError: No answer.
        """
        asked_s = time.perf_counter()
        tensors = list(outputs)
        names = [tensor.name for tensor in tensors]
        arrays = {IMAGE.name: self.upload.encoded, **inputs}
        sizes = self._reply_sizes(model, tensors)  # in float32: what servers of earlier releases return
        wants_halves = self.wants_halves and any(tensor.is_halvable for tensor in tensors)
        parameters = {RESULT_DTYPE: "FP16"} if wants_halves else {}
        reply = yield from self.session.infer(model, arrays, names, self.upload.deadline, sizes, parameters)
        self._request_s += time.perf_counter() - asked_s
        self._request_bytes += reply.request_bytes
        self._response_bytes += reply.response_bytes
        self._shared_bytes += reply.shared_bytes
        self._attempts += reply.attempts
        self._url, self._request_id = reply.url, reply.request_id
        return reply.arrays

    def _reply_sizes(self, model: str, outputs: Iterable[TensorSpec]) -> Mapping[str, int]:
        """Return the bytes of the outputs whose size is known, by name; none if nobody wants to know."""
        if not self.session.shares_memory:
            return {}
        encoded, dims = self.upload.encoded, partial(self.session.known_dims, model)
        sizes = {output.name: num_bytes(output, dims(output.name), encoded) for output in outputs}
        return {name: size for name, size in sizes.items() if size}

    def finish(self, function: Callable[[], R]) -> Flow[R]:
        """Do what is left to do about arrays from the server."""
        started_s = time.perf_counter()
        finished: R = yield Work(function)
        self._finish_s += time.perf_counter() - started_s
        return finished

    def origin(self, model: ModelInfo) -> Origin:
        """Return what every result tells, with the time until now."""
        timing = Timing(
            total_s=time.perf_counter() - self.upload.started_s,
            prepare_s=self.upload.prepare_s,
            request_s=self._request_s,
            request_bytes=self._request_bytes,
            response_bytes=self._response_bytes,
            attempts=self._attempts,
            finish_s=self._finish_s,
            shared_bytes=self._shared_bytes,
        )
        return Origin(
            model=model,
            timing=timing,
            encoded_image=self.upload.encoded,
            url=self._url,
            request_id=self._request_id,
        )


def check_model_name(model: object) -> None:
    """Refuse what is no name of a model.

    Raises:
        InvalidInputError: It is none.
    """
    if not isinstance(model, str) or not model:
        raise InvalidInputError(
            f"model must be the name of an ensemble such as 'depth_2b', got {model!r:.80}"
        )
