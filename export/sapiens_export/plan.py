"""What an export would do, without doing it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich.filesize import decimal

from sapiens_export.build import check_buildable
from sapiens_export.cost import network_cost
from sapiens_export.engines import EngineUnavailableError
from sapiens_export.manifest import InstalledEngine
from sapiens_export.repository import check_models, notes_about, planned_models
from sapiens_export.served import DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sapiens_core.model_info import ModelInfo
    from sapiens_core.tasks import Runtime
    from sapiens_export.networks.config import EngineConfig
    from sapiens_export.serving import Serving


IN_THE_WAY = "in the way"
# How often the weights are in memory while an engine is built: measured with 0.1 to 0.3 thousand million of
# them, random ones and a checkpoint's. TensorRT starts from the ONNX file, and takes its own on top.
_COPIES: Mapping[Runtime, int] = {"python": 2, "torchscript": 2, "onnx": 7, "tensorrt": 7}


def export_plan(
    config: EngineConfig, info: ModelInfo, serving: Serving, name: str | None, repository: Path
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
    if notes := notes_about(repository, new):
        plan["beside these"] = "; ".join(notes)
    try:
        check_buildable(info.runtime, info.precision)
        _check_writable(repository)
    except (ValueError, EngineUnavailableError) as error:
        plan[IN_THE_WAY] = str(error)
    return plan


def _check_writable(repository: Path) -> None:
    """Refuse a folder that cannot be made or written to, as far as that shows without making it."""
    place = next(path for path in (repository.absolute(), *repository.absolute().parents) if path.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(
            f"repository must be a folder that can be written to, {place} is not; give another one"
        )


def _costs(config: EngineConfig, info: ModelInfo, serving: Serving) -> dict[str, str]:
    images = serving.max_batch_size * (2 if info.flip_test else 1)
    cost = network_cost(config, batch_size=images, precision=info.precision)
    weights, activations = decimal(cost.weight_bytes), decimal(cost.activation_bytes)
    loaded = cost.num_parameters * DTYPES["float32"].itemsize
    copies = _COPIES[info.runtime]
    total = decimal(serving.instances * (cost.weight_bytes + cost.activation_bytes))
    return {
        "network": f"{config.task.value} {config.family} {config.size}: {cost.num_parameters / 1e6:.1f} "
        f"million parameters, {cost.macs / images / 1e12:.3f} TMAC per image",
        "engine": f"{info.runtime} in {info.precision}, batches of 1 to {serving.max_batch_size}, about "
        f"{weights}",
        "GPU memory": f"about {total} on each GPU beside what CUDA takes: {serving.instances} x ({weights} "
        f"of weights + {activations} for the largest batch)",
        "memory to export": f"about {decimal(copies * loaded)} beside what torch takes: {copies} x "
        f"{decimal(loaded)} of float32 weights; without a GPU the largest batch comes on top",
    }
