"""Triton model configs from the registry, through Triton's own protobuf message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from sapiens_core.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sapiens_core.tasks import StepSpec, TensorSpec
    from sapiens_export.networks.config import NetworkConfig

_HEADER = "# Written by `sapiens export` from the registry in sapiens_core/tasks.py; do not edit.\n"


@dataclass(frozen=True)
class Serving:
    """What an operator may choose.

    Attributes:
        max_batch_size: Largest batch of the engine.
        queue_delay_us: How long the engine waits for a fuller batch, microseconds.
        max_queue_size: Requests that may wait at each step before further ones are turned away.
        cpu_instances: Processes of each preprocessor and each postprocessor.
    """

    max_batch_size: int = 4
    queue_delay_us: int = 0
    max_queue_size: int = 64
    cpu_instances: int = 2


def model_configs(
    config: NetworkConfig, serving: Serving, *, runtime: str, parameters: Mapping[str, str]
) -> dict[str, str]:
    """Write the config of every model that serves a network.

    Args:
        config: The network, which gives the shapes.
        serving: The operator's choices.
        runtime: What runs the engine: "python" or "torchscript".
        parameters: Facts about the model for the ensemble, see `ModelInfo`.

    Returns:
        Model names to the text of their config.pbtxt.
    """
    spec = TASKS[config.task]
    engine = _step(spec.engine, config, serving)
    engine.max_batch_size = serving.max_batch_size
    engine.dynamic_batching.max_queue_delay_microseconds = serving.queue_delay_us
    if runtime == "torchscript":
        engine.backend, engine.platform, engine.default_model_filename = (
            "pytorch",
            "pytorch_libtorch",
            "model.pt",
        )
    full_steps = (spec.preprocess, spec.engine, spec.postprocess)
    messages = [
        engine,
        _ensemble(spec.task.value, full_steps, spec.outputs, config, parameters),
        _ensemble(spec.raw_name, full_steps[:2], spec.raw_outputs, config, parameters),
    ]
    for step in (spec.preprocess, spec.postprocess):
        message = _step(step, config, serving)
        message.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=serving.cpu_instances)
        messages.append(message)
    return {message.name: _HEADER + text_format.MessageToString(message) for message in messages}


def _step(step: StepSpec, config: NetworkConfig, serving: Serving) -> pb.ModelConfig:
    is_batching = step is TASKS[config.task].engine
    message = pb.ModelConfig(name=step.name, backend="python")
    _add_tensors(message, step.inputs, step.outputs, config, shows_batch=not is_batching)
    message.dynamic_batching.default_queue_policy.max_queue_size = serving.max_queue_size
    return message


def _ensemble(
    name: str,
    steps: Sequence[StepSpec],
    outputs: Iterable[TensorSpec],
    config: NetworkConfig,
    parameters: Mapping[str, str],
) -> pb.ModelConfig:
    message = pb.ModelConfig(name=name, platform="ensemble")
    _add_tensors(message, steps[0].inputs, outputs, config, shows_batch=True)
    for step in steps:
        scheduled = message.ensemble_scheduling.step.add(model_name=step.name, model_version=-1)
        scheduled.input_map.update({tensor.name: tensor.name for tensor in step.inputs})
        scheduled.output_map.update({tensor.name: tensor.name for tensor in step.outputs})
    for key, value in parameters.items():
        message.parameters[key].string_value = value
    return message


def _add_tensors(
    message: pb.ModelConfig,
    inputs: Iterable[TensorSpec],
    outputs: Iterable[TensorSpec],
    config: NetworkConfig,
    *,
    shows_batch: bool,
) -> None:
    for tensors, field in ((inputs, message.input), (outputs, message.output)):
        for tensor in tensors:
            field.add(
                name=tensor.name, data_type=f"TYPE_{tensor.dtype}", dims=_dims(tensor, config, shows_batch)
            )


def _dims(tensor: TensorSpec, config: NetworkConfig, shows_batch: bool) -> list[int]:
    sizes = {
        "H": config.input_hw[0],
        "W": config.input_hw[1],
        "h": config.output_hw[0],
        "w": config.output_hw[1],
        "C": config.num_outputs,
    }
    dims = [sizes[dim] if isinstance(dim, str) else dim for dim in tensor.dims]
    return [-1, *dims] if tensor.is_batched and shows_batch else dims
