"""How the tensors of one inference request travel: in its messages, or through shared memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sapiens_client.steps import Flow, Work
from sapiens_client.wire.layout import Shared, layout

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_client.shared.memory import SharedMemory
    from sapiens_client.shared.regions import Region
    from sapiens_client.steps import Endpoint


class Transfer:
    """The tensors of one request and its reply. Only its first try shares memory: that may be why it failed.

    Args:
        memory: What the client shares with servers.
        model: Name of the model asked.
        inputs: Input tensors by name.
        outputs: Names of the output tensors wanted.
        reply_sizes: Bytes of the outputs whose size is known, for which shared memory may serve.
        parameters: What else the model is told.
        request_id: What the server's log calls the request.
    """

    def __init__(
        self,
        memory: SharedMemory,
        model: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Sequence[str],
        *,
        reply_sizes: Mapping[str, int],
        parameters: Mapping[str, str],
        request_id: str,
    ) -> None:
        from sapiens_client.wire import messages  # here, because it loads gRPC

        self._memory = memory
        self._layout = layout(inputs, reply_sizes)
        self._region: Region | None = None
        self._is_first_try = True
        self._encoded = partial(
            messages.encoded_request, model, inputs, outputs, parameters=parameters, request_id=request_id
        )
        self._decoded = messages.decoded_reply

    @property
    def shared_bytes(self) -> int:
        """Size of the tensors in shared memory, 0 where there is none."""
        return self._layout.num_bytes if self._region else 0

    def message(self, endpoint: Endpoint, left_s: float) -> Flow[bytes]:
        """Return the request for a try at an endpoint, serialised.

        Args:
            endpoint: Where it will be sent.
            left_s: What is left of the call's time, seconds.
        """
        self.drop()
        if self._is_first_try:
            self._is_first_try = False
            self._region = yield from self._memory.lease(endpoint, self._layout.num_bytes, left_s)
        message: bytes = yield Work(partial(self._encoded, timeout_s=left_s, shared=self._shared))
        return message

    def arrays(self, reply: bytes) -> Flow[dict[str, NDArray[Any]]]:
        """Return the output tensors of a serialised reply to the last try.

        Returns:
            By name, each of the shape that the reply states, read-only.

        Raises:
            Exception: The bytes are no such reply.
        """
        if self._region is None:
            return self._decoded(reply)
        arrays: dict[str, NDArray[Any]] = yield Work(partial(self._decoded, reply, self._shared))
        self._memory.give_back(self._region)
        return arrays

    def drop(self) -> None:
        """Give up the memory of a try that was not answered: the server may still work on it."""
        region, self._region = self._region, None
        if region:
            self._memory.drop(region)

    @property
    def _shared(self) -> Shared | None:
        return Shared(self._region.name, self._region.memory, self._layout) if self._region else None
