"""A server for the tests of programs that use the client: it needs neither Triton nor torch nor weights.

Example:
    >>> from sapiens_client import SapiensClient
    >>> from sapiens_client.testing import FakeServer, Fault
    >>> with FakeServer(persons=2) as server, SapiensClient(server.url) as client:
    ...     assert len(client.people(image).persons) == 2
    ...     server.fail(Fault.QUEUE_FULL)
    ...     client.depth(image)  # raises ServerOverloadedError, unless it tries again
"""

from sapiens_client.testing.faults import Fault
from sapiens_client.testing.server import FakeServer
from sapiens_client.testing.traffic import Request

__all__ = ["FakeServer", "Fault", "Request"]
