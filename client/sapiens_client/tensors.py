"""Named arrays in, named arrays out: for who measures or tries a model without its task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sapiens_client.connection.options import ClientOptions
from sapiens_client.connection.settings import checked_settings
from sapiens_client.servers.session import Reply, Session
from sapiens_client.wire.threads import Transport

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_client.deadline import Deadline


class TensorClient:
    """A client of the models of one server as they are.

    Args:
        url: `host:port` of the server's gRPC service.

    Raises:
        InvalidInputError: The URL is no address.
    """

    def __init__(self, url: str) -> None:
        settings = checked_settings(url, False, None, None, ClientOptions(shared_memory=False))
        self._session = Session(settings)
        self._transport = Transport(settings)

    def infer(
        self, model: str, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str], deadline: Deadline
    ) -> Reply:
        """Let a model compute.

        Args:
            model: Its name.
            inputs: By name, each of the shape in the model's config.
            outputs: Names of those wanted.
            deadline: When the answer must be here.

        Raises:
            SapiensError: No answer, or one without the outputs.
        """
        return self._transport.run(self._session.infer(model, inputs, outputs, deadline))

    def close(self) -> None:
        """Close the connection."""
        self._transport.run(self._session.close())
        self._transport.close()
