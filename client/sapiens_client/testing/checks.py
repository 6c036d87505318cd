"""Requests to arrays; what no model takes is refused with Triton's status, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from sapiens_client.testing.faults import Fault, invalid
from sapiens_core.contract.tensors import IMAGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_client.testing.models import FakeModel

VERSION = "1"


def found_model(models: Mapping[str, FakeModel], name: str, version: str) -> FakeModel:
    """Return the model of a request.

    Raises:
        RefusedError: There is no such model or version.
    """
    if name not in models or version not in ("", VERSION):
        raise Fault.UNKNOWN_MODEL.error(name)
    return models[name]


def checked_inputs(request: Any, model: FakeModel) -> dict[str, NDArray[Any]]:
    """Return the input tensors of a request by name, read-only views of its bytes.

    Args:
        request: A `ModelInferRequest` with raw contents.
        model: The one that it asks.

    Raises:
        RefusedError: Inputs are missing, unknown, or of another type, shape or size than the model takes.
    """
    known = {tensor.name: tensor for tensor in model.inputs}
    names = [tensor.name for tensor in request.inputs]
    if len({*names}) < len(names) or len(request.raw_input_contents) != len(names):
        raise invalid(f"inputs of '{model.name}' must each be there once and have content, got {names}")
    arrays = {}
    for tensor, content in zip(request.inputs, request.raw_input_contents, strict=True):
        spec, dims = known.get(tensor.name), list(tensor.shape)
        if spec is None or tensor.datatype != spec.dtype or not _fits(dims, model.shape(spec)):
            takes = [(each.name, each.dtype, model.shape(each)) for each in model.inputs]
            raise invalid(
                f"inputs of '{model.name}' must be of {takes}, got {(tensor.name, tensor.datatype, dims)}"
            )
        try:
            arrays[tensor.name] = np.frombuffer(content, triton_to_np_dtype(spec.dtype)).reshape(dims)
        except ValueError as error:
            raise invalid(f"input '{tensor.name}' must have as many bytes as its shape: {error}") from error
    if IMAGE.name not in arrays:
        where = f"in ensemble '{model.name}', " if model.steps else ""
        sent = f"only {', '.join(arrays)}" if arrays else "nothing"
        raise invalid(f"{where}image must be sent, got {sent}; add it")
    return arrays


def wanted_outputs(request: Any, model: FakeModel) -> list[str]:
    """Return the names of the outputs that a request asks for; without any, all are meant.

    Raises:
        RefusedError: The model has no such output.
    """
    every = [tensor.name for tensor in model.outputs]
    wanted = list(dict.fromkeys(tensor.name for tensor in request.outputs))
    if unknown := [name for name in wanted if name not in every]:
        raise invalid(f"unexpected inference output '{unknown[0]}' for model '{model.name}'")
    return wanted or every


def _fits(dims: Sequence[int], expected: Sequence[int]) -> bool:
    pairs = zip(expected, dims, strict=False)
    return len(dims) == len(expected) and all(given >= 0 and side in (-1, given) for side, given in pairs)
