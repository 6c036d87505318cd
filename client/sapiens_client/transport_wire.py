"""Triton's messages to and from bytes, without copying the tensors in them.

The generated classes copy a tensor when a message is filled or read, and once more when it is serialised or
parsed; each copy of some megabytes is paid in page faults. With the tensors' fields written and read here, a
round trip over loopback takes 0.45 of tritonclient's time for a reply of 6 MB, 0.5 for a request of 36 MB.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from tritonclient.grpc.service_pb2 import (
    ModelConfigRequest,
    ModelConfigResponse,
    ModelInferRequest,
    ModelInferResponse,
    ModelStatisticsResponse,
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    StatisticDuration,
)
from tritonclient.utils import np_to_triton_dtype, triton_to_np_dtype

from sapiens_client.inventory import StepLoad
from sapiens_client.served_model import ServedModel

if TYPE_CHECKING:
    from numpy.typing import NDArray

# protobuf's wire types, the lowest 3 bits of a field's key, say how long the field is.
_VARINT, _LENGTH_DELIMITED = 0, 2
_FIXED_SIZES = {1: 8, 5: 4}


def encoded_request(
    model: str,
    inputs: Mapping[str, NDArray[Any]],
    outputs: Sequence[str],
    *,
    request_id: str = "",
    timeout_s: float | None = None,
) -> bytes:
    """Serialise a `ModelInferRequest`.

    Args:
        model: Name of the model.
        inputs: Input tensors by name, of any shape and any dtype but strings. Copied once, into the result.
        outputs: Names of the output tensors wanted.
        request_id: What the server's log calls the request.
        timeout_s: How long the answer is of use; queues may drop the request after that. None: any time.
    """
    message = ModelInferRequest(model_name=model, id=request_id)
    if timeout_s is not None:
        message.parameters["timeout"].int64_param = max(1, int(timeout_s * 1e6))
    for name, array in inputs.items():
        message.inputs.add(name=name, datatype=np_to_triton_dtype(array.dtype), shape=array.shape)
    for name in outputs:
        message.outputs.add(name=name)
    key = _varint(ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER << 3 | _LENGTH_DELIMITED)
    parts: list[Any] = [message.SerializeToString()]
    for array in inputs.values():
        parts += [key, _varint(array.nbytes), np.ascontiguousarray(array)]
    return b"".join(parts)


def encoded_config_request(model: str) -> bytes:
    """Serialise a `ModelConfigRequest`."""
    return bytes(ModelConfigRequest(name=model).SerializeToString())


def served_model(reply: bytes, model: str, url: str) -> ServedModel:
    """Read a serialised `ModelConfigResponse`.

    Args:
        reply: Its bytes.
        model: Name of the model.
        url: Where it is served.

    Raises:
        Exception: The bytes are no such message.
    """
    config = ModelConfigResponse.FromString(reply).config
    return ServedModel(
        name=model,
        url=url,
        parameters={name: value.string_value for name, value in config.parameters.items()},
        output_dims={output.name: tuple(output.dims) for output in config.output},
        steps=tuple(step.model_name for step in config.ensemble_scheduling.step),
    )


def encoded_index_request() -> bytes:
    """Serialise a `RepositoryIndexRequest` for the models that are ready."""
    return bytes(RepositoryIndexRequest(ready=True).SerializeToString())


def model_names(reply: bytes) -> tuple[str, ...]:
    """Read the names in a serialised `RepositoryIndexResponse`, each once.

    Raises:
        Exception: The bytes are no such message.
    """
    return tuple(dict.fromkeys(model.name for model in RepositoryIndexResponse.FromString(reply).models))


def step_loads(reply: bytes) -> dict[str, StepLoad]:
    """Read a serialised `ModelStatisticsResponse`.

    Raises:
        Exception: The bytes are no such message.
    """
    return {
        model.name: StepLoad(
            num_requests=model.inference_stats.success.count,
            queue_s=_mean_s(model.inference_stats.queue),
            compute_s=_mean_s(
                model.inference_stats.compute_input,
                model.inference_stats.compute_infer,
                model.inference_stats.compute_output,
            ),
        )
        for model in ModelStatisticsResponse.FromString(reply).model_stats
    }


def _mean_s(*parts: StatisticDuration) -> float:
    return sum(part.ns / part.count if part.count else np.nan for part in parts) / 1e9


def decoded_reply(reply: bytes) -> dict[str, NDArray[Any]]:
    """Read the output tensors of a serialised `ModelInferResponse`.

    Returns:
        Arrays by name, each of the shape that the reply states: read-only views of `reply`, maybe unaligned.

    Raises:
        Exception: The bytes are no such message; of which class depends on what is wrong with them.
    """
    outputs, contents = [], []
    for number, payload in _fields(memoryview(reply)):
        if number == ModelInferResponse.OUTPUTS_FIELD_NUMBER:
            outputs.append(ModelInferResponse.InferOutputTensor.FromString(payload))
        elif number == ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER:
            contents.append(payload)
    return {
        output.name: np.frombuffer(content, _dtype(output.datatype)).reshape(output.shape)
        for output, content in zip(outputs, contents, strict=True)
    }


def _dtype(datatype: str) -> Any:
    dtype = triton_to_np_dtype(datatype)
    if dtype is None:  # which numpy would take for float64
        raise ValueError(f"datatype must be one of Triton's, got {datatype!r}")
    return dtype


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and payload of every field, also of those that newer servers may add."""
    start = 0
    while start < len(message):
        key, start = _read_varint(message, start)
        if key & 7 == _LENGTH_DELIMITED:
            size, start = _read_varint(message, start)
        elif key & 7 == _VARINT:
            size = _read_varint(message, start)[1] - start
        else:
            size = _FIXED_SIZES[key & 7]
        yield key >> 3, message[start : start + size]
        start += size


def _varint(number: int) -> bytes:
    """Write 7 bits a byte, the lowest first; a high bit says that more follow."""
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def _read_varint(message: memoryview, start: int) -> tuple[int, int]:
    """Return the number at `start` and where it ends."""
    number = shift = 0
    while message[start] > 127:
        number |= (message[start] & 127) << shift
        shift += 7
        start += 1
    return number | message[start] << shift, start + 1
