"""The servers, what is known about their models, and the one way to ask them about an image."""

from __future__ import annotations

import difflib
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from sapiens_client.errors import ModelNotServedError, SapiensError
from sapiens_client.results.base import Origin, Timing
from sapiens_client.servers.deadline import Deadline
from sapiens_client.servers.requests import Answer, Request
from sapiens_client.servers.retry import Attempts
from sapiens_client.shared.carrier import Carrier
from sapiens_client.shared.memory import SharedMemory
from sapiens_client.steps import Flow, Work
from sapiens_client.tasks.images import encoded_image
from sapiens_client.tasks.served_model import is_of_task
from sapiens_client.tasks.sizes import num_bytes
from sapiens_core.contract.tensors import IMAGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_client.connection.options import Output
    from sapiens_client.connection.settings import Settings
    from sapiens_client.servers.replicas import Replica
    from sapiens_client.tasks.images import ImageLike
    from sapiens_client.tasks.models import StepLoad
    from sapiens_client.tasks.served_model import ServedModel
    from sapiens_core.contract.model_info import ModelInfo
    from sapiens_core.contract.tensors import TensorSpec

R = TypeVar("R")

_LEAST_S, _NAMES_TIMEOUT_S = 0.01, 2.0  # for the names of models, which an error tells


@dataclass(frozen=True)
class Reply:
    """The answer to one inference request.

    Attributes:
        arrays: Output tensors by name, read-only.
        request_bytes: Size of the request.
        response_bytes: Size of the reply.
        shared_bytes: Size of the tensors of both that were in shared memory instead.
        attempts: How often the request was sent.
    """

    arrays: Mapping[str, NDArray[Any]]
    request_bytes: int
    response_bytes: int
    shared_bytes: int
    attempts: int


class Session:
    """What one client asks of its servers, as flows; any number of threads or tasks may share it.

    Args:
        settings: Where the servers are, and how to reach them.

    Attributes:
        output: Where arrays become as large as the image; "auto": wherever fewer bytes travel.
    """

    def __init__(self, settings: Settings) -> None:
        wish = settings.options.output
        self.output: Output = "image" if wish == "auto" and settings.is_loopback else wish
        self._models: dict[str, ServedModel] = {}
        self._attempts = Attempts(
            settings,
            on_gone=self._forget,
            on_forgotten=lambda replica: self._shared_memory.was_forgotten(replica),
        )
        self._shared_memory = SharedMemory(
            self._attempts.sent, is_wanted=settings.options.shared_memory and settings.has_loopback
        )

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
        from sapiens_client.wire import messages  # here, because it loads gRPC

        message = messages.encoded_config_request(name)
        answer = yield from self._attempts.answer(Request("ModelConfig", message, model=name), deadline)
        with _reading(answer, name):
            served = messages.served_model(answer.reply, name, answer.url)
        return self._models.setdefault(name, served)

    def model_names(self, deadline: Deadline) -> Flow[tuple[str, ...]]:
        """Ask a server for the names of all models that are ready, also of those that are not ours.

        Raises:
            SapiensError: No answer.
        """
        from sapiens_client.wire import messages  # here, because it loads gRPC

        message = messages.encoded_index_request()
        answer = yield from self._attempts.answer(Request("RepositoryIndex", message), deadline)
        with _reading(answer, "RepositoryIndex"):
            return messages.model_names(answer.reply)

    def step_loads(self, deadline: Deadline) -> Flow[Mapping[str, StepLoad]]:
        """Ask a server how all its models fare, by their names.

        Raises:
            SapiensError: No answer.
        """
        from sapiens_client.wire import messages  # here, because it loads gRPC

        answer = yield from self._attempts.answer(Request("ModelStatistics"), deadline)
        with _reading(answer, "ModelStatistics"):
            return messages.step_loads(answer.reply)

    def wait_until_ready(self, deadline: Deadline) -> Flow[None]:
        """Wait for a server that is ready.

        Raises:
            SapiensError: None was in time, or waiting is in vain.
        """
        return (yield from self._attempts.wait_until_ready(deadline))

    def infer(
        self,
        model: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str],
        deadline: Deadline,
        reply_sizes: Mapping[str, int] = MappingProxyType({}),
    ) -> Flow[Reply]:
        """Let a model compute.

        Args:
            model: Name of the model.
            inputs: Input tensors by name, each of the shape in the model's config.
            outputs: Names of the output tensors wanted; the server skips steps that only others need.
            deadline: When the answer must be here.
            reply_sizes: Bytes of the outputs whose size is known, for which shared memory may serve.

        Raises:
            SapiensError: No answer, or one without the outputs.
        """
        carrier = Carrier(
            self._shared_memory,
            model,
            inputs,
            outputs,
            reply_sizes=reply_sizes,
            request_id=(request_id := secrets.token_hex(4)),
        )
        try:
            answer = yield from self._attempts.answer(
                Request("ModelInfer", carrier.message, model, request_id), deadline
            )
            with _reading(answer, model):
                arrays = yield from carrier.arrays(answer.reply)
        except BaseException:
            carrier.drop()
            raise
        if missing := set(outputs) - arrays.keys():
            raise answer.error(
                f"'{model}' at {answer.url} must return {sorted(missing)}, got {sorted(arrays)}"
            )
        return Reply(arrays, answer.request_bytes, len(answer.reply), carrier.shared_bytes, answer.attempts)

    def reply_sizes(
        self, model: str, outputs: Iterable[TensorSpec], encoded: NDArray[Any]
    ) -> Mapping[str, int]:
        """Return the bytes of the outputs whose size is known, by name; none if nobody wants to know.

        Args:
            model: Which model returns them.
            outputs: Which.
            encoded: (B,) uint8, the image file they are about.
        """
        if not self._shared_memory.is_wanted:
            return {}
        known = self._models.get(model)
        dims = known.output_dims if known else {}
        sizes = {output.name: num_bytes(output, dims.get(output.name, ()), encoded) for output in outputs}
        return {name: size for name, size in sizes.items() if size}

    def close(self) -> Flow[None]:
        """Give back what servers were told to keep for this client."""
        yield from self._shared_memory.close()

    def _forget(self, replica: Replica) -> None:
        """Ask everything anew: the replica went away, and may come back with other models."""
        self._models.clear()
        self._shared_memory.forget(replica)

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
        encode = partial(encoded_image, image)
        # For a disk, or another machine's.
        may_wait = isinstance(image, str | os.PathLike) or hasattr(image, "read")
        encoded = yield Work(encode, deadline if may_wait else None, "the image")
        upload = Upload(encoded, deadline, started_s, time.perf_counter() - started_s)
        return (yield from ask(Call(self, upload)))


@contextmanager
def _reading(answer: Answer, model: str) -> Iterator[None]:
    """Tell in plain words when a reply is none."""
    try:
        yield
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
        self._request_s = self._finish_s = 0.0
        self._request_bytes = self._response_bytes = self._shared_bytes = self._attempts = 0

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
            inputs: Further inputs, by name.

        Returns:
            The outputs by name, read-only.

        Raises:
            SapiensError: No answer.
        """
        asked_s = time.perf_counter()
        tensors = list(outputs)
        names = [tensor.name for tensor in tensors]
        arrays = {IMAGE.name: self.upload.encoded, **inputs}
        sizes = self.session.reply_sizes(model, tensors, self.upload.encoded)
        reply = yield from self.session.infer(model, arrays, names, self.upload.deadline, sizes)
        self._request_s += time.perf_counter() - asked_s
        self._request_bytes += reply.request_bytes
        self._response_bytes += reply.response_bytes
        self._shared_bytes += reply.shared_bytes
        self._attempts += reply.attempts
        return reply.arrays

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
        return Origin(model=model, timing=timing, encoded_image=self.upload.encoded)
