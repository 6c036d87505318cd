"""The tiny request by which a supervisor tells whether a model works."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping
from enum import Enum

from sapiens_core.contract.model_info import CONTRACT_PARAMETER
from sapiens_server.supervise.api import Reply

_SIDE = 8  # pixels
_HEADER_BYTES, _BITMAP_HEADER_BYTES = 54, 40
_GREY = 128
_INVALID, _UNAVAILABLE = 400, 503


class Outcome(Enum):
    """What came of a canary."""

    ANSWERED = "answered"
    REFUSED = "refused"  # by a full queue: tells nothing about the model
    FAILED = "failed"


def canary_models(configs: Mapping[str, Mapping[str, object]]) -> tuple[str, ...]:
    """Return the models to ask: those that take an image and are no step of another one.

    Args:
        configs: The configs of all models by their names, as the server tells them.
    """
    steps = {step for config in configs.values() for step in _steps(config)}
    return tuple(name for name, config in configs.items() if name not in steps and _takes_image(config))


def steps_of(name: str, config: Mapping[str, object]) -> tuple[str, ...]:
    """Return the models that work on a request: the steps of an ensemble, or the model itself."""
    return tuple(_steps(config)) or (name,)


def own_models(configs: Mapping[str, Mapping[str, object]]) -> frozenset[str]:
    """Return the models of `sapiens export`, and ensembles of their steps; others may refuse a canary.

    Args:
        configs: As for `canary_models`.
    """
    own = {name for name, config in configs.items() if _has_contract(config)}
    steps = {step for name in own for step in steps_of(name, configs[name])}
    return frozenset(
        name for name in configs if name in own or steps.issuperset(steps_of(name, configs[name]))
    )


def canary_request() -> bytes:
    """Return the body of an inference request for all outputs about a grey image of a few pixels."""
    pixels = bytes([_GREY] * (_SIDE * _SIDE * 3))
    file_header = struct.pack("<2sIII", b"BM", _HEADER_BYTES + len(pixels), 0, _HEADER_BYTES)
    bitmap_header = struct.pack(
        "<IiiHHIIiiII", _BITMAP_HEADER_BYTES, _SIDE, _SIDE, 1, 24, 0, len(pixels), 0, 0, 0, 0
    )
    image = file_header + bitmap_header + pixels
    tensor = {"name": "image", "shape": [len(image)], "datatype": "UINT8", "data": list(image)}
    return json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()


def outcome_of(reply: Reply, *, is_own: bool) -> Outcome:
    """Tell what a reply says about the model; another's model that refuses the image is alive."""
    if reply.is_ok or (reply.status == _INVALID and not is_own):
        return Outcome.ANSWERED
    return Outcome.REFUSED if reply.status == _UNAVAILABLE else Outcome.FAILED


def _takes_image(config: Mapping[str, object]) -> bool:
    inputs = {tensor.get("name"): tensor for tensor in _objects(config.get("input"))}
    image = inputs.pop("image", {})
    is_image = image.get("data_type") == "TYPE_UINT8" and image.get("dims") == [-1]
    return is_image and all(tensor.get("optional") for tensor in inputs.values())


def _has_contract(config: Mapping[str, object]) -> bool:
    parameters = config.get("parameters")
    return isinstance(parameters, Mapping) and CONTRACT_PARAMETER in parameters


def _steps(config: Mapping[str, object]) -> Iterable[str]:
    scheduling = config.get("ensemble_scheduling")
    steps = scheduling.get("step") if isinstance(scheduling, Mapping) else None
    return [str(step.get("model_name")) for step in _objects(steps)]


def _objects(value: object) -> list[Mapping[str, object]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list) else []
