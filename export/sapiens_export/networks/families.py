"""Which class the network of a family is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sapiens_export.networks.sapiens import SapiensNetwork
from sapiens_export.networks.sapiens2_config import Sapiens2NetworkConfig

if TYPE_CHECKING:
    from sapiens_export.networks.config import WeightsConfig
    from sapiens_export.networks.network import Network


def empty_network(config: WeightsConfig) -> Network:
    """Build a network whose weights are of no matter, such as on the meta device.

    Args:
        config: The architecture.
    """
    if isinstance(config, Sapiens2NetworkConfig):
        from sapiens_export.networks.sapiens2 import Sapiens2Network  # here, because it loads transformers

        return Sapiens2Network(config)
    return SapiensNetwork(config)
