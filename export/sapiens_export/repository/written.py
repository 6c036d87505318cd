"""Model configs that are in a repository, read again: whoever wrote them, by whichever release."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb

from sapiens_core.contract.folders import CONFIG_FILE
from sapiens_core.contract.settings import StepSettings
from sapiens_export.repository.serving import StepChoices

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class WrittenModel:
    """What a model takes and returns, by its config.

    Attributes:
        inputs: Names of the tensors it takes.
        optional: Those of them that may be absent.
        outputs: Names of the tensors it returns.
        steps: What an ensemble is made of; other models have none.
        family: Generation of its network; empty: it does not tell.
    """

    inputs: frozenset[str]
    optional: frozenset[str]
    outputs: frozenset[str]
    steps: tuple[EnsembleStep, ...]
    family: str = ""


@dataclass(frozen=True)
class EnsembleStep:
    """A model in an ensemble.

    Attributes:
        model: Its name.
        inputs: The tensors it takes by its own names, and what they are called in the ensemble.
        outputs: Likewise those that it returns.
    """

    model: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def written_model(folder: Path) -> WrittenModel:
    """Read the config in a model's folder.

    Raises:
        ValueError: There is none, or it is damaged.
    """
    message = _parsed(_text(folder))
    steps = message.ensemble_scheduling.step
    return WrittenModel(
        frozenset(tensor.name for tensor in message.input),
        frozenset(tensor.name for tensor in message.input if tensor.optional),
        frozenset(tensor.name for tensor in message.output),
        tuple(EnsembleStep(s.model_name, dict(s.input_map), dict(s.output_map)) for s in steps),
        message.parameters["family"].string_value,
    )


@dataclass(frozen=True)
class WrittenStep:
    """What the config of a step says that was written before.

    Attributes:
        settings: Facts about the engine beside it.
        choices: The operator's choices.
    """

    settings: StepSettings
    choices: StepChoices


def written_step(folder: Path) -> WrittenStep:
    """Read the config in the folder of a pre- or postprocessor.

    Raises:
        ValueError: There is none, or it is another model's, or damaged.
    """
    message = _parsed(_text(folder))
    texts = {name: parameter.string_value for name, parameter in message.parameters.items()}
    settings = StepSettings.from_parameters(texts)
    count = sum(group.count for group in message.instance_group)
    queue = message.dynamic_batching.default_queue_policy.max_queue_size
    return WrittenStep(settings, StepChoices(count, queue))


def _text(folder: Path) -> str:
    path = folder / CONFIG_FILE
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} must be readable: {error}") from error


def _parsed(config: str) -> pb.ModelConfig:
    try:
        return text_format.Parse(config, pb.ModelConfig())
    except text_format.ParseError as error:
        raise ValueError(f"config.pbtxt must be Triton's model config, got: {error}") from error
