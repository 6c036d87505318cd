"""The configs of the models that serve one network, from its recipe."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tritonclient.grpc import model_config_pb2 as pb

from sapiens_core.contract.engines import ENGINE_FILES, plan_profiles
from sapiens_core.contract.settings import StepSettings, finish_parameters, warmup_parameters
from sapiens_core.contract.steps import by_position
from sapiens_export.networks.config import DetectorConfig
from sapiens_export.repository.messages import add_parameters, config_text, ensemble_message, step_message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sapiens_core.contract.engines import Runtime
    from sapiens_core.contract.settings import Preprocess
    from sapiens_core.contract.steps import StepSpec
    from sapiens_export.networks.config import EngineConfig
    from sapiens_export.repository.serving import Serving, StepChoices

_BACKENDS: Mapping[Runtime, tuple[str, str]] = {  # and platforms
    "torchscript": ("pytorch", "pytorch_libtorch"),
    "aoti": ("pytorch", "torch_aoti"),
    "onnx": ("onnxruntime", "onnxruntime_onnx"),
    "tensorrt": ("tensorrt", "tensorrt_plan"),
}
# The profiling executor recompiles at the first calls of every batch size.
_ANY_MEMORY = {"FORCE_CPU_ONLY_INPUT_TENSORS": "no"}  # an engine's outputs stay on their GPU
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
    spec = config.recipe.finished_on(serving.finish)
    spec = spec if name is None else spec.named(name)
    positional = {spec.engine.name} if serving.is_positional(runtime) else set()
    messages = [
        _engine(spec.engine, config, serving, runtime),
        ensemble_message(spec.name, spec.steps, spec.outputs, config, parameters, positional=positional),
    ]
    if spec.raw_outputs:
        lean = (spec.preprocess, spec.engine)
        messages.append(
            ensemble_message(spec.raw_name, lean, spec.raw_outputs, config, parameters, positional=positional)
        )
    settings = step_settings(config, serving, preprocess).to_parameters()
    own = serving.at_step()
    messages.append(_cpu_step(spec.preprocess, config, serving.at_step(shared or own)))
    add_parameters(messages[-1], settings)
    if spec.postprocess:
        messages.append(_finish_step(spec.postprocess, config, serving))
        add_parameters(messages[-1], settings | finish_parameters(spec.finish))
    return {message.name: config_text(message) for message in messages}


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
    step = by_position(step) if serving.is_positional(runtime) else step
    message = step_message(step, config, serving.at_step(), is_batching=True)
    message.max_batch_size = serving.max_batch_size
    message.dynamic_batching.max_queue_delay_microseconds = serving.queue_delay_us
    _add_devices(message, serving)
    _add_warmup(message, serving, runtime)
    if not serving.has_own_adapter(runtime):
        message.backend, message.platform = _BACKENDS[runtime]
        message.default_model_filename = ENGINE_FILES[runtime]
    if runtime == "tensorrt":  # which takes its first profile alone, unless told of the others
        profiles = range(len(plan_profiles(serving.max_batch_size)))
        message.instance_group[0].profile.extend(map(str, profiles))
    if runtime == "torchscript":
        add_parameters(message, _LIBTORCH_PARAMETERS)
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
    if serving.has_own_adapter(runtime):
        # It warms itself up: Triton 2.51 may crash when a sample of `model_warmup` fails in a Python model.
        add_parameters(message, warmup_parameters(serving.warmup))
        return
    for size in serving.warmup:
        sample = message.model_warmup.add(name=f"batch_of_{size}", batch_size=size)
        for tensor in message.input:
            sample.inputs[tensor.name].data_type = tensor.data_type
            sample.inputs[tensor.name].dims.extend(tensor.dims)
            sample.inputs[tensor.name].zero_data = True


def _finish_step(step: StepSpec, config: EngineConfig, serving: Serving) -> pb.ModelConfig:
    if step.kind != "torch_finish":
        return _cpu_step(step, config, serving.at_step())
    message = step_message(step, config, serving.at_step())
    _add_devices(message, serving)
    add_parameters(message, _ANY_MEMORY)
    return message


def _cpu_step(step: StepSpec, config: EngineConfig, choices: StepChoices) -> pb.ModelConfig:
    message = step_message(step, config, choices)
    message.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU, count=choices.cpu_instances)
    return message
