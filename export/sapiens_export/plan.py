"""What an export would do, without doing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.filesize import decimal

from sapiens_export.build import check_buildable
from sapiens_export.cost import network_cost
from sapiens_export.engines import EngineUnavailableError
from sapiens_export.repository import InstalledEngine, check_models, planned_models

if TYPE_CHECKING:
    from pathlib import Path

    from sapiens_core.model_info import ModelInfo
    from sapiens_export.networks.config import NetworkConfig
    from sapiens_export.serving import Serving


IN_THE_WAY = "in the way"


def export_plan(
    config: NetworkConfig, info: ModelInfo, serving: Serving, name: str | None, repository: Path
) -> dict[str, str]:
    """Tell what an export would build and write.

    Args:
        config: The network.
        info: What is made of it.
        serving: The operator's choices.
        name: Tells it from the task's other engines; None: it is the one without a name.
        repository: Folder of models, which need not exist.

    Returns:
        Sentences by what they are about. `IN_THE_WAY` is among them if this machine cannot do it.

    Raises:
        ValueError: The repository cannot take the network.
    """
    new = InstalledEngine(config, info, serving, name)
    check_models(repository, new)
    models = planned_models(repository, new)
    replaced = {model for model in models if (repository / model).is_dir()}
    plan = {
        **_costs(config, info, serving),
        "licence": info.licence,
        "repository": str(repository),
        "new models": ", ".join(sorted(models - replaced)) or "none",
        "replaced models": ", ".join(sorted(replaced)) or "none",
    }
    try:
        check_buildable(info.runtime, info.precision)
    except (ValueError, EngineUnavailableError) as error:
        plan[IN_THE_WAY] = str(error)
    return plan


def _costs(config: NetworkConfig, info: ModelInfo, serving: Serving) -> dict[str, str]:
    images = serving.max_batch_size * (2 if info.flip_test else 1)
    cost = network_cost(config, batch_size=images, precision=info.precision)
    weights, activations = decimal(cost.weight_bytes), decimal(cost.activation_bytes)
    total = decimal(serving.instances * (cost.weight_bytes + cost.activation_bytes))
    return {
        "network": f"{config.task.value} {config.family} {config.size}: {cost.num_parameters / 1e6:.1f} "
        f"million parameters, {cost.macs / images / 1e12:.3f} TMAC per image",
        "engine": f"{info.runtime} in {info.precision}, batches of 1 to {serving.max_batch_size}, about "
        f"{weights}",
        "GPU memory": f"about {total} on each GPU beside what CUDA takes: {serving.instances} x ({weights} "
        f"of weights + {activations} for the largest batch)",
    }
