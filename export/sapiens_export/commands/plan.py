"""What an export would do, without doing it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from rich.filesize import decimal

from sapiens_export.disk import DiskFullError, check_room, existing, room
from sapiens_export.engines.build import check_buildable
from sapiens_export.engines.cost import needed_bytes, network_cost
from sapiens_export.engines.engine import EngineUnavailableError
from sapiens_export.engines.reduced import DTYPES
from sapiens_export.repository.manifest import InstalledEngine
from sapiens_export.repository.write import check_models, notes_about, planned_models

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from sapiens_core.contract.engines import Precision, Runtime
    from sapiens_core.contract.model_info import ModelInfo
    from sapiens_export.engines.cost import NetworkCost
    from sapiens_export.networks.config import EngineConfig
    from sapiens_export.repository.serving import Serving


IN_THE_WAY = "in the way"
# How often the weights are in memory while an engine is built: measured with 0.1 to 0.3 thousand million of
# them, random ones and a checkpoint's; of aoti assumed. TensorRT starts from the ONNX file, and takes its own
# on top.
_COPIES: Mapping[Runtime, int] = {"python": 2, "torchscript": 2, "aoti": 7, "onnx": 7, "tensorrt": 7}


def export_plan(
    config: EngineConfig,
    info: ModelInfo,
    serving: Serving,
    name: str | None,
    repository: Path,
    *,
    choices: Sequence[Precision] = (),
) -> dict[str, str]:
    """Tell what an export would build and write.

    Args:
        config: The network.
        info: What is made of it.
        serving: The operator's choices.
        name: Tells it from the task's other engines; None: it is the one without a name.
        repository: Folder of models, which need not exist.
        choices: The precisions of which the faster one will be installed; fewer than two: that of `info`.

    Returns:
        Sentences by what they are about. `IN_THE_WAY` is among them if this machine cannot do it.

    Raises:
        ValueError: The repository cannot take the network.
    """
    new = InstalledEngine(config, info, serving, name)
    check_models(repository, new)
    models = planned_models(repository, new)
    replaced = {model for model in models if (repository / model).is_dir()}
    cost = network_cost(config, batch_size=_largest_batch(info, serving), precision=info.precision)
    needed = (len(choices) or 1) * needed_bytes(cost.num_parameters, config, info)
    plan = {
        **_costs(cost, config, info, serving),
        "disk": room(repository, needed),
        "licence": info.licence,
        "repository": str(repository),
        "new models": ", ".join(sorted(models - replaced)) or "none",
        "replaced models": ", ".join(sorted(replaced)) or "none",
    }
    if len(choices) > 1:
        plan["precision"] = f"the faster of {' and '.join(choices)} that is within half of its limits"
    if notes := notes_about(repository, new):
        plan["beside these"] = "; ".join(notes)
    try:
        check_buildable(info.runtime, info.precision)
        _check_writable(existing(repository))
        check_room(repository, needed)
    except (ValueError, EngineUnavailableError, DiskFullError) as error:
        plan[IN_THE_WAY] = str(error)
    return plan


def _check_writable(place: Path) -> None:
    """Refuse a folder that cannot be written to, as far as that shows without writing."""
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        raise ValueError(
            f"repository must be a folder that can be written to, {place} is not; give another one"
        )


def _largest_batch(info: ModelInfo, serving: Serving) -> int:
    return serving.max_batch_size * (2 if info.flip_test else 1)


def _costs(cost: NetworkCost, config: EngineConfig, info: ModelInfo, serving: Serving) -> dict[str, str]:
    images = _largest_batch(info, serving)
    weights, activations = decimal(cost.weight_bytes), decimal(cost.activation_bytes)
    loaded = cost.num_parameters * DTYPES["float32"].itemsize
    copies = _COPIES[info.runtime]
    total = decimal(serving.instances * (cost.weight_bytes + cost.activation_bytes))
    return {
        "network": f"{config.task} {config.family} {config.size}: {cost.num_parameters / 1e6:.1f} "
        f"million parameters, {cost.macs / images / 1e12:.3f} TMAC per image",
        "engine": f"{info.runtime} in {info.precision}, batches of 1 to {serving.max_batch_size}, about "
        f"{weights}",
        "GPU memory": f"about {total} on each GPU beside what CUDA takes: {serving.instances} x ({weights} "
        f"of weights + {activations} for the largest batch)",
        "memory to export": f"about {decimal(copies * loaded)} beside what torch takes: {copies} x "
        f"{decimal(loaded)} of float32 weights; without a GPU the largest batch comes on top",
    }
