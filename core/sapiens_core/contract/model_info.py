"""What is served: the facts that travel from export through the model config to the client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields

from sapiens_core.contract.engines import Precision, Runtime
from sapiens_core.contract.settings import Preprocess

# Goes up when clients and repositories of before and after would not understand each other.
CONTRACT = 1
CONTRACT_PARAMETER = "contract"
_PARITY = "parity"


@dataclass(frozen=True)
class ModelInfo:
    """Origin and kind of a served network, as written into the ensemble's config.

    Attributes:
        task: What it predicts.
        family: Generation of the architecture, e.g. "sapiens"; kind of detector, e.g. "nanodet".
        size: Released size such as "0.3b", or "custom"; name of a detector.
        labels: Name of the set of keypoints or classes that its outputs stand for; empty where there is none.
        precision: Number format that the engine computes in.
        runtime: What runs the engine: the Python backend with torch, or Triton's backend for the format.
        preprocess: "full" as in training, or "lite" as in the official lite demos.
        flip_test: The network also sees every image mirrored, and both answers are averaged.
        licence: Licence of the weights.
        untrained: The weights are random; results mean nothing.
        checkpoint_sha256: Hash of the checkpoint file; empty where there is none.
    """

    task: str
    family: str
    size: str
    labels: str
    precision: Precision
    runtime: Runtime
    preprocess: Preprocess
    flip_test: bool
    licence: str
    untrained: bool
    checkpoint_sha256: str

    def to_parameters(self) -> dict[str, str]:
        """Return the facts as Triton model config parameters, which are strings."""
        facts = {CONTRACT_PARAMETER: str(CONTRACT), **vars(self)}.items()
        return {name: str(value).lower() if isinstance(value, bool) else value for name, value in facts}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str]) -> ModelInfo:
        """Read the facts from model config parameters.

        Raises:
            ValueError: A fact is missing: the model was not written by `sapiens export`; or it was, by a
                release that this one does not understand.
        """
        wanted = [CONTRACT_PARAMETER, *(field.name for field in fields(cls))]
        missing = [name for name in wanted if name not in parameters]
        if missing:
            raise ValueError(
                f"model config must carry the parameters {missing}, got {sorted(parameters)}; "
                "write the repository with `sapiens export`"
            )
        _check_contract(parameters[CONTRACT_PARAMETER])
        texts = {field.name: parameters[field.name] for field in fields(cls)}
        flags = {field.name: texts[field.name] == "true" for field in fields(cls) if field.type == "bool"}
        return cls(**{**texts, **flags})  # type: ignore[arg-type]


def _check_contract(text: str) -> None:
    if text != str(CONTRACT):
        is_newer = text.isdecimal() and int(text) > CONTRACT
        advice = "upgrade sapiens-triton where the client runs" if is_newer else "export it again"
        raise ValueError(
            f"model must follow contract {CONTRACT}, the one of this release, got {text}; {advice}"
        )


def parity_parameters(measures: Mapping[str, float]) -> dict[str, str]:
    """Return how far an engine was from its float32 network as a Triton model config parameter.

    Args:
        measures: Values by their names in `sapiens_core.recipes.tolerances.MEASURES`.
    """
    return {_PARITY: json.dumps(measures)} if measures else {}


def parity_of(parameters: Mapping[str, str]) -> dict[str, float]:
    """Read what `parity_parameters` wrote; without the parameter nothing is known.

    Raises:
        ValueError: It is something else.
    """
    measures = json.loads(parameters.get(_PARITY, "{}"))
    if not isinstance(measures, dict) or not all(
        isinstance(value, int | float) for value in measures.values()
    ):
        raise ValueError(
            f"parity must be numbers by their names, got {measures!r:.80}; export the model again"
        )
    return {name: float(value) for name, value in measures.items()}
