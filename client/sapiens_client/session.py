"""The servers, what is known about their models, and the one way to ask them about an image."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sapiens_client.attempts import Answer, Attempts, Request
from sapiens_client.deadline import Deadline
from sapiens_client.flows import Flow, Work
from sapiens_client.images import encoded_image
from sapiens_client.results import Origin, Timing
from sapiens_core.tasks import IMAGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_client.images import ImageLike
    from sapiens_client.served_model import ServedModel
    from sapiens_client.settings import Settings
    from sapiens_core.model_info import ModelInfo
    from sapiens_core.tasks import TensorSpec

R = TypeVar("R")


@dataclass(frozen=True)
class Reply:
    """The answer to one inference request.

    Attributes:
        arrays: Output tensors by name, read-only.
        request_bytes: Size of the request.
        response_bytes: Size of the reply.
        attempts: How often the request was sent.
    """

    arrays: Mapping[str, NDArray[Any]]
    request_bytes: int
    response_bytes: int
    attempts: int


class Session:
    """What one client asks of its servers, as flows; any number of threads or tasks may share it.

    Args:
        settings: Where the servers are, and how to reach them.
    """

    def __init__(self, settings: Settings) -> None:
        self._models: dict[str, ServedModel] = {}
        # A replica that went away may come back with other models.
        self._attempts = Attempts(settings, on_gone=self._models.clear)

    def is_ready(self, deadline: Deadline) -> Flow[bool]:
        """Return whether a server answers and all its models are loaded."""
        is_ready = yield from self._attempts.is_ready(deadline)
        if not is_ready:
            self._models.clear()
        return is_ready

    def served_model(self, name: str, deadline: Deadline) -> Flow[ServedModel]:
        """Ask once per model; whoever asks before its answer is here asks too, none waits.

        Raises:
            ModelNotServedError: There is no such model.
            SapiensError: No answer.
        """
        if (known := self._models.get(name)) is not None:
            return known
        from sapiens_client import transport_wire  # here, because it loads gRPC

        message = transport_wire.encoded_config_request(name)
        answer = yield from self._attempts.answer(
            Request("ModelConfig", lambda _: message, model=name), deadline
        )
        served = _read(partial(transport_wire.served_model, answer.reply, name, answer.url), answer, name)
        return self._models.setdefault(name, served)

    def infer(
        self, model: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], deadline: Deadline
    ) -> Flow[Reply]:
        """Let a model compute.

        Args:
            model: Name of the model.
            inputs: Input tensors by name, each of the shape in the model's config.
            outputs: Names of the output tensors wanted; the server skips steps that only others need.
            deadline: When the answer must be here.

        Raises:
            SapiensError: No answer, or one without the outputs.
        """
        from sapiens_client import transport_wire  # here, because it loads gRPC

        request_id = secrets.token_hex(4)

        def message(left_s: float) -> bytes:
            return transport_wire.encoded_request(
                model, inputs, outputs, request_id=request_id, timeout_s=left_s
            )

        request = Request("ModelInfer", message, model, request_id)
        answer = yield from self._attempts.answer(request, deadline)
        arrays = _read(partial(transport_wire.decoded_reply, answer.reply), answer, model)
        if missing := set(outputs) - arrays.keys():
            raise answer.error(
                f"'{model}' at {answer.url} must return {sorted(missing)}, got {sorted(arrays)}"
            )
        return Reply(arrays, answer.request_bytes, len(answer.reply), answer.attempts)

    def about(self, image: ImageLike, timeout_s: float, ask: Callable[[Call], Flow[R]]) -> Flow[R]:
        """Start the clock, make the bytes, and ask.

        Args:
            image: What callers have as an image.
            timeout_s: How long the call may take.
            ask: What to ask about it.

        Raises:
            InvalidInputError: The image or the timeout cannot be used.
            ImageReadError: The image file cannot be read.
        """
        started_s = time.perf_counter()
        deadline = Deadline.after(timeout_s)
        encoded = yield Work(partial(encoded_image, image))
        upload = Upload(encoded, deadline, started_s, time.perf_counter() - started_s)
        return (yield from ask(Call(self, upload)))


def _read(read: Callable[[], R], answer: Answer, model: str) -> R:
    try:
        return read()
    except Exception as error:  # of numpy, protobuf or our own reading: the bytes are no message
        raise answer.error(
            f"{answer.url} must answer with a result of '{model}', got {len(answer.reply)} bytes that are "
            f"none: {error!r}; use the gRPC port of a Triton server, and nothing between that changes replies"
        ) from error


@dataclass(frozen=True)
class Upload:
    """An image as it travels, and the clock of the call that it was passed to.

    Attributes:
        encoded: (B,) uint8, the bytes of an image file.
        deadline: When all answers must be here.
        started_s: When the call began, on the clock of `time.perf_counter`.
        prepare_s: What making the bytes took.
    """

    encoded: NDArray[Any]
    deadline: Deadline
    started_s: float
    prepare_s: float


class Call:
    """The requests for one result, one after another; it keeps their time.

    Attributes:
        session: The servers.
        upload: The image, which several calls may share.
    """

    def __init__(self, session: Session, upload: Upload) -> None:
        self.session = session
        self.upload = upload
        self._request_s = 0.0
        self._request_bytes = self._response_bytes = self._attempts = 0

    def served_model(self, name: str) -> Flow[ServedModel]:
        """Return the config of a model.

        Raises:
            SapiensError: There is no such model, or no answer.
        """
        return (yield from self.session.served_model(name, self.upload.deadline))

    def ask(
        self, model: str, outputs: Iterable[TensorSpec], **inputs: NDArray[Any]
    ) -> Flow[Mapping[str, NDArray[Any]]]:
        """Let a model compute something about the image.

        Args:
            model: Name of the model.
            outputs: What is wanted.
            inputs: Further inputs, by name.

        Returns:
            The outputs by name, read-only.

        Raises:
            SapiensError: No answer.
        """
        asked_s = time.perf_counter()
        names = [output.name for output in outputs]
        arrays = {IMAGE.name: self.upload.encoded, **inputs}
        reply = yield from self.session.infer(model, arrays, names, self.upload.deadline)
        self._request_s += time.perf_counter() - asked_s
        self._request_bytes += reply.request_bytes
        self._response_bytes += reply.response_bytes
        self._attempts += reply.attempts
        return reply.arrays

    def origin(self, model: ModelInfo) -> Origin:
        """Return what every result tells, with the time until now."""
        timing = Timing(
            total_s=time.perf_counter() - self.upload.started_s,
            prepare_s=self.upload.prepare_s,
            request_s=self._request_s,
            request_bytes=self._request_bytes,
            response_bytes=self._response_bytes,
            attempts=self._attempts,
        )
        return Origin(model=model, timing=timing, encoded_image=self.upload.encoded)
