"""Weight files of the second family: safetensors with the official names, with or without a config beside."""

from __future__ import annotations

import re
from math import isqrt
from typing import TYPE_CHECKING

import torch

from sapiens_core.recipes.lookup import recipe
from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.sapiens2 import FAMILY
from sapiens_export.networks.sapiens2 import PERIODS, Sapiens2Network, sapiens2_network
from sapiens_export.networks.sapiens2_config import HeadConfig, Sapiens2NetworkConfig
from sapiens_export.weights.checkpoints import check_fit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_BACKBONE, _HEAD = "backbone.", "decode_head."


def sapiens2_from_weights(
    config: Sapiens2NetworkConfig, weights: Mapping[str, Tensor], source: str
) -> Sapiens2Network:
    """Build a network of the second family around weights.

    Args:
        config: The architecture.
        weights: Official names to float32 tensors, each of the shape in the architecture.
        source: What to call the weights in errors.

    Returns:
        The network in evaluation mode.

    Raises:
        ValueError: Names or shapes differ from the architecture's.
    """
    with torch.device("meta"):
        wanted = Sapiens2Network(config).official_state_dict()
    weights = _own_weights(config.task, weights)
    check_fit(_without_periods(wanted), weights, config.task, source)
    return sapiens2_network(config, weights)


def random_sapiens2(config: Sapiens2NetworkConfig, seed: int) -> Sapiens2Network:
    """Build an untrained network whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Sapiens2Network(config)
    return network.eval()


def recognised_sapiens2(task: Task, weights: Mapping[str, Tensor], source: str) -> Sapiens2NetworkConfig:
    """Tell the architecture that weights belong to, by their shapes.

    The size of the input does not show but for pointmaps; `Recipe.released_hw` is assumed.

    Args:
        task: What the network predicts.
        weights: Official names to tensors, of which the shape counts.
        source: What to call the weights in errors.

    Raises:
        ValueError: They are of no network for the task.
    """
    own, weights = recipe(FAMILY, task), _own_weights(task, weights)
    prefix = "" if task == Task.FEATURES else _BACKBONE
    try:
        width = weights[f"{prefix}cls_token"].shape[-1]
        keys = _shapes(weights, rf"{prefix}blocks\.(\d+)\.attn\.wk\.weight")
        head_dim = weights[f"{prefix}blocks.0.attn.q_norm.weight"].shape[0]
        num_heads = width // head_dim
        num_labels = _num_labels(task, weights)
        window, num_window_layers = _windows(weights)
        return Sapiens2NetworkConfig(
            family=FAMILY,
            task=task,
            input_hw=own.released_hw(window),
            hidden_size=width,
            num_hidden_layers=len(keys),
            num_attention_heads=num_heads,
            num_key_value_attention_heads=_num_shared_heads(keys, head_dim, num_heads),
            intermediate_size=weights[f"{prefix}blocks.0.ffn.w3.weight"].shape[1],
            num_labels=num_labels,
            head_config=None if task == Task.FEATURES else _head_of(weights),
            labels=next((each.labels for each in own.variants if each.num_outputs == num_labels), ""),
            window=window,
            num_window_layers=num_window_layers,
        )
    except (LookupError, ValueError, ArithmeticError) as error:
        raise ValueError(
            f"{source} must hold the weights of a {task.value} network of {FAMILY}, got others: {error}; is "
            "it for another task? Describe other networks with --network"
        ) from error


def _own_weights(task: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return what a network takes of a file: for features the backbone alone, without its prefix."""
    named = _without_periods(weights)
    if task != Task.FEATURES:
        return named
    return {name.removeprefix(_BACKBONE): named[name] for name in named if not name.startswith(_HEAD)}


def _without_periods(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if not name.endswith(PERIODS)}


def _shapes(weights: Mapping[str, Tensor], pattern: str) -> list[torch.Size]:
    """Return the shapes of the tensors that a pattern names, by the number in their names."""
    found = {
        int(match[1]): tensor.shape
        for name, tensor in weights.items()
        if (match := re.fullmatch(pattern, name))
    }
    return [found[number] for number in sorted(found)]


def _num_shared_heads(keys: list[torch.Size], head_dim: int, num_heads: int) -> int:
    """Return how many heads of keys the blocks in the middle have; half of all where there are none."""
    fewest = min(shape[0] // head_dim for shape in keys)
    return fewest if fewest < num_heads else max(1, num_heads // 2)


def _windows(weights: Mapping[str, Tensor]) -> tuple[int, int]:
    """Return the patches along each side of what is one token, and the blocks that make the token of them."""
    blocks = _shapes(weights, r"tokenizer\.blocks\.(\d+)\.attn\.wk\.weight")
    num_patches = weights["tokenizer.local_pos_embed"].shape[1] - 1 if blocks else 1
    return isqrt(num_patches), len(blocks)


def _num_labels(task: Task, weights: Mapping[str, Tensor]) -> int:
    return 0 if task == Task.FEATURES else weights[f"{_HEAD}conv_{task.value}.weight"].shape[0]


def _head_of(weights: Mapping[str, Tensor]) -> HeadConfig:
    deconvs = _shapes(weights, rf"{_HEAD}deconv_layers\.(\d+)\.weight")
    shuffles = _shapes(weights, rf"{_HEAD}upsample_blocks\.(\d+)\.0\.weight")
    convs = [shape for shape in _shapes(weights, rf"{_HEAD}conv_layers\.(\d+)\.weight") if len(shape) == 4]
    scale = _shapes(weights, rf"{_HEAD}scale_conv_layers\.(\d+)\.weight")
    final = _shapes(weights, rf"{_HEAD}scale_final_layer\.(\d+)\.weight")
    return HeadConfig(
        tuple(shape[1] for shape in deconvs) or tuple(shape[0] // 4 for shape in shuffles),
        tuple(shape[0] for shape in convs),
        use_pixel_shuffle=bool(shuffles),
        scale_conv_out_channels=tuple(shape[0] for shape in scale),
        scale_final_hidden_sizes=tuple(shape[0] for shape in final[:-1]),
    )
