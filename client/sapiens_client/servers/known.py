"""What is known about servers until they go away."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sapiens_client.shared.memory import SharedMemory
    from sapiens_client.steps import Endpoint
    from sapiens_client.wire.served_model import ServedModel


class Known:
    """What one client knows about its servers; told by those who notice that it is no longer so.

    Args:
        memory: What it shares with them.

    Attributes:
        models: Configs of their models, by name.
        memory: As passed.
    """

    def __init__(self, memory: SharedMemory) -> None:
        self.models: dict[str, ServedModel] = {}
        self.memory = memory

    def server_gone(self, endpoint: Endpoint) -> None:
        """Ask everything anew: the server may come back with other models."""
        self.models.clear()
        self.memory.server_gone(endpoint)
