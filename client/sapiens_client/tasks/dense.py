"""Arrays as large as the image: made by the server, or here from the network's own, smaller ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from sapiens_client.errors import InferenceError, ModelNotServedError
from sapiens_client.results.base import Result
from sapiens_client.steps import Flow
from sapiens_client.tasks.sizes import num_bytes
from sapiens_core.contract.tensors import IMAGE_HW
from sapiens_core.recipes.lookup import first_recipe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from sapiens_client.tasks.call import Call
    from sapiens_client.wire.served_model import ServedModel
    from sapiens_core.contract.model_info import ModelInfo
    from sapiens_core.contract.settings import StepSettings
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
    tensors = {task: first_recipe(task).outputs[0] for task in kinds}
    arrays = yield from call.ask(ensemble, tensors.values())
    return {
        task: kind(**{tensors[task].name: arrays[tensors[task].name]}, **call.origin(models[task]))
        for task, kind in kinds.items()
    }


def dense_result(call: Call, task: str, kind: Callable[..., R], model: str | None = None) -> Flow[R]:
    """Ask for the one array of a task.

    Args:
        call: About which image.
        task: What to ask for.
        kind: What to make of the array.
        model: Name of the ensemble; None: that of the task.
    """
    served = yield from call.ensemble(task, model)
    array = yield from dense_array(call, task, served)
    return kind(**{first_recipe(task).outputs[0].name: array}, **call.origin(served.info))


def dense_array(call: Call, task: str, served: ServedModel) -> Flow[NDArray[Any]]:
    """Ask for the array of a task, and finish it here where that is wanted.

    Args:
        call: About which image.
        task: What to ask for.
        served: The ensemble.

    Returns:
        Of the shape that the task has: (H, W), (H, W, 3) or (C, h, w).

    Raises:
        InferenceError: The network's own array is of another form.
        SapiensError: No answer.
    """
    tensor = first_recipe(task).outputs[0]
    lean = yield from lean_way(call, task, served)
    if lean is None:
        array = (yield from call.ask(served.name, [tensor]))[tensor.name]
        return array[0] if tensor.is_batched else array
    outputs = lean.recipe.raw_outputs
    arrays = yield from call.ask(lean.ensemble, outputs)
    maps, image_hw = arrays[outputs[0].name], arrays[IMAGE_HW.name]
    try:
        array = yield from call.finish(partial(_finished, lean, maps, image_hw))
    except (ValueError, IndexError) as error:
        raise InferenceError(
            f"'{lean.ensemble}' at {served.url} must return {outputs[0].name} and {IMAGE_HW.name} of one "
            f"image, got shapes {maps.shape} and {image_hw.shape}: {error}"
        ) from error
    array.flags.writeable = False  # like one that the server made
    return array


def lean_way(call: Call, task: str, served: ServedModel) -> Flow[Lean | None]:
    """Return how to have the array in fewer bytes, if that is wanted; None: ask for it as it is.

    Args:
        call: About which image.
        task: What to ask for.
        served: The ensemble.
    """
    wish = call.session.output
    suffix = served.name.removeprefix(task).removeprefix("_")
    if wish == "image":
        return None
    try:
        spec = served.recipe.named(suffix) if suffix else served.recipe
        if spec.postprocess is None or not spec.raw_outputs:
            return None
        raw = yield from call.served_model(spec.raw_name)
        step = yield from call.served_model(spec.postprocess.name)
    except ModelNotServedError:
        if wish == "network":
            raise
        return None
    if wish == "auto":
        dims, encoded = raw.output_dims, call.upload.encoded
        lean, whole = spec.raw_outputs[0], spec.outputs[0]
        lean_bytes = num_bytes(lean, dims.get(lean.name, ()), encoded)
        if lean_bytes is None or lean_bytes >= (num_bytes(whole, (), encoded) or 0):
            return None
    return Lean(spec, spec.raw_name, step.settings)


def _finished(lean: Lean, maps: NDArray[Any], image_hw: NDArray[np.int32]) -> NDArray[Any]:
    """Do what the server's postprocessor does, whose module is loaded now."""
    array: NDArray[Any]
    (array,) = lean.recipe.finished(maps, image_hw, lean.settings)
    return array
