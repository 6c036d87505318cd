"""The client: one method per task."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from sapiens_client.deadline import Deadline
from sapiens_client.errors import InvalidInputError
from sapiens_client.images import encoded_image
from sapiens_client.results import DepthResult, Timing
from sapiens_core.tasks import DEPTH, IMAGE, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_client.images import ImageLike
    from sapiens_core.model_info import ModelInfo

DEFAULT_URL = "localhost:8001"


class SapiensClient:
    """A client of one server; any number of threads may share it.

    Where a model comes from is asked for once and kept: take a new client after the server got another one.

    Args:
        url: `host:port` of the server's gRPC service. None: what SAPIENS_URL says, else localhost:8001.
        timeout_s: How long each call may take, unless it says otherwise. [s]

    Raises:
        InvalidInputError: The URL is empty or of another protocol, or the timeout is not positive.

    Example:
        >>> with SapiensClient("gpu-1:8001") as client:
        ...     client.depth("photo.jpg").save("depth.png")
    """

    def __init__(self, url: str | None = None, *, timeout_s: float = 60.0) -> None:
        from sapiens_client.transport import Transport  # here, because it loads gRPC

        Deadline.after(timeout_s)  # refuses a bad timeout now, not at the first call
        if url is None:
            url = os.environ.get("SAPIENS_URL") or DEFAULT_URL
        self._timeout_s = timeout_s
        self._transport = Transport(_checked_url(url))
        self._models: dict[str, ModelInfo] = {}
        self._models_lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; calls under way and later ones end with a ClientClosedError."""
        self._transport.close()

    def ready(self, *, timeout_s: float = 5.0) -> bool:
        """Return whether the server answers and all its models are loaded; False when there is no server.

        Args:
            timeout_s: How long to wait for the answer. [s]
        """
        return self._transport.is_ready(Deadline.after(timeout_s))

    def depth(self, image: ImageLike, *, timeout_s: float | None = None) -> DepthResult:
        """Estimate the relative depth of every pixel.

        Args:
            image: Path of an image file, its bytes, a PIL image, or an (H, W, 3) uint8 array in RGB order.
                Photographs are turned upright as their EXIF orientation says.
            timeout_s: How long the call may take, everything included. None: the client's timeout. [s]

        Returns:
            The depth at the size of the image, the network's origin, and the timing.

        Raises:
            InvalidInputError: The image cannot be used; the server's reason, if it was the one to find out.
            ImageReadError: The image file is missing (ImageNotFoundError) or cannot be read.
            ServerUnavailableError: No server answers at the URL.
            ServerOverloadedError: The server's queues are full.
            RequestTimeoutError: No answer in time.
            ModelNotServedError: The server does not serve depth.
            InferenceError: The server failed to compute the answer.
        """
        answer = self._ask(Task.DEPTH, image, DEPTH.name, timeout_s=timeout_s)
        return DepthResult(depth=answer.arrays[DEPTH.name], model=answer.model, timing=answer.timing)

    def _ask(self, task: Task, image: ImageLike, *outputs: str, timeout_s: float | None) -> _Answer:
        started_s = time.perf_counter()
        deadline = Deadline.after(self._timeout_s if timeout_s is None else timeout_s)
        encoded = encoded_image(image)
        prepared_s = time.perf_counter()
        model = self._model_info(task, deadline)
        asked_s = time.perf_counter()
        reply = self._transport.infer(task, {IMAGE.name: encoded}, outputs, deadline)
        answered_s = time.perf_counter()
        timing = Timing(
            total_s=answered_s - started_s,
            prepare_s=prepared_s - started_s,
            request_s=answered_s - asked_s,
            request_bytes=reply.request_bytes,
            response_bytes=reply.response_bytes,
        )
        return _Answer(reply.arrays, model, timing)

    def _model_info(self, model: str, deadline: Deadline) -> ModelInfo:
        """Ask the server once per model: under the lock, other threads wait for the first answer."""
        with self._models_lock:
            if model not in self._models:
                self._models[model] = self._transport.model_info(model, deadline)
            return self._models[model]


@dataclass(frozen=True)
class _Answer:
    arrays: Mapping[str, NDArray[Any]]
    model: ModelInfo
    timing: Timing


def _checked_url(url: str) -> str:
    if not url or url.startswith(("http://", "https://", "grpc://")):
        raise InvalidInputError(
            f"url must be host:port of the server's gRPC service, without http://, got {url!r}"
        )
    return url
