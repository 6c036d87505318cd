"""What is served: the facts that travel from export through the model config to the client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from sapiens_core.tasks import Precision, Preprocess, Runtime


@dataclass(frozen=True)
class ModelInfo:
    """Origin and kind of a served network, as written into the ensemble's config.

    Attributes:
        task: What it predicts.
        family: Generation of the architecture, e.g. "sapiens"; kind of detector, e.g. "opencv-hog".
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
        facts = vars(self).items()
        return {name: str(value).lower() if isinstance(value, bool) else value for name, value in facts}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str]) -> ModelInfo:
        """Read the facts from model config parameters.

        Raises:
            ValueError: A fact is missing: the model was not written by `sapiens export`.
        """
        missing = [field.name for field in fields(cls) if field.name not in parameters]
        if missing:
            raise ValueError(
                f"model config must carry the parameters {missing}, got {sorted(parameters)}; "
                "write the repository with `sapiens export`"
            )
        texts = {field.name: parameters[field.name] for field in fields(cls)}
        flags = {field.name: texts[field.name] == "true" for field in fields(cls) if field.type == "bool"}
        return cls(**{**texts, **flags})  # type: ignore[arg-type]
