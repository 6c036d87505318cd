"""Triton's Python backend, fenced: adapters hand a pure function to `respond` and never meet the protocol.

Runs inside the interpreter that Triton embeds, where `triton_python_backend_utils` exists. Importing this
module configures that process: one OpenCV thread per model instance, since instances are the parallelism.
"""

from __future__ import annotations

import json
import traceback
from typing import TYPE_CHECKING, Any

import cv2
import triton_python_backend_utils as pb_utils

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    Compute = Callable[..., Mapping[str, NDArray[Any]]]

cv2.setNumThreads(1)


def respond(requests: Sequence[Any], inputs: Sequence[str], compute: Compute) -> list[Any]:
    """Answer each request by one call of a pure function; no request can spoil another one.

    Args:
        requests: What Triton passes to `execute`.
        inputs: Names of the input tensors, in the order of the parameters of `compute`.
        compute: Arrays to named output arrays. Its ValueErrors are the caller's fault (INVALID_ARGUMENT with
            the sentence), everything else is ours (INTERNAL, the stack goes to the server's log).

    Returns:
        One response per request. Requests whose client has left are not computed.
    """
    return [_answer(request, inputs, compute) for request in requests]


def output_dims(args: Mapping[str, str], name: str) -> tuple[int, ...]:
    """Return the configured shape of an output tensor, from what Triton passes to `initialize`."""
    dims = pb_utils.get_output_config_by_name(json.loads(args["model_config"]), name)["dims"]
    return tuple(int(dim) for dim in dims)


def _answer(request: Any, inputs: Sequence[str], compute: Compute) -> Any:
    if request.is_cancelled():
        return _failure("the caller has left", pb_utils.TritonError.CANCELLED)
    try:
        arrays = [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in inputs]
        outputs = compute(*arrays)
    except ValueError as error:
        return _failure(str(error), pb_utils.TritonError.INVALID_ARG)
    except Exception as error:  # noqa: BLE001 - the caller gets one line, the log the stack
        pb_utils.Logger.log_error(traceback.format_exc())
        return _failure(f"{type(error).__name__}: {error}", pb_utils.TritonError.INTERNAL)
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in outputs.items()])


def _failure(message: str, code: Any) -> Any:
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
