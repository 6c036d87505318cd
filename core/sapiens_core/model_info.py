"""What is served: the facts that travel from export through the model config to the client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields


@dataclass(frozen=True)
class ModelInfo:
    """Origin and kind of a served network, as written into the ensemble's config.

    Attributes:
        task: What it predicts.
        family: Generation of the architecture, e.g. "sapiens".
        size: Released size such as "0.3b", or "custom".
        precision: Number format that the engine computes in.
        runtime: What runs the engine: "python", "torchscript".
        licence: Licence of the weights.
        untrained: The weights are random; results mean nothing.
        checkpoint_sha256: Hash of the checkpoint file; empty for random weights.
    """

    task: str
    family: str
    size: str
    precision: str
    runtime: str
    licence: str
    untrained: bool
    checkpoint_sha256: str

    def to_parameters(self) -> dict[str, str]:
        """Return the facts as Triton model config parameters, which are strings."""
        return {**asdict(self), "untrained": str(self.untrained).lower()}

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
        facts = {field.name: parameters[field.name] for field in fields(cls) if field.name != "untrained"}
        return cls(**facts, untrained=parameters["untrained"] == "true")
