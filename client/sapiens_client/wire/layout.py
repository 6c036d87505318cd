"""Where the tensors of one inference request and its reply are in shared memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import mmap

    from numpy.typing import NDArray

_ALIGNMENT = 64


@dataclass(frozen=True)
class Layout:
    """Where the tensors of a request and its reply are in a region.

    Attributes:
        inputs: First byte of every input, by name.
        outputs: First byte and number of bytes of the outputs, by name; those of unknown size are not there.
        num_bytes: Of all together.
    """

    inputs: Mapping[str, int]
    outputs: Mapping[str, tuple[int, int]]
    num_bytes: int


def layout(inputs: Mapping[str, NDArray[Any]], reply_sizes: Mapping[str, int]) -> Layout:
    """Place tensors one after the other.

    Args:
        inputs: By name, of any shape.
        reply_sizes: Bytes of the outputs whose size is known.
    """
    starts, sizes = {}, {name: array.nbytes for name, array in inputs.items()}
    position = 0
    for name, size in [*sizes.items(), *reply_sizes.items()]:
        starts[name] = position
        position += -(-size // _ALIGNMENT) * _ALIGNMENT
    outputs = {name: (starts[name], size) for name, size in reply_sizes.items()}
    return Layout({name: starts[name] for name in inputs}, outputs, position)


@dataclass(frozen=True)
class Shared:
    """Memory that this process and a server share.

    Attributes:
        name: What both call it.
        memory: Its content.
        layout: Which tensor is where.
    """

    name: str
    memory: mmap.mmap
    layout: Layout
