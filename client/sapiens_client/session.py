"""A server, what is known about its models, and the one way to ask it about an image."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sapiens_client.deadline import Deadline
from sapiens_client.errors import ServerUnavailableError
from sapiens_client.images import encoded_image
from sapiens_client.results import Origin, Timing
from sapiens_client.server_url import checked_url
from sapiens_core.tasks import IMAGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_client.images import ImageLike
    from sapiens_client.served_model import ServedModel
    from sapiens_client.transport import Reply
    from sapiens_core.model_info import ModelInfo
    from sapiens_core.tasks import TensorSpec


class Session:
    """A channel to one server and the configs read from it; any number of threads may share it.

    Args:
        url: `host:port` of the server's gRPC service.

    Raises:
        InvalidInputError: The URL is no address, or of another protocol.
    """

    def __init__(self, url: str) -> None:
        from sapiens_client.transport import Transport  # here, because it loads gRPC

        self._transport = Transport(checked_url(url))
        self._models: dict[str, ServedModel] = {}

    def close(self) -> None:
        """Close the channel; calls that are under way end with a ClientClosedError."""
        self._transport.close()

    def is_ready(self, deadline: Deadline) -> bool:
        """Return whether the server answers and all its models are loaded."""
        ready = self._transport.is_ready(deadline)
        if not ready:
            self._models.clear()
        return ready

    def served_model(self, name: str, deadline: Deadline) -> ServedModel:
        """Ask the server once per model; threads that ask before its answer is here all ask, none waits."""
        if (known := self._models.get(name)) is not None:
            return known
        with self._forgetting_an_absent_server():
            return self._models.setdefault(name, self._transport.served_model(name, deadline))

    def infer(
        self, model: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], deadline: Deadline
    ) -> Reply:
        """Let a model compute, see `Transport.infer`."""
        with self._forgetting_an_absent_server():
            return self._transport.infer(model, inputs, outputs, deadline)

    @contextmanager
    def _forgetting_an_absent_server(self) -> Iterator[None]:
        """Forget its models: when it is back, they may be others."""
        try:
            yield
        except ServerUnavailableError:
            self._models.clear()
            raise


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

    @classmethod
    def of(cls, image: ImageLike, timeout_s: float) -> Upload:
        """Start the clock and make the bytes.

        Raises:
            InvalidInputError: The image or the timeout cannot be used.
            ImageReadError: The image file cannot be read.
        """
        started_s = time.perf_counter()
        deadline = Deadline.after(timeout_s)
        encoded = encoded_image(image)
        return cls(encoded, deadline, started_s, time.perf_counter() - started_s)


class Call:
    """The requests for one result, of one thread; it keeps their time.

    Args:
        session: The server.
        upload: The image, which several calls may share.
    """

    def __init__(self, session: Session, upload: Upload) -> None:
        self._session = session
        self._upload = upload
        self._request_s = 0.0
        self._request_bytes = self._response_bytes = 0

    def served_model(self, name: str) -> ServedModel:
        """Return the config of a model.

        Raises:
            SapiensError: There is no such model, or no answer.
        """
        return self._session.served_model(name, self._upload.deadline)

    def ask(
        self, model: str, outputs: Iterable[TensorSpec], **inputs: NDArray[Any]
    ) -> Mapping[str, NDArray[Any]]:
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
        reply = self._session.infer(
            model, {IMAGE.name: self._upload.encoded, **inputs}, names, self._upload.deadline
        )
        self._request_s += time.perf_counter() - asked_s
        self._request_bytes += reply.request_bytes
        self._response_bytes += reply.response_bytes
        return reply.arrays

    def origin(self, model: ModelInfo) -> Origin:
        """Return what every result tells, with the time until now."""
        timing = Timing(
            total_s=time.perf_counter() - self._upload.started_s,
            prepare_s=self._upload.prepare_s,
            request_s=self._request_s,
            request_bytes=self._request_bytes,
            response_bytes=self._response_bytes,
        )
        return Origin(model=model, timing=timing, encoded_image=self._upload.encoded)
