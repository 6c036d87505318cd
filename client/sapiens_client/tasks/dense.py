"""Arrays as large as the image: made by the server, or here from the network's own, smaller ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from sapiens_client.errors import InferenceError, ModelNotServedError
from sapiens_client.results.base import Result
from sapiens_client.steps import Flow
from sapiens_client.tasks.sizes import sum_of_bytes
from sapiens_core.contract.tensors import IMAGE_HW
from sapiens_core.recipes.lookup import first_recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sapiens_client.tasks.call import Call
    from sapiens_client.wire.served_model import ServedModel
    from sapiens_core.contract.model_info import ModelInfo
    from sapiens_core.contract.settings import StepSettings
    from sapiens_core.contract.tensors import TensorSpec
    from sapiens_core.recipes.recipe import Recipe

R = TypeVar("R", bound=Result)


@dataclass(frozen=True)
class Lean:
    """How to have an array in fewer bytes.

    Attributes:
        recipe: How the network's own array is finished.
        ensemble: The one that returns it.
        settings: What its postprocessor is told.
    """

    recipe: Recipe
    ensemble: str
    settings: StepSettings


def dense_results(call: Call, ensemble: str, kinds: Mapping[str, Callable[..., R]]) -> Flow[dict[str, R]]:
    """Ask one ensemble for the arrays of some tasks.

    Args:
        call: About which image.
        ensemble: Its name.
        kinds: What to make of the array of each task.
    """
    models: dict[str, ModelInfo] = {}
    for task in kinds:
        models[task] = (yield from call.served_model(task)).info
    tensors = {task: _results(first_recipe(task)) for task in kinds}
    arrays = yield from call.ask(ensemble, (tensor for each in tensors.values() for tensor in each))
    return {
        task: kind(
            **_as_wished(call, tensors[task], [arrays[tensor.name] for tensor in tensors[task]]),
            **call.origin(models[task]),
        )
        for task, kind in kinds.items()
    }


def dense_result(call: Call, task: str, kind: Callable[..., R], model: str | None = None) -> Flow[R]:
    """Ask for the arrays of a task.

    Args:
        call: About which image.
        task: What to ask for.
        kind: What to make of the arrays, which it takes by their names.
        model: Name of the ensemble; None: that of the task.
    """
    served = yield from call.ensemble(task, model)
    arrays = yield from dense_arrays(call, task, served)
    return kind(**arrays, **call.origin(served.info))


def dense_arrays(call: Call, task: str, served: ServedModel) -> Flow[dict[str, NDArray[Any]]]:
    """Ask for the arrays of a task, and finish them here where that is wanted.

    Args:
        call: About which image.
        task: What to ask for.
        served: The ensemble.

    Returns:
        Arrays without the batch axis by their names, each of the shape in the task's recipe: depth is (H, W).

    Raises:
        InferenceError: The network's own array is of another form.
        SapiensError: No answer.
    """
    results = _results(first_recipe(task))
    lean = yield from lean_way(call, task, served)
    if lean is None:
        replied = yield from call.ask(served.name, results)
        arrays_of_one = [
            replied[tensor.name][0] if tensor.is_batched else replied[tensor.name] for tensor in results
        ]
        return _as_wished(call, results, arrays_of_one)
    names = [tensor.name for tensor in lean.recipe.raw_outputs]  # the image's size comes last
    arrays = yield from call.ask(lean.ensemble, lean.recipe.raw_outputs)
    try:
        found = yield from call.finish(partial(_finished, lean, [arrays[name] for name in names]))
    except (ValueError, IndexError) as error:
        shapes = " and ".join(str(arrays[name].shape) for name in names)
        raise InferenceError(
            f"'{lean.ensemble}' at {served.url} must return {' and '.join(names)} of one image, got shapes "
            f"{shapes}: {error}"
        ) from error
    for array in found:
        array.flags.writeable = False  # like one that the server made
    return _as_wished(call, results, found)


def _as_wished(
    call: Call, tensors: Sequence[TensorSpec], arrays: Sequence[NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Return arrays by name, in half precision where that is wanted and the server has not done it."""
    return {
        tensor.name: _halved(array)
        if call.wants_halves and tensor.is_halvable and array.dtype == np.float32
        else array
        for tensor, array in zip(tensors, arrays, strict=True)
    }


def _halved(array: NDArray[np.float32]) -> NDArray[np.float16]:
    from sapiens_core.images.opencv import float16_of  # here, because it loads OpenCV

    halves = float16_of(array)
    halves.flags.writeable = False
    return halves


def _results(recipe: Recipe) -> tuple[TensorSpec, ...]:
    """Return what an ensemble's results are, in the order in which the last step returns them."""
    return tuple(tensor for tensor in recipe.outputs if tensor.name != IMAGE_HW.name)


def lean_way(call: Call, task: str, served: ServedModel) -> Flow[Lean | None]:
    """Return how to have the array in fewer bytes, if that is wanted; None: ask for it as it is.

    Args:
        call: About which image.
        task: What to ask for.
        served: The ensemble.
    """
    wish, encoded = call.session.output, call.upload.encoded
    suffix = served.name.removeprefix(task).removeprefix("_")
    if wish == "image":
        return None
    try:
        spec = served.recipe.named(suffix) if suffix else served.recipe
        if spec.postprocess is None or not spec.raw_outputs:
            return None
        outputs = [
            replace(tensor, dtype="FP16") if call.wants_halves and tensor.is_halvable else tensor
            for tensor in spec.outputs
        ]
        most_bytes = (sum_of_bytes(outputs, {}, encoded) or 0) - call.session.min_saved_bytes
        if wish == "auto" and most_bytes <= 0:
            return None
        raw = yield from call.served_model(spec.raw_name)
        step = yield from call.served_model(spec.postprocess.name)
    except ModelNotServedError:
        if wish == "network":
            raise
        return None
    if wish == "auto":
        lean_bytes = sum_of_bytes(spec.raw_outputs, raw.output_dims, encoded)
        if lean_bytes is None or lean_bytes > most_bytes:
            return None
    return Lean(spec, spec.raw_name, step.settings)


def _finished(lean: Lean, arrays: Sequence[NDArray[Any]]) -> tuple[NDArray[Any], ...]:
    """Do what the server's postprocessor does, whose module is loaded now."""
    return lean.recipe.finished(*arrays, lean.settings)
