"""What an engine takes to run and on the disk, counted on torch's meta device: shapes alone go through it."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from sapiens_core.contract.tensors import DTYPE_BYTES
from sapiens_core.recipes.sapiens1 import NORMALIZATIONS
from sapiens_export.engines.reduced import ServedNetwork
from sapiens_export.networks.config import DetectorConfig
from sapiens_export.networks.families import empty_network
from sapiens_export.networks.nanodet import NanoDet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from torch import nn

    from sapiens_core.contract.engines import Precision, Runtime
    from sapiens_core.contract.model_info import ModelInfo
    from sapiens_export.networks.config import EngineConfig

NUM_REFERENCE_IMAGES = 2  # that the outputs of the float32 network are kept of
_WEIGHT_BYTES: Mapping[Precision, int] = {"float32": 4, "float16": 2, "bfloat16": 2}
# How often the weights are on the disk at the same time: TensorRT starts from an ONNX file, AOTInductor
# compiles them into an object file and a library, which it puts into a package.
_FILES: Mapping[Runtime, int] = {"python": 1, "torchscript": 1, "aoti": 4, "onnx": 1, "tensorrt": 2}


@dataclass(frozen=True)
class NetworkCost:
    """What one forward pass of a network takes.

    Attributes:
        num_parameters: Numbers that the weight file holds.
        macs: Multiply-accumulates of matrix products, attention and convolutions, for the whole batch.
        weight_bytes: Size of the weights.
        activation_bytes: Largest sum of tensors that live at the same time, from the uint8 pixels to the
            engine's outputs, run operator by operator. Weights and the kernels' own workspaces are not in it,
            nor are attention scores, which no fused kernel stores.
    """

    num_parameters: int
    macs: int
    weight_bytes: int
    activation_bytes: int


def network_cost(
    config: EngineConfig, *, batch_size: int = 1, precision: Precision = "float32"
) -> NetworkCost:
    """Count the cost of a network of any size; no memory is taken for it.

    Args:
        config: The architecture; of detectors, the built-in one's.
        batch_size: Images that go through it together.
        precision: Number format of weights and activations, e.g. "bfloat16".

    Raises:
        ValueError: The batch is empty.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be positive, got {batch_size}")
    with torch.device("meta"):
        network = (NanoDet() if isinstance(config, DetectorConfig) else empty_network(config)).eval()
        pixels = torch.empty(batch_size, *config.input_hw, 3, dtype=torch.uint8)
    normalization = NORMALIZATIONS["full"]
    served = ServedNetwork(network, normalization, config.recipe, precision=precision).eval().to("meta")
    num_parameters = sum(parameter.numel() for parameter in network.parameters())
    return NetworkCost(
        num_parameters=num_parameters,
        macs=batch_size * _macs(network, config.input_hw),
        weight_bytes=sum(parameter.nbytes for parameter in served.parameters()),
        activation_bytes=activation_bytes(served, pixels),
    )


def _macs(network: nn.Module, input_hw: tuple[int, int]) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.empty(1, 3, *input_hw, device="meta"))
    num_flops: int = counter.get_total_flops()
    return num_flops // 2


def needed_bytes(num_parameters: int, config: EngineConfig, info: ModelInfo) -> int:
    """Return about how much an export writes before it is done: engine files, and the network's outputs.

    Args:
        num_parameters: Weights of the network.
        config: Its architecture.
        info: What is made of it.
    """
    weights = num_parameters * _WEIGHT_BYTES[info.precision] * _FILES[info.runtime]
    return weights + NUM_REFERENCE_IMAGES * _num_output_bytes(config)


def _num_output_bytes(config: EngineConfig) -> int:
    sizes = dict(zip("hw", config.output_hw, strict=True)) | {"C": config.num_outputs}
    outputs = config.recipe.engine.outputs
    shapes = [[sizes[dim] if isinstance(dim, str) else dim for dim in output.dims] for output in outputs]
    return sum(
        int(np.prod(shape)) * DTYPE_BYTES[output.dtype] for shape, output in zip(shapes, outputs, strict=True)
    )


def activation_bytes(module: nn.Module, inputs: Tensor) -> int:
    """Return the largest sum of the tensors that live at the same time while a module runs.

    Args:
        module: The module; its parameters and buffers do not count.
        inputs: Its argument, of any shape, which counts; on the meta device nothing is computed.
    """
    tensors = (*module.parameters(), *module.buffers())
    with torch.no_grad(), _FusedAttention(), _LiveBytes(ignored=tensors) as live:
        live.see(inputs)
        module(inputs)
    peak: int = live.peak
    return peak


class _LiveBytes(TorchDispatchMode):
    """Follows every storage that an operator returns until nobody holds it any more; views share theirs."""

    def __init__(self, ignored: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._live = 0
        self._sizes = {tensor.untyped_storage()._cdata: 0 for tensor in ignored}

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        outputs = func(*args, **(kwargs or {}))
        for output in tree_leaves(outputs):
            if isinstance(output, Tensor):
                self.see(output)
        return outputs

    def see(self, tensor: Tensor) -> None:
        """Count a tensor's storage, unless it is counted already."""
        storage = tensor.untyped_storage()
        if storage._cdata in self._sizes:
            return
        self._sizes[storage._cdata] = storage.nbytes()
        weakref.finalize(storage, self._forget, storage._cdata)
        self._live += storage.nbytes()
        self.peak = max(self.peak, self._live)

    def _forget(self, key: int) -> None:
        self._live -= self._sizes.pop(key)


class _FusedAttention(TorchFunctionMode):
    """Attention without stored scores, which the meta device would otherwise take apart."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is functional.scaled_dot_product_attention:
            func = _fused_attention
        return func(*args, **(kwargs or {}))


def _fused_attention(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float | None = None, **_about: object
) -> Tensor:
    """Attend without a mask, as all networks here do; of fewer heads of keys, each serves several others."""
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    groups = query.shape[1] // key.shape[1]
    key, value = (heads.repeat_interleave(groups, 1) if groups > 1 else heads for heads in (key, value))
    attended: Tensor = fused(query, key, value, scale=scale)[0]
    return attended
