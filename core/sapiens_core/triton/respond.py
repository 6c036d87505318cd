"""Triton's Python backend, fenced: adapters hand a pure function to `respond` and never meet the protocol.

Runs inside the interpreter that Triton embeds, where `triton_python_backend_utils` exists. Importing this
module configures that process: one OpenCV thread per model instance, since instances are the parallelism, and
as many pixels as the operator allows.
"""

from __future__ import annotations

import json
import os
import time
import traceback
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import triton_python_backend_utils as pb_utils

from sapiens_core.contract.limits import MAX_PIXELS_VARIABLE, allow_pixels, checked_max_pixels
from sapiens_core.contract.metrics import RefusedError
from sapiens_core.contract.region_names import without_region_names
from sapiens_core.contract.tensors import BBOXES, RESULT_DTYPE, WHOLE_IMAGE_IF_NOBODY
from sapiens_core.images.opencv import float16_of
from sapiens_core.triton.heap import Heap

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from numpy.typing import NDArray

    from sapiens_core.contract.steps import StepSpec
    from sapiens_core.triton.figures import Figures

    Compute = Callable[..., Mapping[str, NDArray[Any]]]

# Texts of the server where a model takes no request now; a client may try again.
_NOT_LET_IN = ("Exceeds maximum queue size", "is not ready")

_MAX_LETTERS = 1000  # of an error: it travels in a header, of which gRPC takes 8 KB

_OPTIONAL = {BBOXES.name, WHOLE_IMAGE_IF_NOBODY.name}

_HEAP = Heap()

cv2.setNumThreads(1)
if MAX_PIXELS_VARIABLE in os.environ:
    allow_pixels(checked_max_pixels(os.environ[MAX_PIXELS_VARIABLE]))


@dataclass(frozen=True)
class Step:
    """The tensors of a model, as its config names them.

    Attributes:
        inputs: Their names, in their order.
        outputs: Likewise.
        halvable: Those of its outputs that a request may have in half precision.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    halvable: frozenset[str] = frozenset()

    @classmethod
    def from_args(cls, args: Mapping[str, str]) -> Step:
        """Read the names from what Triton passes to `initialize`."""
        config = json.loads(args["model_config"])
        inputs, outputs = (tuple(tensor["name"] for tensor in config[side]) for side in ("input", "output"))
        return cls(inputs, outputs, frozenset(_halvable(config["output"])))


def _halvable(outputs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which outputs are `TensorSpec.is_halvable`."""
    return [
        output["name"]
        for output in outputs
        if output["data_type"] == "TYPE_FP32" and [*map(int, output["dims"][:2])] == [-1, -1]
    ]


class EngineError(Exception):
    """A failure with a status of its own, such as another model's.

    Args:
        message: What to tell the caller.
        code: Triton's status.
    """

    def __init__(self, message: str, code: Any) -> None:
        super().__init__(message)
        self.code = code


def _numpy_of(tensor: Any) -> Any:
    return tensor.as_numpy()


def respond(
    requests: Sequence[Any],
    inputs: Sequence[str],
    compute: Compute,
    *,
    engines: Sequence[StepSpec] = (),
    figures: Figures | None = None,
    taken: Callable[[Any], Any] = _numpy_of,
    halvable: Collection[str] = (),
) -> list[Any]:
    """Answer each request by one call of a pure function; no request can spoil another one.

    Args:
        requests: What Triton passes to `execute`.
        inputs: Names of the input tensors, in the order of the parameters of `compute`. One that callers
            may leave out is passed as None; without another one nothing is computed.
        compute: Arrays to named output arrays. Its ValueErrors are the caller's fault (INVALID_ARGUMENT with
            the sentence), everything else is ours (INTERNAL, the stack goes to the server's log).
        engines: Models that `compute` calls: it gets them as functions on arrays, before its own arrays. What
            such a model answers instead of a result (that its queue is full, say) becomes the caller's
            answer, with its status.
        figures: Told what became of the requests.
        taken: Turns Triton's tensors into what `compute` takes.
        halvable: Names of the outputs that a request may have in half precision, see `RESULT_DTYPE`.

    Returns:
        One response per request. For a client that has left, nothing is computed and no engine called.
    """

    def answers(some: Sequence[Any]) -> list[Any]:
        return [
            _answer(request, inputs, partial(compute, *_called_for(request, engines)), taken, halvable)
            for request in some
        ]

    return [response for request in requests for response in answered([request], answers, figures)]


def answered(
    requests: Sequence[Any], answers: Callable[[Sequence[Any]], list[Any]], figures: Figures | None
) -> list[Any]:
    """Answer requests whatever happens: what `answers` raises becomes the answer to each, see `failure`."""
    started_s = time.perf_counter()
    _HEAP.look()
    try:
        return answers(requests)
    except Exception as error:  # noqa: BLE001 - a request without an answer would never end
        if figures and not isinstance(error, EngineError):  # another model counts that itself
            figures.failed(error)
        ids = ", ".join(filter(None, (request.request_id() for request in requests)))
        return [failure(error, ids) for _ in requests]
    finally:
        _HEAP.look()
        if figures:
            figures.took(time.perf_counter() - started_s)


def _answer(
    request: Any,
    inputs: Sequence[str],
    compute: Compute,
    taken: Callable[[Any], Any],
    halvable: Collection[str],
) -> Any:
    _refuse_if_cancelled(request)
    tensors = {name: pb_utils.get_input_tensor_by_name(request, name) for name in inputs}
    _check_needed(tensors)
    arrays = (None if tensor is None else taken(tensor) for tensor in tensors.values())
    outputs = compute(*arrays)
    if halvable and _wants_halves(request):
        outputs = {name: float16_of(array) if name in halvable else array for name, array in outputs.items()}
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in outputs.items()])


def _called_for(request: Any, engines: Sequence[StepSpec]) -> list[Callable[..., tuple[NDArray[Any], ...]]]:
    return [partial(_called, request, engine) for engine in engines]


def _wants_halves(request: Any) -> bool:
    text = request.parameters()
    dtype = json.loads(text).get(RESULT_DTYPE, "FP32") if text else "FP32"
    if dtype not in ("FP16", "FP32"):
        raise RefusedError(f"{RESULT_DTYPE} must be FP16 or FP32, got {dtype!r:.80}; leave it out", "other")
    return bool(dtype == "FP16")


def _check_needed(tensors: Mapping[str, Any]) -> None:
    """Triton only counts the inputs that come, and takes an optional one for another."""
    if missing := [name for name, tensor in tensors.items() if tensor is None and name not in _OPTIONAL]:
        sent = ", ".join(name for name, tensor in tensors.items() if tensor is not None)
        raise RefusedError(
            f"{' and '.join(missing)} must be sent, got {f'only {sent}' if sent else 'nothing'}; add it",
            "incomplete",
        )


def failure(error: Exception, request_ids: str = "") -> Any:
    """Turn an error into an answer: one line for the caller, and the stack for the log if it is our fault."""
    if isinstance(error, EngineError):
        code = error.code
    elif isinstance(error, ValueError):
        code = pb_utils.TritonError.INVALID_ARG
    else:
        about = f"[request id: {request_ids}] " if request_ids else ""
        pb_utils.Logger.log_error(about + "".join(traceback.format_exception(error)))
        code, error = pb_utils.TritonError.INTERNAL, EngineError(f"{type(error).__name__}: {error}", None)
    return pb_utils.InferenceResponse(
        error=pb_utils.TritonError(without_region_names(str(error))[:_MAX_LETTERS], code)
    )


def _called(request: Any, engine: StepSpec, *arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    """Return an engine's outputs for arrays, on behalf of a request: its deadline goes along."""
    _refuse_if_cancelled(request)
    names = [tensor.name for tensor in engine.outputs]
    response = pb_utils.InferenceRequest(
        model_name=engine.name,
        inputs=[
            pb_utils.Tensor(tensor.name, array) for tensor, array in zip(engine.inputs, arrays, strict=True)
        ],
        requested_output_names=names,
        request_id=request.request_id(),
        timeout=request.timeout(),
        trace=request.trace(),
        preferred_memory=pb_utils.PreferredMemory(pb_utils.TRITONSERVER_MEMORY_CPU),
    ).exec()
    if response.has_error():
        raise _engine_error(response.error())
    outputs = [pb_utils.get_output_tensor_by_name(response, name) for name in names]
    return tuple(np.array(output.as_numpy()) for output in outputs)  # the response's memory goes with it


def _engine_error(error: Any) -> EngineError:
    """Keep an engine's message and status. Of a request that is not let in, Triton forgets the status."""
    message, code = error.message(), error.code()
    if any(text in message for text in _NOT_LET_IN):
        code = pb_utils.TritonError.UNAVAILABLE
    return EngineError(message, code)


def caller_left() -> EngineError:
    """Return the error of a request for whose answer nobody waits any more."""
    return EngineError("the caller has left", pb_utils.TritonError.CANCELLED)


def _refuse_if_cancelled(request: Any) -> None:
    if request.is_cancelled():
        raise caller_left()
