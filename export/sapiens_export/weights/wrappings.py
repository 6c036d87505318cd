"""What training programs put around a network's weights: dictionaries, and prefixes of their names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from pathlib import Path

# Where programs keep the weights, beside an optimizer's state and more; the first that is there counts.
_STATES = ("state_dict", "model_state_dict", "model", "network", "net", "module", "weights", "params")
# Names of modules that wrap others: for several GPUs, compiled, sharded, recomputed.
_WRAPPERS = frozenset(
    {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"}
)
_MAX_DEPTH = 4  # of dictionaries in each other
_BACKBONE, _POSITIONS = "backbone.", "pos_embed"  # which every network has once


def state_in(content: object, path: Path) -> object:
    """Return the dictionary of weights in what a file holds.

    Args:
        content: What it holds.
        path: The file, for the message.

    Returns:
        The innermost dictionary with names such as "a.b" for tensors; `content` if there is none.

    Raises:
        ValueError: There are several.
    """
    for _ in range(_MAX_DEPTH):
        if not isinstance(content, Mapping) or _is_state(content):
            break
        key = _key_of_state(content, path)
        if key is None:
            break
        content = content[key]
    return content


def without_wrapper(weights: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return a network's weights by its own names, without those of what trained it.

    Args:
        weights: Tensors of any shape, by the names in the file.
        path: The file, for the message.

    Raises:
        ValueError: There are several networks.
    """
    # Counters of batches and of averaged states are no weights.
    names = {name: _unwrapped(name) for name, tensor in weights.items() if not _is_counter(tensor)}
    prefixes = {name for own in names.values() if (name := _prefix_of_network(own)) is not None}
    if len(prefixes) > 1 or len(set(names.values())) < len(names):
        raise ValueError(
            f"{path} must hold the weights of one network, got several, below {sorted(prefixes)}; save one "
            "of them alone"
        )
    prefix = next(iter(prefixes), "")
    return {own.removeprefix(prefix): weights[name] for name, own in names.items() if own.startswith(prefix)}


def _key_of_state(content: Mapping[object, object], path: Path) -> object:
    known = [key for key in _STATES if key in content]
    if known:
        return known[0]
    others = [key for key, value in content.items() if _holds_state(value)]
    if len(others) > 1:
        raise ValueError(f"{path} must hold one dictionary of weights, got {others}; save one of them alone")
    return others[0] if others else None


def _is_state(content: Mapping[object, object]) -> bool:
    return any(
        isinstance(name, str) and "." in name and isinstance(value, Tensor) for name, value in content.items()
    )


def _holds_state(content: object, depth: int = _MAX_DEPTH) -> bool:
    return isinstance(content, Mapping) and (
        _is_state(content)
        or (depth > 0 and any(_holds_state(value, depth - 1) for value in content.values()))
    )


def _unwrapped(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _prefix_of_network(name: str) -> str | None:
    """Return what stands before a network's name of its position table; None: the name is another one's."""
    head, dot, last = name.rpartition(".")
    return (head + dot).removesuffix(_BACKBONE) if last == _POSITIONS else None


def _is_counter(tensor: Tensor) -> bool:
    return tensor.ndim == 0 and not tensor.is_floating_point()
