"""The servers, what is known about their models, and the one way to have a model compute."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from sapiens_client.errors import SapiensError
from sapiens_client.servers.known import Known
from sapiens_client.servers.requests import Answer, Request
from sapiens_client.servers.retry import Attempts
from sapiens_client.servers.sender import Sender
from sapiens_client.shared.memory import SharedMemory
from sapiens_client.shared.transfer import Transfer
from sapiens_client.steps import Flow
from sapiens_client.tracing import request_span

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_client.connection.identity import Headers
    from sapiens_client.connection.options import Output
    from sapiens_client.connection.settings import Settings
    from sapiens_client.deadline import Deadline
    from sapiens_client.results.models import StepLoad
    from sapiens_client.steps import Endpoint
    from sapiens_client.wire.served_model import ServedModel

# On one machine bytes cost little: below this both ways take as long (`bench/last_step.py`).
_SAVED_ON_LOOPBACK = 8 * 2**20


@dataclass(frozen=True)
class Reply:
    """The answer to one inference request.

    Attributes:
        arrays: Output tensors by name, read-only.
        request_bytes: Size of the request.
        response_bytes: Size of the reply.
        shared_bytes: Size of the tensors of both that were in shared memory instead.
        attempts: How often the request was sent.
        url: Address of the server that answered.
        request_id: What the server's log calls the request.
    """

    arrays: Mapping[str, NDArray[Any]]
    request_bytes: int
    response_bytes: int
    shared_bytes: int
    attempts: int
    url: str
    request_id: str


class Session:
    """What one client asks of its servers, as flows; any number of threads or tasks may share it.

    Args:
        settings: Where the servers are, and how to reach them.

    Attributes:
        output: Where arrays become as large as the image; "auto": here if that saves `min_saved_bytes`.
        min_saved_bytes: From how many on it is worth the work here.
    """

    def __init__(self, settings: Settings) -> None:
        self.output: Output = settings.options.output
        self.min_saved_bytes = _SAVED_ON_LOOPBACK if settings.is_loopback else 1
        sender = Sender(settings.identity)
        self._shared_memory = SharedMemory(
            sender.sent, is_wanted=settings.options.shared_memory and settings.has_loopback
        )
        self._known = Known(self._shared_memory)
        self._attempts = Attempts(settings, sender, self._known)
        self._settings = settings
        self._headers: Headers = ()

    def sending(self, headers: Mapping[str, str] | None) -> Session:
        """Return a session that sends further headers, and shares all else with this one.

        Raises:
            InvalidInputError: A header cannot be sent, or would travel in the open.
        """
        if headers is None:
            return self
        session = copy(self)
        session._headers = tuple(
            {**dict(self._headers), **dict(self._settings.checked_headers(headers))}.items()
        )
        return session

    def is_ready(self, deadline: Deadline) -> Flow[bool]:
        """Return whether a server answers and all its models are loaded."""
        is_ready = yield from self._attempts.is_ready(deadline)
        if not is_ready:
            self._known.models.clear()
        return is_ready

    def served_model(self, name: str, deadline: Deadline) -> Flow[ServedModel]:
        """Ask once per model; whoever asks before its answer is here asks too, none waits.

        Raises:
            ModelNotServedError: There is no such model.
            SapiensError: No answer.
        """
        if (known := self._known.models.get(name)) is not None:
            return known
        from sapiens_client.wire import messages  # here, because it loads gRPC

        message = messages.encoded_config_request(name)
        answer = yield from self._answer(self._request("ModelConfig", message, name), deadline)
        with _reading(answer, name):
            served = messages.served_model(answer.reply, name, answer.url)
        return self._known.models.setdefault(name, served)

    def model_names(self, deadline: Deadline) -> Flow[tuple[str, ...]]:
        """Ask a server for the names of all models that are ready, also of those that are not ours.

        Raises:
            SapiensError: No answer.
        """
        from sapiens_client.wire import messages  # here, because it loads gRPC

        message = messages.encoded_index_request()
        answer = yield from self._answer(self._request("RepositoryIndex", message), deadline)
        with _reading(answer, "RepositoryIndex"):
            return messages.model_names(answer.reply)

    def step_loads(self, deadline: Deadline) -> Flow[Mapping[str, StepLoad]]:
        """Ask a server how all its models fare, by their names.

        Raises:
            SapiensError: No answer.
        """
        from sapiens_client.wire import messages  # here, because it loads gRPC

        answer = yield from self._answer(self._request("ModelStatistics"), deadline)
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
        parameters: Mapping[str, str] = MappingProxyType({}),
    ) -> Flow[Reply]:
        """Let a model compute.

        Args:
            model: Name of the model.
            inputs: Input tensors by name, each of the shape in the model's config.
            outputs: Names of the output tensors wanted; the server skips steps that only others need.
            deadline: When the answer must be here.
            reply_sizes: Bytes of the outputs whose size is known, for which shared memory may serve.
            parameters: What else the model is told.

        Raises:
            SapiensError: No answer, or one without the outputs.
        """
        transfer = Transfer(
            self._shared_memory,
            model,
            inputs,
            outputs,
            reply_sizes=reply_sizes,
            parameters=parameters,
            request_id=(request_id := secrets.token_hex(4)),
        )
        try:
            answer = yield from self._answer(
                self._request("ModelInfer", transfer.message, model, request_id), deadline
            )
            with _reading(answer, model):
                arrays = yield from transfer.arrays(answer.reply)
        except BaseException:
            transfer.drop()
            raise
        if missing := set(outputs) - arrays.keys():
            raise answer.error(
                f"'{model}' at {answer.url} must return {sorted(missing)}, got {sorted(arrays)}"
            )
        return Reply(
            arrays,
            answer.request_bytes,
            len(answer.reply),
            transfer.shared_bytes,
            answer.attempts,
            answer.url,
            request_id,
        )

    @property
    def shares_memory(self) -> bool:
        """Whether large tensors may go through shared memory, for which the sizes of replies are needed."""
        return self._shared_memory.is_wanted

    def known_dims(self, model: str, output: str) -> tuple[int, ...]:
        """Return the shape of an output in a model's config; empty: nobody has asked for that yet."""
        known = self._known.models.get(model)
        return known.output_dims.get(output, ()) if known else ()

    def _request(
        self,
        method: str,
        message: bytes | Callable[[Endpoint, float], Flow[bytes]] = b"",
        model: str = "",
        request_id: str | None = None,
    ) -> Request:
        return Request(method, message, model, request_id, self._headers)

    def _answer(self, request: Request, deadline: Deadline) -> Flow[Answer]:
        """Send a request within a span, where the program has some."""
        with request_span(request.method, request.model, request.request_id) as span:
            try:
                answer = yield from self._attempts.answer(replace(request, trace=span.headers), deadline)
            except SapiensError as error:
                span.failed(error)
                raise
            span.answered(answer.url, answer.attempts, answer.request_bytes, len(answer.reply))
            return answer

    def close(self) -> Flow[None]:
        """Give back what servers were told to keep for this client."""
        yield from self._shared_memory.close()


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
