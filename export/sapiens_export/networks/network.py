"""What the networks of all families have in common."""

from __future__ import annotations

from torch import Tensor, nn


class Network(nn.Module):
    """A network whose architecture is known here, so that it may compute in other formats than float32."""

    @property
    def last_layers(self) -> list[nn.Module]:
        """The layers that make the outputs, and take input of any format; empty: there is no head."""
        return []

    @property
    def kept_tensors(self) -> list[Tensor]:
        """The parameters and buffers, of any shape, that stay float32 whatever the format between."""
        return [tensor for layer in self.last_layers for tensor in layer.parameters()]
