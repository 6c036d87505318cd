"""Triton model configs from recipes, through Triton's own protobuf message."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.contract.settings import PeopleSettings, StepSettings, finish_parameters, warmup_parameters
from sapiens_core.contract.steps import step_maps
from sapiens_core.contract.tensors import IMAGE_HW
from sapiens_core.recipes.combined import HUMAN, HUMAN_TASKS, PEOPLE_POSE
from sapiens_core.recipes.lookup import first_recipe
from sapiens_export.networks.config import DetectorConfig

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sapiens_core.contract.engines import Runtime
    from sapiens_core.contract.settings import Preprocess
    from sapiens_core.contract.steps import StepSpec
    from sapiens_core.contract.tensors import TensorSpec
    from sapiens_export.networks.config import EngineConfig, NetworkConfig
    from sapiens_export.repository.serving import Serving, StepChoices

_HEADER = "# Written by `sapiens export` from the recipes in sapiens_core/recipes; do not edit.\n"
_WARMUP_COMMENT = """\
# Triton computes the samples of model_warmup itself. Where that fails, for want of GPU memory above all, its
# core may end the whole server; the reason stands in the log before that. `sapiens export --warmup none` does
# without.
"""
_BACKENDS: Mapping[Runtime, tuple[str, str]] = {  # and platforms
    "torchscript": ("pytorch", "pytorch_libtorch"),
    "onnx": ("onnxruntime", "onnxruntime_onnx"),
    "tensorrt": ("tensorrt", "tensorrt_plan"),
}
# The profiling executor recompiles at the first calls of every batch size.
_LIBTORCH_PARAMETERS = {"INFERENCE_MODE": "true", "DISABLE_OPTIMIZED_EXECUTION": "true"}


def model_configs(
    config: EngineConfig,
    serving: Serving,
    *,
    name: str | None = None,
    runtime: Runtime = "python",
    preprocess: Preprocess = "full",
    shared: StepChoices | None = None,
    parameters: Mapping[str, str],
) -> dict[str, str]:
    """Write the config of every model that serves a network.

    Args:
        config: The network, which gives the shapes.
        serving: The operator's choices.
        name: Tells it from other networks for the task, see `Recipe.named`; None: it is the first.
        runtime: What runs the engine.
        preprocess: How pixels are prepared.
        shared: What holds for the preprocessor where the operator says nothing. None: it is the engine's own.
        parameters: Facts about the model for the ensembles, see `ModelInfo`.

    Returns:
        Model names to the text of their config.pbtxt.
    """
    spec = config.recipe if name is None else config.recipe.named(name)
    messages = [
        _engine(spec.engine, config, serving, runtime),
        _ensemble(spec.name, spec.steps, spec.outputs, config, parameters),
    ]
    if spec.raw_outputs:
        messages.append(
            _ensemble(spec.raw_name, (spec.preprocess, spec.engine), spec.raw_outputs, config, parameters)
        )
    own = serving.at_step()
    choices = {spec.preprocess: serving.at_step(shared or own), spec.postprocess: own}
    for step, chosen in choices.items():
        if step:
            messages.append(_cpu_step(step, config, chosen))
            _add_parameters(messages[-1], step_settings(config, serving, preprocess).to_parameters())
    if spec.postprocess:
        _add_parameters(messages[-1], finish_parameters(spec.finish))
    return {message.name: _text(message) for message in messages}


def _text(message: pb.ModelConfig) -> str:
    comments = _HEADER + (_WARMUP_COMMENT if message.model_warmup else "")
    return comments + text_format.MessageToString(message)


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
    message = _step(PEOPLE_POSE, pose, serving.at_step())
    message.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=serving.people_instances)
    settings = PeopleSettings(
        step_settings(detect, serving), step_settings(pose, serving, preprocess), pose.num_outputs
    )
    _add_parameters(message, {**parameters, **settings.to_parameters()})
    return _text(message)


def human_config() -> str:
    """Write the config of the ensemble that answers all dense tasks of one image."""
    specs = [first_recipe(task) for task in HUMAN_TASKS]
    outputs = (*(spec.outputs[0] for spec in specs), IMAGE_HW)
    engines = tuple(spec.engine for spec in specs)
    postprocessors = tuple(spec.postprocess for spec in specs if spec.postprocess)
    steps = (specs[0].preprocess, *engines, *postprocessors)
    return _text(_ensemble(HUMAN, steps, outputs, None, {}))


def step_settings(config: EngineConfig, serving: Serving, preprocess: Preprocess = "full") -> StepSettings:
    """Return what the steps around an engine are told about it.

    Args:
        config: The network.
        serving: The operator's choices.
        preprocess: How pixels are prepared.
    """
    settings = config.recipe.settings(config.input_hw, serving.max_batch_size, preprocess)
    if isinstance(config, DetectorConfig):
        return replace(settings, fit=config.fit, min_score=config.min_score)
    return settings


def _engine(step: StepSpec, config: EngineConfig, serving: Serving, runtime: Runtime) -> pb.ModelConfig:
    message = _step(step, config, serving.at_step(), is_batching=True)
    message.max_batch_size = serving.max_batch_size
    message.dynamic_batching.max_queue_delay_microseconds = serving.queue_delay_us
    _add_devices(message, serving)
    _add_warmup(message, serving, runtime)
    if runtime != "python":
        message.backend, message.platform = _BACKENDS[runtime]
        message.default_model_filename = ENGINE_FILES[runtime]
    if runtime == "torchscript":
        _add_parameters(message, _LIBTORCH_PARAMETERS)
    if runtime == "onnx" and serving.tensorrt_accelerator:
        # No precision_mode: with one, TensorRT may round layers that the file says are float32; without, it
        # keeps to the file's types. No cache of engines, whose files are named after the shape of a network
        # alone: another one's weights would answer.
        accelerators = message.optimization.execution_accelerators.gpu_execution_accelerator
        accelerators.add(name="tensorrt", parameters=_profile(message))
    return message


def _profile(engine: pb.ModelConfig) -> dict[str, str]:
    """Return the shapes that TensorRT compiles for: without, it compiles again for the first larger batch."""

    def shapes(batch_size: int) -> str:
        return ",".join(
            f"{tensor.name}:{'x'.join(map(str, (batch_size, *tensor.dims)))}" for tensor in engine.input
        )

    largest = shapes(engine.max_batch_size)  # for which it is tuned too, like a plan
    return {
        "trt_profile_min_shapes": shapes(1),
        "trt_profile_opt_shapes": largest,
        "trt_profile_max_shapes": largest,
    }


def _add_devices(message: pb.ModelConfig, serving: Serving) -> None:
    """Say where the engine runs: unless GPUs are named, on each GPU of the server, else on its CPU.

    The count is always said: on a CPU, Triton would load ONNX engines twice.
    """
    kind = pb.ModelInstanceGroup.KIND_GPU if serving.gpus else pb.ModelInstanceGroup.KIND_AUTO
    message.instance_group.add(kind=kind, count=serving.instances, gpus=serving.gpus)


def _add_warmup(message: pb.ModelConfig, serving: Serving, runtime: Runtime) -> None:
    if runtime == "python":
        # It warms itself up: Triton 2.51 may crash when a sample of `model_warmup` fails in a Python model.
        _add_parameters(message, warmup_parameters(serving.warmup))
        return
    for size in serving.warmup:
        sample = message.model_warmup.add(name=f"batch_of_{size}", batch_size=size)
        for tensor in message.input:
            sample.inputs[tensor.name].data_type = tensor.data_type
            sample.inputs[tensor.name].dims.extend(tensor.dims)
            sample.inputs[tensor.name].zero_data = True


def _cpu_step(step: StepSpec, config: EngineConfig, choices: StepChoices) -> pb.ModelConfig:
    message = _step(step, config, choices)
    message.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=choices.cpu_instances)
    return message


def _step(
    step: StepSpec, config: EngineConfig, choices: StepChoices, *, is_batching: bool = False
) -> pb.ModelConfig:
    message = pb.ModelConfig(name=step.name, backend="python")
    _add_tensors(message, step.inputs, step.outputs, config, shows_batch=not is_batching)
    policy = message.dynamic_batching.default_queue_policy
    policy.max_queue_size = choices.max_queue_size
    policy.allow_timeout_override = True  # nobody waits any more for a request that is past its deadline
    return message


def _ensemble(
    name: str,
    steps: Sequence[StepSpec],
    outputs: Sequence[TensorSpec],
    config: EngineConfig | None,
    parameters: Mapping[str, str],
) -> pb.ModelConfig:
    message = pb.ModelConfig(name=name, platform="ensemble")
    _add_tensors(message, steps[0].inputs, outputs, config, shows_batch=True)
    for step, maps in zip(steps, step_maps(steps, outputs), strict=True):
        scheduled = message.ensemble_scheduling.step.add(model_name=step.name, model_version=-1)
        scheduled.input_map.update(maps.inputs)
        scheduled.output_map.update(maps.outputs)
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
