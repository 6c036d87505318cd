"""One RPC to one endpoint, with the headers that tell who asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sapiens_client.deadline import Deadline
from sapiens_client.steps import Endpoint, Flow, Send

if TYPE_CHECKING:
    from sapiens_client.connection.identity import Headers, Identity

LEAST_S = 0.02  # with less time left no further try is worth its while


class Sender:
    """Makes the RPCs of one client; threads and tasks may share it.

    Args:
        identity: What tells servers who asks.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def sent(self, endpoint: Endpoint, method: str, message: bytes, timeout_s: float) -> Flow[bytes]:
        """Make an RPC that may take some seconds, and return its reply; it may fail with an RpcFailure."""
        return (yield from self.sent_by(Deadline.after(max(timeout_s, LEAST_S)), endpoint, method, message))

    def sent_by(
        self, deadline: Deadline, endpoint: Endpoint, method: str, message: bytes, headers: Headers = ()
    ) -> Flow[bytes]:
        """Make an RPC, as `sent`, whose reply must be here by a deadline, with further headers."""
        metadata = yield from self._identity.metadata(deadline)
        own = {name for name, _ in headers}
        metadata = (*(pair for pair in metadata if pair[0] not in own), *headers)
        reply: bytes = yield Send(endpoint, method, message, deadline.left_s(), metadata)
        return reply
