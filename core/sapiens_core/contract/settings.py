"""What export tells an engine and the steps around it through their model configs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

Preprocess = Literal["full", "lite"]
Fit = Literal["stretch", "letterbox", "centered_letterbox"]
# The last two are chosen by size: the first word where an image shrinks, the last where it does not.
Interpolation = Literal[
    "bilinear", "antialiased_bilinear", "antialiased_bicubic", "area_or_bilinear", "area_or_bicubic"
]

# Where what an engine returns is finished: on the CPU by numpy, or on the engine's device by torch; "auto" is
# settled by export.
Finish = Literal["auto", "cpu", "gpu"]

# What counts as a person, unless a detector is known to need another score. Source: both pose demos of the
# reference.
MIN_PERSON_SCORE = 0.3
# What nearly all steps do: of defaults, configs say nothing.
_DEFAULT_FIT: Fit = "stretch"
_DEFAULT_INTERPOLATION: Interpolation = "bilinear"
_DETECT, _POSE = "detect_", "pose_"
_WARMUP, _FINISH, _POSITIONAL = "warmup", "finish", "positional_engines"


@dataclass(frozen=True)
class StepSettings:
    """Facts about the engine that the steps beside it need.

    Attributes:
        network_hw: Height and width of the network's input.
        max_batch_size: Largest batch of the engine.
        preprocess: "full" as in training, or "lite" as in the official lite demos.
        fit: How a whole image becomes the network's input.
        interpolation: By which it is resized then.
        min_score: What a detector's candidates must score more than to be persons.
    """

    network_hw: tuple[int, int]
    max_batch_size: int
    preprocess: Preprocess = "full"
    fit: Fit = _DEFAULT_FIT
    interpolation: Interpolation = _DEFAULT_INTERPOLATION
    min_score: float = MIN_PERSON_SCORE

    @property
    def between_hw(self) -> tuple[int, int] | None:
        """Size through which maps are interpolated to the image; the lite demos go there directly: None."""
        return None if self.preprocess == "lite" else self.network_hw

    def to_parameters(self, prefix: str = "") -> dict[str, str]:
        """Return the settings as Triton model config parameters, which are strings."""
        height, width = self.network_hw
        parameters = {
            f"{prefix}network_hw": f"{height}x{width}",
            f"{prefix}max_batch_size": str(self.max_batch_size),
            f"{prefix}preprocess": self.preprocess,
        }
        if self.fit != _DEFAULT_FIT:
            parameters[f"{prefix}fit"] = self.fit
        if self.interpolation != _DEFAULT_INTERPOLATION:
            parameters[f"{prefix}interpolation"] = self.interpolation
        if self.min_score != MIN_PERSON_SCORE:
            parameters[f"{prefix}min_score"] = str(self.min_score)
        return parameters

    @classmethod
    def from_args(cls, args: Mapping[str, str], prefix: str = "") -> StepSettings:
        """Read the settings from what Triton passes to `initialize`."""
        return cls.from_parameters(_parameters(args), prefix)

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str], prefix: str = "") -> StepSettings:
        """Read the settings from model config parameters.

        Raises:
            ValueError: One is missing or is no such setting: the model was not written by `sapiens export`.
        """
        try:
            height, width = parameters[f"{prefix}network_hw"].split("x")
            return cls(
                (int(height), int(width)),
                int(parameters[f"{prefix}max_batch_size"]),
                cast("Preprocess", parameters[f"{prefix}preprocess"]),
                cast("Fit", parameters.get(f"{prefix}fit", _DEFAULT_FIT)),
                cast("Interpolation", parameters.get(f"{prefix}interpolation", _DEFAULT_INTERPOLATION)),
                float(parameters.get(f"{prefix}min_score", MIN_PERSON_SCORE)),
            )
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"model config must carry the settings of a step, got {sorted(parameters)}: {error!r}; "
                "write the repository with `sapiens export`"
            ) from error


@dataclass(frozen=True)
class PeopleSettings:
    """Facts about the two engines that the pose of all people takes.

    Attributes:
        detect: Of the detector.
        pose: Of the pose network.
        num_keypoints: Keypoints of a person; where there is nobody, no engine tells.
        positional: Names of those of the two engines whose tensors are called as by `by_position`.
    """

    detect: StepSettings
    pose: StepSettings
    num_keypoints: int
    positional: tuple[str, ...] = ()

    def to_parameters(self) -> dict[str, str]:
        """Return the settings as Triton model config parameters, which are strings."""
        engines = self.detect.to_parameters(_DETECT) | self.pose.to_parameters(_POSE)
        positional = {_POSITIONAL: ",".join(self.positional)} if self.positional else {}
        return engines | {"num_keypoints": str(self.num_keypoints)} | positional

    @classmethod
    def from_args(cls, args: Mapping[str, str]) -> PeopleSettings:
        """Read the settings from what Triton passes to `initialize`."""
        return cls(
            StepSettings.from_args(args, _DETECT),
            StepSettings.from_args(args, _POSE),
            int(_parameters(args)["num_keypoints"]),
            tuple(filter(None, _parameters(args).get(_POSITIONAL, "").split(","))),
        )


def warmup_parameters(sizes: Sequence[int]) -> dict[str, str]:
    """Return, as a Triton model config parameter, what batches an engine shall compute when it is loaded."""
    return {_WARMUP: ",".join(map(str, sizes))} if sizes else {}


def warmup_sizes(args: Mapping[str, str]) -> tuple[int, ...]:
    """Read these sizes from what Triton passes to `initialize`; without the parameter there are none."""
    text = _parameters(args).get(_WARMUP)
    return tuple(map(int, text.split(","))) if text else ()


def batch_sizes_to_prepare(args: Mapping[str, str], *, is_gpu: bool) -> tuple[int, ...]:
    """Return what batches an engine of ours computes when it is loaded.

    Args:
        args: What Triton passes to `initialize`.
        is_gpu: It runs on a GPU, where each new size of a batch takes long: then all sizes, unless the
            operator wants none.
    """
    sizes = warmup_sizes(args)
    largest = json.loads(args["model_config"])["max_batch_size"]
    return tuple(range(1, largest + 1)) if is_gpu and sizes else sizes


def num_instances(args: Mapping[str, str]) -> int:
    """Return how many processes run a model, from what Triton passes to `initialize`."""
    groups = json.loads(args["model_config"]).get("instance_group", [])
    return sum(group.get("count", 1) for group in groups) or 1


def finish_parameters(function: str) -> dict[str, str]:
    """Return, as a Triton model config parameter, which function finishes what an engine returns."""
    return {_FINISH: function}


def finish_function(args: Mapping[str, str]) -> str:
    """Read the function's name from what Triton passes to `initialize`."""
    return _parameters(args)[_FINISH]


def _parameters(args: Mapping[str, str]) -> dict[str, str]:
    parameters = json.loads(args["model_config"]).get("parameters", {})
    return {name: parameter["string_value"] for name, parameter in parameters.items()}
