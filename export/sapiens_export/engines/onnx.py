"""Network to ONNX, which onnxruntime runs and TensorRT builds from."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, cast

import torch

from sapiens_core.contract.engines import MIN_ONNXRUNTIME, ONNX_OPSET
from sapiens_export.engines.engine import EngineUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from sapiens_core.contract.steps import StepSpec
    from sapiens_export.engines.engine import Engine

_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")
_BATCH = "batch"
_ERRORS = 3  # level of onnxruntime's log
# By device, with options: float32 is what the manifest promises, and TF32 is less.
_PROVIDERS: Mapping[str, tuple[str, dict[str, str]]] = {
    "cpu": ("CPUExecutionProvider", {}),
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0"}),
}


def check_onnx_libraries() -> None:
    """Refuse now what would fail later.

    Raises:
        EngineUnavailableError: A library is missing, or onnxruntime is too old for the files.
    """
    if missing := [name for name in _LIBRARIES if find_spec(name) is None]:
        raise EngineUnavailableError(
            f"an ONNX engine needs {', '.join(_LIBRARIES)}, missing {', '.join(missing)}; "
            "pip install 'sapiens-triton[export]'"
        )
    _onnxruntime()


def _onnxruntime() -> Any:
    import onnxruntime  # here, because only those who make or run such files need it

    release = tuple(int(number) for number in onnxruntime.__version__.split(".")[:2])
    if release < MIN_ONNXRUNTIME:
        needed = ".".join(map(str, MIN_ONNXRUNTIME))
        raise EngineUnavailableError(
            f"onnxruntime must be {needed} or newer to read files of opset {ONNX_OPSET}, got "
            f"{onnxruntime.__version__}; pip install 'onnxruntime>={needed}'"
        )
    return onnxruntime


def onnx_from_network(network: nn.Module, step: StepSpec, input_hw: tuple[int, int], path: Path) -> None:
    """Export a network to an ONNX file: any batch size, this input size only.

    Weights above 2 GB, which a single file cannot hold, go into a second one beside it, `<path>.data`.

    Args:
        network: Uint8 pixels to an engine's outputs; in evaluation mode, on the CPU.
        step: The engine's contract, which names the tensors.
        input_hw: Height and width of its input.
        path: File to write.

    Raises:
        EngineUnavailableError: PyTorch cannot export it, or only for one size of batch.
    """
    pixels = torch.zeros(2, *input_hw, 3, dtype=torch.uint8)  # two: the exporter takes a one for a constant
    with _quiet(), _explained():
        program = torch.onnx.export(
            network,
            (pixels,),
            input_names=[tensor.name for tensor in step.inputs],
            output_names=[tensor.name for tensor in step.outputs],
            dynamic_shapes=({0: torch.export.Dim(_BATCH, min=1)},),
            opset_version=ONNX_OPSET,
            dynamo=True,
            verbose=False,
        )
    program = cast("torch.onnx.ONNXProgram", program)  # None only where a file was named
    _check_free_batch(program)
    for node in program.model.graph:
        node.metadata_props.clear()  # which lines of which files on this machine it comes from
    program.save(path)


def _check_free_batch(program: torch.onnx.ONNXProgram) -> None:
    """Refuse a file that takes or returns other batches than it should: the exporter says nothing of it."""
    tensors = (*program.model.graph.inputs, *program.model.graph.outputs)
    fixed = {tensor.name: str(tensor.shape) for tensor in tensors if _is_batch_fixed(tensor.shape)}
    if fixed:
        raise EngineUnavailableError(
            f"the network must be one that PyTorch can export for batches of any size, got {fixed}; "
            "use --runtime python"
        )


def _is_batch_fixed(shape: Any) -> bool:
    return not shape or isinstance(shape[0], int)


def engine_from_onnx(path: Path, device: str = "cpu") -> Engine:
    """Return an ONNX file as a function on arrays, see `engine_from_network`.

    Args:
        path: The file.
        device: "cpu" or "cuda".

    Raises:
        EngineUnavailableError: onnxruntime is missing, or has no kernels for the device or the precision.
    """
    check_onnx_libraries()
    onnxruntime = _onnxruntime()
    provider, options = _PROVIDERS[device]
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = _ERRORS
    try:
        session = onnxruntime.InferenceSession(path, quiet, providers=[(provider, options)])
    except Exception as error:  # its errors have no other class in common
        raise EngineUnavailableError(
            f"{path} must be an ONNX file that onnxruntime can run, got: {error}"
        ) from error
    if session.get_providers()[0] != provider:  # it takes another one rather than fail
        raise EngineUnavailableError(
            f"onnxruntime must run with {provider}, got {session.get_providers()}; install onnxruntime-gpu "
            "and its CUDA libraries in place of onnxruntime"
        )
    (pixels_name,) = [tensor.name for tensor in session.get_inputs()]

    def run(pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        try:
            outputs: Sequence[NDArray[Any]] = session.run(None, {pixels_name: pixels})
        except Exception as error:
            raise EngineUnavailableError(f"{path} must take {pixels.shape} pixels, got: {error}") from error
        return tuple(outputs)

    return run


def has_cuda() -> bool:
    """Return whether the onnxruntime that is installed is made for NVIDIA GPUs."""
    check_onnx_libraries()
    return _PROVIDERS["cuda"][0] in _onnxruntime().get_available_providers()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise EngineUnavailableError(
            f"the network must be one that PyTorch can export to ONNX, got: {reason}; use --runtime python"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to ourselves what the exporter says about its own workings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", category=DeprecationWarning)
            warnings.simplefilter("ignore", category=FutureWarning)
            yield
    finally:
        logger.setLevel(level)
