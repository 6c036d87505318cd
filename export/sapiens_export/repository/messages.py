"""Triton's own protobuf message for a model's config: steps, ensembles, tensors, parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from sapiens_core.contract.steps import by_position, step_maps

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from sapiens_core.contract.steps import StepSpec
    from sapiens_core.contract.tensors import TensorSpec
    from sapiens_export.networks.config import EngineConfig
    from sapiens_export.repository.serving import StepChoices

_HEADER = "# Written by `sapiens export` from the recipes in sapiens_core/recipes; do not edit.\n"
_WARMUP_COMMENT = """\
# Triton computes the samples of model_warmup itself. Where that fails, for want of GPU memory above all, its
# core may end the whole server; the reason stands in the log before that. `sapiens export --warmup none` does
# without.
"""
# A day. Of a request's timeout Triton takes notice only where it is shorter than the queue's, by itself none.
_QUEUE_TIMEOUT_US = 24 * 3600 * 10**6


def config_text(message: pb.ModelConfig) -> str:
    """Return the text of a config.pbtxt."""
    comments = _HEADER + (_WARMUP_COMMENT if message.model_warmup else "")
    return comments + text_format.MessageToString(message)


def step_message(
    step: StepSpec, config: EngineConfig, choices: StepChoices, *, is_batching: bool = False
) -> pb.ModelConfig:
    """Describe a step that Triton's Python backend runs.

    Args:
        step: Its contract.
        config: The network, which gives the shapes.
        choices: The operator's choices.
        is_batching: Triton puts requests together, and leaves the batch axis out of the shapes.
    """
    message = pb.ModelConfig(name=step.name, backend="python")
    _add_tensors(message, step.inputs, step.outputs, config, shows_batch=not is_batching)
    policy = message.dynamic_batching.default_queue_policy
    policy.max_queue_size = choices.max_queue_size
    policy.allow_timeout_override = True  # nobody waits any more for a request that is past its deadline
    policy.default_timeout_microseconds = _QUEUE_TIMEOUT_US
    return message


def ensemble_message(
    name: str,
    steps: Sequence[StepSpec],
    outputs: Sequence[TensorSpec],
    config: EngineConfig | None,
    parameters: Mapping[str, str],
    *,
    positional: Collection[str] = (),
) -> pb.ModelConfig:
    """Describe an ensemble.

    Args:
        name: Of the ensemble.
        steps: Their order; the first takes what the ensemble takes.
        outputs: What it returns.
        config: The network, which gives the shapes; None: no shape depends on one.
        parameters: Facts for clients.
        positional: Names of the steps whose tensors are called as by `by_position`.
    """
    message = pb.ModelConfig(name=name, platform="ensemble")
    _add_tensors(message, steps[0].inputs, outputs, config, shows_batch=True)
    for step, maps in zip(steps, step_maps(steps, outputs), strict=True):
        scheduled = message.ensemble_scheduling.step.add(model_name=step.name, model_version=-1)
        own = _names_by_position(step) if step.name in positional else {}
        scheduled.input_map.update({own.get(name, name): called for name, called in maps.inputs.items()})
        scheduled.output_map.update({own.get(name, name): called for name, called in maps.outputs.items()})
    add_parameters(message, parameters)
    return message


def add_parameters(message: pb.ModelConfig, parameters: Mapping[str, str]) -> None:
    """Write facts into a config, as texts by their names."""
    for name, value in parameters.items():
        message.parameters[name].string_value = value


def _names_by_position(step: StepSpec) -> dict[str, str]:
    """Return how a step calls its tensors, by the names in its contract."""
    own = by_position(step)
    pairs = zip((*step.inputs, *step.outputs), (*own.inputs, *own.outputs), strict=True)
    return {tensor.name: called.name for tensor, called in pairs}


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
