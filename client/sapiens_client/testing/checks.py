"""Requests to arrays, refused in the order and the words of Triton 2.51."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tritonclient.utils import triton_to_np_dtype

from sapiens_client.testing.faults import UNKNOWN_ID, Fault, RefusedError, invalid
from sapiens_core.contract.tensors import IMAGE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_client.testing.models import FakeModel
    from sapiens_core.contract.tensors import TensorSpec

VERSION = "1"


def found_model(models: Mapping[str, FakeModel], name: str, version: str) -> FakeModel:
    """Return the model of a request.

    Raises:
        RefusedError: There is no such model or version.
    """
    if version and not version.isdecimal():
        raise invalid(
            f"failed to get model version from specified version string '{version}' (details: stol), "
            "version should be an integral value > 0"
        )
    if name not in models:
        raise Fault.UNKNOWN_MODEL.error(name)
    if version not in ("", VERSION):
        text = f"Request for unknown model: '{name}' version {version} is not found"
        raise RefusedError(Fault.UNKNOWN_MODEL.code, text)
    return models[name]


def checked_inputs(request: Any, model: FakeModel) -> dict[str, NDArray[Any]]:
    """Return the input tensors of a request by name, read-only views of its bytes.

    Args:
        request: A `ModelInferRequest` with raw contents.
        model: The one that it asks.

    Raises:
        RefusedError: Inputs are missing, unknown, or of another type or shape than the model takes.
    """
    prefix = f"[request id: {request.id or UNKNOWN_ID}] "
    given = [tensor.name for tensor in request.inputs]
    contents = dict(zip(given, request.raw_input_contents, strict=False))
    if missing := [name for name in given if name not in contents]:
        raise invalid(
            f"unable to find data for input tensor '{missing[0]}' for model '{model.name}' in request."
        )
    if twins := [name for name, count in Counter(given).items() if count > 1]:
        raise invalid(f"{prefix}input '{twins[0]}' already exists in request")
    _check_outputs((tensor.name for tensor in request.outputs), model)
    _check_number(set(given), model, prefix)
    known = {tensor.name: tensor for tensor in model.inputs}
    if unknown := [name for name in given if name not in known]:
        raise invalid(f"unexpected inference input '{unknown[0]}' for model '{model.name}'")
    arrays = {}
    for tensor in request.inputs:
        content = contents[tensor.name]
        _check_tensor(tensor, len(content), known[tensor.name], model, prefix)
        arrays[tensor.name] = np.frombuffer(content, triton_to_np_dtype(tensor.datatype)).reshape(
            tensor.shape
        )
    if IMAGE.name not in arrays:  # optional for Triton, not for the step that it is for
        where = f"in ensemble '{model.name}', " if model.steps else ""
        sent = f"only {', '.join(arrays)}" if arrays else "nothing"
        raise invalid(f"{where}image must be sent, got {sent}; add it")
    return arrays


def wanted_outputs(request: Any, model: FakeModel) -> list[str]:
    """Return the names of the outputs that a request asks for; without any, all are meant."""
    every = [tensor.name for tensor in model.outputs]
    return list(dict.fromkeys(tensor.name for tensor in request.outputs)) or every


def _check_outputs(names: Iterable[str], model: FakeModel) -> None:
    every = {tensor.name for tensor in model.outputs}
    for name in names:
        if name not in every:
            raise invalid(f"unexpected inference output '{name}' for model '{model.name}'")


def _check_number(given: Collection[str], model: FakeModel, prefix: str) -> None:
    needed = [tensor.name for tensor in model.inputs if not tensor.is_optional]
    most, missing = len(model.inputs), sorted(set(needed) - set(given))
    if len(needed) <= len(given) <= most:
        return
    number = f"{most}" if len(needed) == most else f"number of inputs between {len(needed)} and {most}"
    # The bracket is missing in Triton's own text.
    lacking = f"[{_quoted(missing)}]" if missing else "]"
    unit = " inputs" if len(needed) == most else ""
    raise invalid(
        f"{prefix}expected {number}{unit} but got {len(given)} inputs for model '{model.name}'. "
        f"Got input(s) [{_quoted(sorted(given))}], but missing required input(s) {lacking}. "
        "Please provide all required input(s)."
    )


def _quoted(names: Iterable[str]) -> str:
    return ",".join(f"'{name}'" for name in names)


def _check_tensor(tensor: Any, num_bytes: int, spec: TensorSpec, model: FakeModel, prefix: str) -> None:
    shape, expected = list(tensor.shape), model.shape(spec)
    where = f"for input '{spec.name}' for model '{model.name}'"
    dtype = triton_to_np_dtype(tensor.datatype)
    if tensor.datatype != spec.dtype:
        kind = "<invalid>" if dtype is None else tensor.datatype
        raise invalid(
            f"{prefix}inference input '{spec.name}' data-type is '{kind}', but model '{model.name}' expects "
            f"'{spec.dtype}'"
        )
    if min(shape, default=0) < 0:
        raise invalid(f"{prefix}All input dimensions should be specified {where}, got {_dims(shape)}")
    if not _fits(shape, expected):
        raise invalid(f"{prefix}unexpected shape {where}. Expected {_dims(expected)}, got {_dims(shape)}. ")
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    if num_bytes != needed:
        raise invalid(f"{prefix}input byte size mismatch {where}. Expected {needed}, got {num_bytes}")


def _fits(shape: Sequence[int], expected: Sequence[int]) -> bool:
    pairs = zip(expected, shape, strict=False)
    return len(shape) == len(expected) and all(side in (-1, given) for side, given in pairs)


def _dims(shape: Iterable[int]) -> str:
    return f"[{','.join(map(str, shape))}]"
