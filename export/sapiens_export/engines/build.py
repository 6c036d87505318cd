"""A network into the engine files of a runtime."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import torch

from sapiens_core.contract.engines import ENGINE_FILES, ONNX_OPSET
from sapiens_export.engines.aoti import check_compiler, package_from_network
from sapiens_export.engines.load import default_device
from sapiens_export.engines.onnx import check_onnx_libraries, onnx_from_network
from sapiens_export.engines.tensorrt import check_tensorrt, plan_from_onnx, tensorrt_build
from sapiens_export.engines.torchscript import torchscript_from_network

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from sapiens_core.contract.engines import Precision, Runtime
    from sapiens_core.contract.model_info import ModelInfo
    from sapiens_export.networks.config import EngineConfig

_ONNX = ENGINE_FILES["onnx"]


def check_buildable(runtime: Runtime, precision: Precision) -> None:
    """Refuse before a long export what this machine cannot build.

    Raises:
        ValueError: The runtime has no such engines.
        EngineUnavailableError: Something is missing here.
    """
    if runtime == "onnx" and precision == "bfloat16":
        raise ValueError(
            "precision of an ONNX engine must be float32 or float16, got bfloat16, for which onnxruntime has "
            "no convolutions; export with --runtime tensorrt or python"
        )
    if runtime == "aoti":
        check_compiler()
    if runtime in ("onnx", "tensorrt"):
        check_onnx_libraries()
    if runtime == "tensorrt":
        check_tensorrt(precision)


def build_engine(
    network: nn.Module, config: EngineConfig, folder: Path, *, info: ModelInfo, max_batch_size: int
) -> dict[str, object]:
    """Write the engine files of a network.

    Args:
        network: Uint8 pixels to an engine's outputs, in the precision; in evaluation mode, on the CPU.
        config: Its architecture.
        folder: Where to write; its parent is used for what is needed on the way.
        info: Which runtime and precision.
        max_batch_size: Largest batch that it takes.

    Returns:
        Facts about the build, for the manifest.

    Raises:
        EngineUnavailableError: It cannot be built on this machine.
    """
    facts: dict[str, object] = {"torch": torch.__version__}
    file = folder / ENGINE_FILES[info.runtime]
    if info.runtime in ("python", "torchscript"):
        torchscript_from_network(network, config.input_hw, file)
        return facts
    if info.runtime == "aoti":
        package = package_from_network(
            network, config.input_hw, file, max_batch_size=max_batch_size, device=default_device("aoti")
        )
        return {**facts, "package": asdict(package)}
    onnx_file = file if info.runtime == "onnx" else folder.parent / _ONNX
    onnx_from_network(network, config.recipe.engine, config.input_hw, onnx_file)
    build = tensorrt_build(onnx_file, max_batch_size)
    facts["onnx_opset"] = ONNX_OPSET
    if info.runtime == "onnx":
        return {**facts, "trtexec": build.trtexec(ENGINE_FILES["tensorrt"])}
    return {**facts, "plan": asdict(plan_from_onnx(build, file))}
