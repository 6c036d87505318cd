"""Triton model configs from the registry, through Triton's own protobuf message."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from sapiens_core.step_settings import PeopleSettings, StepSettings
from sapiens_core.tasks import HOG_FAMILY, HUMAN, HUMAN_TASKS, IMAGE_HW, PEOPLE_POSE, TASKS
from sapiens_export.networks.config import DetectorConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sapiens_core.tasks import Preprocess, Runtime, StepSpec, TensorSpec
    from sapiens_export.networks.config import EngineConfig, NetworkConfig

_HEADER = "# Written by `sapiens export` from the registry in sapiens_core/tasks.py; do not edit.\n"


@dataclass(frozen=True)
class Serving:
    """What an operator may choose.

    Attributes:
        max_batch_size: Largest batch of the engine.
        queue_delay_us: How long the engine waits for a fuller batch, microseconds.
        max_queue_size: Requests that may wait at each step before further ones are turned away.
        cpu_instances: Processes of each preprocessor, each postprocessor, and of the built-in detector.
        people_instances: Processes of `people_pose`, each of which is taken up by one call until that is
            answered, for the most part waiting for engines: as many as calls are expected at the same time.
            With fewer than `max_batch_size`, single persons never fill a batch.
    """

    max_batch_size: int = 4
    queue_delay_us: int = 0
    max_queue_size: int = 64
    cpu_instances: int = 2
    people_instances: int = 4


def model_configs(
    config: EngineConfig,
    serving: Serving,
    *,
    runtime: Runtime = "python",
    preprocess: Preprocess = "full",
    parameters: Mapping[str, str],
) -> dict[str, str]:
    """Write the config of every model that serves a network.

    Args:
        config: The network, which gives the shapes.
        serving: The operator's choices.
        runtime: What runs the engine.
        preprocess: How pixels are prepared.
        parameters: Facts about the model for the ensemble, see `ModelInfo`.

    Returns:
        Model names to the text of their config.pbtxt.
    """
    spec = TASKS[config.task]
    engine = _step(spec.engine, config, serving)
    engine.max_batch_size = serving.max_batch_size
    engine.dynamic_batching.max_queue_delay_microseconds = serving.queue_delay_us
    if config.family == HOG_FAMILY:
        engine.default_model_filename = adapter_file(config)
        engine.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=serving.cpu_instances)
    if runtime == "torchscript":
        engine.backend, engine.platform, engine.default_model_filename = (
            "pytorch",
            "pytorch_libtorch",
            "model.pt",
        )
    lean_steps = (spec.preprocess, spec.engine)
    steps = (*lean_steps, spec.postprocess) if spec.postprocess else lean_steps
    messages = [engine, _ensemble(spec.task.value, steps, spec.outputs, config, parameters)]
    if spec.raw_outputs:
        messages.append(_ensemble(spec.raw_name, lean_steps, spec.raw_outputs, config, parameters))
    for step in (spec.preprocess, spec.postprocess):
        if step:
            messages.append(_cpu_step(step, config, serving, preprocess))
    return {message.name: _HEADER + text_format.MessageToString(message) for message in messages}


def adapter_file(config: EngineConfig) -> str:
    """Return the name of the Python file that runs an engine."""
    return "hog.py" if config.family == HOG_FAMILY else "model.py"


def people_config(
    detect: DetectorConfig,
    pose: NetworkConfig,
    serving: Serving,
    *,
    preprocess: Preprocess = "full",
    parameters: Mapping[str, str],
) -> str:
    """Write the config of the model that finds people and their poses.

    Args:
        detect: The detector.
        pose: The pose network.
        serving: The operator's choices for the pose network.
        preprocess: How persons are cropped.
        parameters: Facts about the pose network, see `ModelInfo`.
    """
    message = _step(PEOPLE_POSE, pose, serving)
    message.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=serving.people_instances)
    settings = PeopleSettings(
        _settings(detect, serving), _settings(pose, serving, preprocess), pose.num_outputs
    )
    _add_parameters(message, {**parameters, **settings.to_parameters()})
    return _HEADER + text_format.MessageToString(message)


def human_config() -> str:
    """Write the config of the ensemble that answers all dense tasks of one image."""
    specs = [TASKS[task] for task in HUMAN_TASKS]
    outputs = (*(spec.outputs[0] for spec in specs), IMAGE_HW)
    engines = tuple(spec.engine for spec in specs)
    postprocessors = tuple(spec.postprocess for spec in specs if spec.postprocess)
    steps = (specs[0].preprocess, *engines, *postprocessors)
    return _HEADER + text_format.MessageToString(_ensemble(HUMAN, steps, outputs, None, {}))


def _settings(config: EngineConfig, serving: Serving, preprocess: Preprocess = "full") -> StepSettings:
    fit = config.fit if isinstance(config, DetectorConfig) else "stretch"
    return StepSettings(config.input_hw, serving.max_batch_size, preprocess, fit)


def _cpu_step(
    step: StepSpec, config: EngineConfig, serving: Serving, preprocess: Preprocess
) -> pb.ModelConfig:
    message = _step(step, config, serving)
    message.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=serving.cpu_instances)
    _add_parameters(message, _settings(config, serving, preprocess).to_parameters())
    return message


def _step(step: StepSpec, config: EngineConfig, serving: Serving) -> pb.ModelConfig:
    is_batching = step is TASKS[config.task].engine
    message = pb.ModelConfig(name=step.name, backend="python")
    _add_tensors(message, step.inputs, step.outputs, config, shows_batch=not is_batching)
    message.dynamic_batching.default_queue_policy.max_queue_size = serving.max_queue_size
    return message


def _ensemble(
    name: str,
    steps: Sequence[StepSpec],
    outputs: Iterable[TensorSpec],
    config: EngineConfig | None,
    parameters: Mapping[str, str],
) -> pb.ModelConfig:
    message = pb.ModelConfig(name=name, platform="ensemble")
    _add_tensors(message, steps[0].inputs, outputs, config, shows_batch=True)
    for step in steps:
        scheduled = message.ensemble_scheduling.step.add(model_name=step.name, model_version=-1)
        scheduled.input_map.update({tensor.name: tensor.name for tensor in step.inputs})
        scheduled.output_map.update({tensor.name: tensor.name for tensor in step.outputs})
    _add_parameters(message, parameters)
    return message


def _add_parameters(message: pb.ModelConfig, parameters: Mapping[str, str]) -> None:
    for name, value in parameters.items():
        message.parameters[name].string_value = value


def _add_tensors(
    message: pb.ModelConfig,
    inputs: Iterable[TensorSpec],
    outputs: Iterable[TensorSpec],
    config: EngineConfig | None,
    *,
    shows_batch: bool,
) -> None:
    for tensors, field in ((inputs, message.input), (outputs, message.output)):
        for tensor in tensors:
            added = field.add(name=tensor.name, data_type=f"TYPE_{tensor.dtype}")
            added.dims.extend(_dims(tensor, config, shows_batch))
            if tensor.is_optional:
                added.optional = True


def _dims(tensor: TensorSpec, config: EngineConfig | None, shows_batch: bool) -> list[int]:
    sizes = _sizes(config) if config else {}
    dims = [sizes[dim] if isinstance(dim, str) else dim for dim in tensor.dims]
    return [-1, *dims] if tensor.is_batched and shows_batch else dims


def _sizes(config: EngineConfig) -> dict[str, int]:
    return {
        "H": config.input_hw[0],
        "W": config.input_hw[1],
        "h": config.output_hw[0],
        "w": config.output_hw[1],
        "C": config.num_outputs,
    }
