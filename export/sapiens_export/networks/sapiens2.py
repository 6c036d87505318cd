"""Sapiens2: networks of transformers, and of our own an albedo head and a tokenizer around their backbone.

Angles of rotary positions are float32 as in transformers, whatever the network computes in; a 16-bit network
rounds their sines and cosines, once. The reference computes all of it in bfloat16 in every block, also in
float32 runs; that is another function, and not the one that is served.

Letters in the shapes: batch B, token width E.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    Sapiens2Config,
    Sapiens2ForImageMatting,
    Sapiens2ForNormalEstimation,
    Sapiens2ForPointmapEstimation,
    Sapiens2ForPoseEstimation,
    Sapiens2ForSemanticSegmentation,
    Sapiens2Model,
)
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import logging

from sapiens_core.recipes.recipe import PATCH_SIZE, Task
from sapiens_core.recipes.sapiens2 import FAMILY
from sapiens_export.networks.network import Network
from sapiens_export.networks.sapiens2_config import (
    NUM_FULL_LAYERS,
    NUM_REGISTER_TOKENS,
    HeadConfig,
    Sapiens2NetworkConfig,
)
from sapiens_export.networks.sapiens2_parts import AlbedoHead, FinalConvolution, FinalLinear, WindowTokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from transformers import PreTrainedModel

MODELS: Mapping[str, type[PreTrainedModel]] = {
    Task.POSE: Sapiens2ForPoseEstimation,
    Task.SEG: Sapiens2ForSemanticSegmentation,
    Task.NORMAL: Sapiens2ForNormalEstimation,
    Task.POINTMAP: Sapiens2ForPointmapEstimation,
    Task.MATTING: Sapiens2ForImageMatting,
    Task.ALBEDO: Sapiens2Model,
    Task.FEATURES: Sapiens2Model,
}
PERIODS = "rope_embed.periods"  # a table in official files that follows from the width of a head
# What all released networks have alike, so that descriptions need not say it.
_SHARED_FIELDS = (
    *("patch_size", "num_register_tokens", "rope_theta", "hidden_act", "use_gated_mlp", "use_qk_norm"),
    *("query_bias", "key_bias", "value_bias", "proj_bias", "mlp_bias", "rms_norm_eps"),
    "num_key_value_heads_per_layer",
)
_BACKBONE, _HEAD, _TOKENIZER = "backbone.", "decode_head.", "tokenizer."
_OWN_PARTS: Mapping[str, str] = {Task.ALBEDO: _HEAD, Task.FEATURES: _TOKENIZER}  # what transformers has not
_NUM_PREFIX_TOKENS = 1 + NUM_REGISTER_TOKENS  # in front of the patches: the class and the registers


class Sapiens2Network(Network):
    """Backbone and decode head of one task.

    Args:
        config: The architecture.
        model: The network of transformers; None: one with random weights.
    """

    model: Any

    def __init__(self, config: Sapiens2NetworkConfig, model: PreTrainedModel | None = None) -> None:
        super().__init__()
        self.config = config
        model = model or MODELS[config.task](transformers_config(config))
        self.add_module("model", model)
        self.albedo = None
        if config.task == Task.ALBEDO:
            self.albedo = AlbedoHead(config.hidden_size, cast("HeadConfig", config.head_config))
        self.tokenizer = None
        if config.num_window_layers:
            self.tokenizer = WindowTokenizer(
                config.hidden_size, config.num_attention_heads, config.window, config.num_window_layers
            )
        parts: Any = model  # its modules have types of their own
        parts.loss_function = None  # tracing reads every property, and without one transformers warns
        if hasattr(parts, "decode_head"):
            parts.decode_head.predictor = FinalConvolution.of(parts.decode_head.predictor)
        if config.task == Task.POINTMAP:
            parts.scale_head.predictor.proj = FinalLinear.of(parts.scale_head.predictor.proj)

    @property
    def last_layers(self) -> list[nn.Module]:
        """The layers that make the outputs; empty: there is no head."""
        if self.albedo is not None:
            return [self.albedo.conv_albedo]
        if self.config.task == Task.FEATURES:
            return []
        scale = [self.model.scale_head.predictor.proj] if self.config.task == Task.POINTMAP else []
        return [self.model.decode_head.predictor, *scale]

    @property
    def kept_tensors(self) -> list[Tensor]:
        """What stays float32: parameters of the last layers, of any shape, and the table of frequencies."""
        return [*super().kept_tensors, *(buffer for _, buffer in self.named_buffers())]

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Run the network.

        Args:
            images: (B, 3, H, W) float, RGB, normalised; H and W are multiples of the patch size times
                the window.

        Returns:
            (B, C, H / stride, W / stride) float; of a pointmap also the scales, (B, 1). Without activation,
            but for matting: 0 to 1, red, green, blue, alpha.
        """
        if self.tokenizer is None:
            outputs = self.model(pixel_values=images)
        else:
            outputs = self._of_windows(images, self.tokenizer)
        match self.config.task:
            case Task.POSE:
                return outputs.heatmaps
            case Task.SEG:
                return outputs.logits
            case Task.NORMAL:
                return outputs.normals
            case Task.POINTMAP:
                return outputs.pointmaps, outputs.scales
            case Task.MATTING:
                return torch.cat([outputs.foregrounds, outputs.alphas], dim=1)
        stride = PATCH_SIZE * self.config.window
        grid_hw = (images.shape[2] // stride, images.shape[3] // stride)
        patches = outputs.last_hidden_state[:, _NUM_PREFIX_TOKENS:]
        features = patches.transpose(1, 2).unflatten(2, grid_hw)
        return features if self.albedo is None else self.albedo(features)

    def _of_windows(self, images: Tensor, tokenizer: WindowTokenizer) -> Any:
        """Run the backbone on windows of patches, as `Sapiens2Model` does on patches."""
        embeddings, window = self.model.embeddings, self.config.window
        tokens = tokenizer(embeddings.patch_embeddings(images)).flatten(2).transpose(1, 2)
        tables = (embeddings.cls_token, embeddings.register_tokens)
        prefix = [table.expand(images.shape[0], -1, -1) for table in tables]
        positions = self.model.rope_embeddings(images[..., ::window, ::window])  # of its shape and format
        outputs = self.model.model(torch.cat([*prefix, tokens], dim=1), position_embeddings=positions)
        outputs.last_hidden_state = self.model.norm(outputs.last_hidden_state)
        return outputs

    def official_state_dict(self) -> dict[str, Tensor]:
        """Return the weights by their official names, and the table of periods, of shape (head_dim / 4,)."""
        periods = torch.empty(self.config.hidden_size // self.config.num_attention_heads // 4, device="meta")
        own = revert_weight_conversion(self.model, self.model.state_dict()) | {PERIODS: periods}
        if self.tokenizer is not None:
            own |= {_TOKENIZER + name: tensor for name, tensor in self.tokenizer.state_dict().items()}
        if self.config.task == Task.FEATURES:
            return own
        named = {name if name.startswith((_BACKBONE, _HEAD)) else _BACKBONE + name: own[name] for name in own}
        if self.albedo is not None:
            named |= {_HEAD + name: tensor for name, tensor in self.albedo.state_dict().items()}
        return named


def transformers_config(config: Sapiens2NetworkConfig) -> Any:
    """Return an architecture in the words of transformers, as a `Sapiens2Config`."""
    head, make = config.head_config, cast("Callable[..., Any]", Sapiens2Config)
    return make(
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_attention_heads=config.num_key_value_attention_heads,
        num_register_tokens=NUM_REGISTER_TOKENS,
        num_first_full_attention_layers=NUM_FULL_LAYERS,
        num_last_full_attention_layers=NUM_FULL_LAYERS,
        image_size=list(config.input_hw),
        num_labels=config.num_labels or 2,
        head_config=None if head is None or config.task == Task.ALBEDO else _head_config(head),
    )


def _head_config(head: HeadConfig) -> dict[str, object]:
    upsample_kernel, conv_kernel = (3, 3) if head.use_pixel_shuffle else (4, 1)
    scale = {
        "scale_conv_out_channels": list(head.scale_conv_out_channels),
        "scale_conv_kernel_sizes": [1] * len(head.scale_conv_out_channels),
        "scale_final_hidden_sizes": list(head.scale_final_hidden_sizes),
    }
    return {
        "upsample_out_channels": list(head.upsample_out_channels),
        "upsample_kernel_sizes": [upsample_kernel] * len(head.upsample_out_channels),
        "use_pixel_shuffle": head.use_pixel_shuffle,
        "conv_out_channels": list(head.conv_out_channels),
        "conv_kernel_sizes": [conv_kernel] * len(head.conv_out_channels),
        **(scale if head.scale_conv_out_channels else {}),
    }


def config_of_transformers(facts: Mapping[str, Any], task: str) -> Sapiens2NetworkConfig:
    """Return the architecture that a `config.json` of transformers describes.

    Args:
        facts: What the file holds.
        task: What the network predicts.

    Raises:
        ValueError: It is for another task, or of an architecture that no released network has.
    """
    theirs: Any = Sapiens2Config.from_dict(dict(facts))
    wanted = MODELS[task].__name__
    if wanted not in (theirs.architectures or []):
        raise ValueError(f"architectures must have {wanted} for {task}, got {theirs.architectures}")
    head: Any = theirs.head_config
    config = Sapiens2NetworkConfig(
        family=FAMILY,
        task=task,
        input_hw=tuple(theirs.image_size),
        hidden_size=theirs.hidden_size,
        num_hidden_layers=theirs.num_hidden_layers,
        num_attention_heads=theirs.num_attention_heads,
        num_key_value_attention_heads=theirs.num_key_value_attention_heads,
        intermediate_size=theirs.intermediate_size,
        num_labels=0 if task == Task.FEATURES else theirs.num_labels,
        head_config=None if head is None or task == Task.FEATURES else _head_of(head),
    )
    ours = transformers_config(config)
    for name in _SHARED_FIELDS:
        if (wanted := getattr(ours, name)) != (seen := getattr(theirs, name)):
            raise ValueError(f"{name} must be {wanted}, as in released networks, got {seen}")
    return config


def _head_of(head: Any) -> HeadConfig:
    config = HeadConfig(
        tuple(head.upsample_out_channels or ()),
        tuple(head.conv_out_channels or ()),
        use_pixel_shuffle=bool(head.use_pixel_shuffle),
        scale_conv_out_channels=tuple(head.scale_conv_out_channels or ()),
        scale_final_hidden_sizes=tuple(head.scale_final_hidden_sizes or ()),
    )
    for name, wanted in _head_config(config).items():
        if name.endswith("kernel_sizes") and list(getattr(head, name) or ()) != wanted:
            raise ValueError(f"{name} must be {wanted}, as in released heads, got {getattr(head, name)}")
    return config


def sapiens2_network(config: Sapiens2NetworkConfig, weights: Mapping[str, Tensor]) -> Sapiens2Network:
    """Build a network around weights that fit it.

    Args:
        config: The architecture.
        weights: Official names to float32 tensors, each of the shape that `official_state_dict` has.

    Returns:
        The network in evaluation mode.
    """
    prefix, own = _OWN_PARTS.get(config.task), {}
    if prefix:
        own = {name.removeprefix(prefix): weights[name] for name in weights if name.startswith(prefix)}
        others = (name for name in weights if not name.startswith(prefix))
        weights = {name.removeprefix(_BACKBONE): weights[name] for name in others}
    bars: Any = logging
    is_shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        model = MODELS[config.task].from_pretrained(
            None, config=transformers_config(config), state_dict=dict(weights), dtype=torch.float32
        )
    finally:
        if is_shown:
            bars.enable_progress_bar()
    network = Sapiens2Network(config, model)
    if (part := network.albedo or network.tokenizer) is not None:
        part.load_state_dict(own, assign=True)
    return network.eval()
