"""Attention heads of a width that fused kernels take.

Those kernels want a multiple of eight numbers per head; the released 2b has 60. Zeros that are appended to
queries and keys leave their products as they are, and zeros behind the values are multiplied by zero columns
of the output projection, so that the padded network is the same function up to rounding.
"""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from sapiens_export.networks.sapiens import Attention, Block

if TYPE_CHECKING:
    from sapiens_export.networks.sapiens import SapiensNetwork

HEAD_DIM_MULTIPLE = 8


def padded_heads(network: SapiensNetwork) -> SapiensNetwork:
    """Pad every attention head to the next multiple of eight.

    Args:
        network: The network; it stays as it is.

    Returns:
        A network that shares all weights but those of the padded projections, whose shapes are no longer the
        official ones; `network` itself if its heads need no padding.
    """
    if not any(_missing(block.attn) for block in _blocks(network)):
        return network
    padded = _with_the_same_weights(network)
    for block in _blocks(padded):
        block.attn = _padded(block.attn)
    return padded


def _blocks(network: SapiensNetwork) -> list[Block]:
    return [module for module in network.modules() if isinstance(module, Block)]


def _missing(attention: Attention) -> int:
    return -attention.head_dim % HEAD_DIM_MULTIPLE


def _with_the_same_weights(network: SapiensNetwork) -> SapiensNetwork:
    tensors = itertools.chain(network.parameters(), network.buffers())
    return copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})


def _padded(attention: Attention) -> Attention:
    qkv, proj, head_dim = attention.qkv, attention.proj, attention.head_dim
    missing = _missing(attention)
    with torch.device("meta"):
        padded = Attention(qkv.in_features, attention.num_heads, head_dim + missing)
    by_head = qkv.weight.detach().unflatten(0, (-1, head_dim))
    columns_by_head = proj.weight.detach().unflatten(1, (-1, head_dim))
    weights = {
        "qkv.weight": functional.pad(by_head, (0, 0, 0, missing)).flatten(0, 1),
        "qkv.bias": functional.pad(qkv.bias.detach().unflatten(0, (-1, head_dim)), (0, missing)).flatten(),
        "proj.weight": functional.pad(columns_by_head, (0, missing)).flatten(1),
        "proj.bias": proj.bias,
    }
    padded.load_state_dict(weights, assign=True)
    return padded.train(attention.training)
