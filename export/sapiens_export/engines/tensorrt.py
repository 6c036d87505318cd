"""ONNX to TensorRT, on the GPU that will serve: a plan fits one version of TensorRT and one kind of GPU."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from platformdirs import user_cache_path

from sapiens_core.contract.engines import plan_profiles
from sapiens_export.engines.engine import EngineUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from sapiens_core.contract.engines import Precision
    from sapiens_export.engines.engine import Engine

ELSEWHERE = (
    "run the same command where the engine will be served, in NVIDIA's container nvcr.io/nvidia/tensorrt of "
    "the release of its Triton, with pip install 'sapiens-triton[opencv,export]'"
)


_BFLOAT16_CAPABILITY = (8, 0)


@dataclass(frozen=True)
class Profile:
    """Shapes of one input that an engine takes.

    Attributes:
        smallest: Smallest shape, batch first.
        best: Shape that the engine is tuned for.
        largest: Largest shape.
    """

    smallest: tuple[int, ...]
    best: tuple[int, ...]
    largest: tuple[int, ...]


@dataclass(frozen=True)
class TensorRTBuild:
    """What TensorRT is asked to build.

    Attributes:
        onnx: The network, whose own types TensorRT keeps to (strongly typed).
        inputs: Types of its inputs by name, as ONNX calls them.
        outputs: Types of its outputs by name.
        profiles: Shapes of its inputs by name, each time kernels are chosen for: single images, and batches.
    """

    onnx: Path
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    profiles: tuple[Mapping[str, Profile], ...]

    def trtexec(self, plan: str) -> str:
        """Return the command that builds the same with NVIDIA's own tool, for building elsewhere.

        Args:
            plan: File to write.
        """
        choices = [f"--onnx={self.onnx.name}", f"--saveEngine={plan}"]
        for index, profile in enumerate(self.profiles):
            choices += [f"--profile={index}", *_shape_flags(profile)]
        # TensorRT 10 needs --stronglyTyped; 11 takes it too, and does nothing else.
        return shlex.join(["trtexec", *choices, "--stronglyTyped", "--noTF32"])


def _shape_flags(profile: Mapping[str, Profile]) -> list[str]:
    return [
        f"--{flag}="
        + ",".join(f"{name}:{'x'.join(map(str, getattr(shapes, of)))}" for name, shapes in profile.items())
        for flag, of in (("minShapes", "smallest"), ("optShapes", "best"), ("maxShapes", "largest"))
    ]


@dataclass(frozen=True)
class BuiltPlan:
    """Where a plan was built.

    Attributes:
        tensorrt: Version of TensorRT, the only one that surely loads it.
        gpu: Name of the GPU that it was tuned for.
        compute_capability: Of that GPU, such as "9.0".
    """

    tensorrt: str
    gpu: str
    compute_capability: str


def tensorrt_build(onnx_file: Path, max_batch_size: int) -> TensorRTBuild:
    """Describe the engine of an ONNX file that takes 1 to `max_batch_size` images.

    It is tuned twice: for single images, whose kernels and memory are others than a batch's, and for full
    batches.

    Args:
        onnx_file: File whose inputs are free in the batch axis alone.
        max_batch_size: Largest batch.
    """
    import onnx

    graph = onnx.load(onnx_file, load_external_data=False).graph
    profiles = tuple(
        {
            tensor.name: Profile(*((size, *_dims(tensor)[1:]) for size in (1, largest, largest)))
            for tensor in graph.input
        }
        for largest in plan_profiles(max_batch_size)
    )
    inputs, outputs = (
        {tensor.name: onnx.TensorProto.DataType.Name(tensor.type.tensor_type.elem_type) for tensor in tensors}
        for tensors in (graph.input, graph.output)
    )
    return TensorRTBuild(onnx_file, inputs, outputs, profiles)


def check_tensorrt(precision: Precision = "float32") -> None:
    """Refuse now what would fail after a long export.

    Args:
        precision: What an engine is to compute in.

    Raises:
        EngineUnavailableError: TensorRT or a GPU is missing, or the GPU does not know the precision.
    """
    try:
        import tensorrt
    except (ImportError, OSError) as error:
        raise EngineUnavailableError(
            f"a TensorRT engine needs the package tensorrt of the server's version, got: {error}; {ELSEWHERE}"
        ) from error
    if not torch.cuda.is_available():
        raise EngineUnavailableError(
            f"a TensorRT engine is built on the kind of GPU that runs it, TensorRT {tensorrt.__version__} is "
            f"here but no GPU; {ELSEWHERE}"
        )
    if precision == "bfloat16" and torch.cuda.get_device_capability() < _BFLOAT16_CAPABILITY:
        raise EngineUnavailableError(
            f"bfloat16 needs a GPU of compute capability 8.0, got {torch.cuda.get_device_name()} of "
            f"{_capability()}; add --precision float16"
        )


def plan_from_onnx(build: TensorRTBuild, path: Path) -> BuiltPlan:
    """Build a plan; this takes minutes.

    Args:
        build: What to build.
        path: File to write.

    Raises:
        EngineUnavailableError: TensorRT cannot build it here, with its own reasons.
    """
    check_tensorrt()
    import tensorrt as trt
    from polygraphy.backend.trt import CreateConfig, engine_bytes_from_network, network_from_onnx_path
    from polygraphy.exception import PolygraphyException

    timings = _timing_cache_file(trt.__version__)
    # Without TF32, which rounds what is float32 in any engine to ten bits.
    config = CreateConfig(tf32=False, profiles=polygraphy_profiles(build), load_timing_cache=timings)
    try:
        builder, network, parser = network_from_onnx_path(str(build.onnx), strongly_typed=True)
        _check_tensors(trt, network, build)
        plan = engine_bytes_from_network((builder, network, parser), config, save_timing_cache=timings)
    except PolygraphyException as error:
        raise EngineUnavailableError(
            f"TensorRT {trt.__version__} must build {build.onnx}, and did not: {error}; its reasons "
            "stand above. Is the GPU's memory full? Try a smaller --max-batch-size"
        ) from error
    path.write_bytes(plan)
    return BuiltPlan(trt.__version__, torch.cuda.get_device_name(), _capability())


def polygraphy_profiles(build: TensorRTBuild) -> list[Any]:
    """Return the profiles of a build as Polygraphy, which builds it, wants them."""
    from polygraphy.backend.trt import Profile as Shapes

    profiles = []
    for shapes_of in build.profiles:
        profile = Shapes()
        for name, shapes in shapes_of.items():
            profile.add(name, min=shapes.smallest, opt=shapes.best, max=shapes.largest)
        profiles.append(profile)
    return profiles


def engine_from_tensorrt(path: Path) -> Engine:
    """Return a plan as a function on arrays, see `engine_from_network`.

    Raises:
        EngineUnavailableError: There is no TensorRT or GPU here, or the plan is for others.
    """
    check_tensorrt()
    import tensorrt as trt

    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    plan = runtime.deserialize_cuda_engine(path.read_bytes())
    if plan is None:
        raise EngineUnavailableError(
            f"{path} must be of TensorRT {trt.__version__} and for {torch.cuda.get_device_name()}; its "
            f"manifest tells which it is for; {ELSEWHERE}"
        )
    contexts = [_context(plan, index) for index in range(plan.num_optimization_profiles)]
    names = [plan.get_tensor_name(index) for index in range(plan.num_io_tensors)]
    is_input = {name: plan.get_tensor_mode(name) == trt.TensorIOMode.INPUT for name in names}
    dtypes = {name: _torch_dtype(trt, plan.get_tensor_dtype(name)) for name in names}

    def run(pixels: NDArray[np.uint8]) -> tuple[NDArray[Any], ...]:
        stream = torch.cuda.Stream()
        context = contexts[0 if len(pixels) == 1 else -1]
        with torch.cuda.stream(stream):
            images = torch.from_numpy(pixels).cuda()
            for name in names:
                if is_input[name]:
                    context.set_input_shape(name, tuple(images.shape))
            tensors = {
                name: images
                if is_input[name]
                else torch.empty(tuple(context.get_tensor_shape(name)), dtype=dtypes[name], device="cuda")
                for name in names
            }
            for name, tensor in tensors.items():
                context.set_tensor_address(name, tensor.data_ptr())
            is_run = context.execute_async_v3(stream.cuda_stream)
            stream.synchronize()
        if not is_run:
            raise EngineUnavailableError(f"TensorRT {trt.__version__} must run {path}, and did not")
        return tuple(tensors[name].cpu().numpy() for name in names if not is_input[name])

    return run


def _context(plan: Any, profile: int) -> Any:
    context = plan.create_execution_context()
    stream = torch.cuda.current_stream()
    context.set_optimization_profile_async(profile, stream.cuda_stream)
    stream.synchronize()
    return context


def _check_tensors(trt: Any, network: Any, build: TensorRTBuild) -> None:
    """Refuse a network whose inputs and outputs TensorRT understands otherwise than the contract."""
    kinds = {"UINT8": trt.DataType.UINT8, "INT32": trt.DataType.INT32}
    kinds |= {"FLOAT16": trt.DataType.HALF, "FLOAT": trt.DataType.FLOAT}
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    tensors += [network.get_output(index) for index in range(network.num_outputs)]
    seen = {tensor.name: tensor.dtype for tensor in tensors}
    wanted = {name: kinds[kind] for name, kind in {**build.inputs, **build.outputs}.items()}
    if seen != wanted:
        raise EngineUnavailableError(
            f"TensorRT {trt.__version__} must see {wanted} in {build.onnx}, got {seen}"
        )


def _capability() -> str:
    major, minor = torch.cuda.get_device_capability()
    return f"{major}.{minor}"


def _dims(tensor: Any) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in tensor.type.tensor_type.shape.dim)


def _torch_dtype(trt: Any, dtype: Any) -> torch.dtype:
    return {
        trt.DataType.UINT8: torch.uint8,
        trt.DataType.INT32: torch.int32,
        trt.DataType.HALF: torch.float16,
        trt.DataType.FLOAT: torch.float32,
    }[dtype]


def _timing_cache_file(version: str) -> str | None:
    """Return where the timings of kernels are kept, so that the next build on this GPU need not take them.

    None: in a folder that cannot be written to they would be lost.
    """
    gpu = "".join(letter if letter.isalnum() else "-" for letter in torch.cuda.get_device_name())
    folder = user_cache_path("sapiens")
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return str(folder / f"tensorrt-{version}-{gpu}.timings") if os.access(folder, os.W_OK) else None
