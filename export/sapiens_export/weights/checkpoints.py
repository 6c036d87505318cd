"""Official weight files.

Reading .pth and .safetensors files runs nothing that they contain. A TorchScript archive is a program: torch
reads it, which runs at most how its modules restore their state, and where its weights do not fit our own
network, the archive itself is used, and calling it runs what it contains.
"""

from __future__ import annotations

import pickle
import tarfile
import zipfile
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from sapiens_core.recipes.lookup import FAMILIES, first_recipe
from sapiens_core.recipes.recipe import Task, VariantSpec
from sapiens_export.networks.config import NetworkConfig, released_network
from sapiens_export.networks.sapiens import SapiensNetwork
from sapiens_export.weights import inert_pickle
from sapiens_export.weights.positions import POSITIONS, fitted_positions
from sapiens_export.weights.wrappings import state_in, without_wrapper

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_MAX_NAMES_SHOWN = 3
_MAX_BYTES_SHOWN = 16
_SIZE_BYTES = 8  # of the header of a safetensors file, in front of it

# What torch, pickle and safetensors raise for files that are damaged, or made to confuse them.
_DAMAGE = (
    OSError,
    RuntimeError,
    EOFError,
    MemoryError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    SafetensorError,
)


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint.

    Understands the official layouts: `{"state_dict": ..., "meta": ...}`, a bare dictionary, safetensors, and
    TorchScript archives, whatever the suffix; and what training programs make of them, see `wrappings`.
    Objects beside the weights that are neither tensors nor plain data become inert stubs.

    Args:
        path: The file.

    Returns:
        Parameter names to float32 tensors on the CPU, each of the shape that the file says.

    Raises:
        ValueError: The file is missing, damaged, or holds anything but dense tensors of finite floating-point
            numbers where the weights should be.
    """
    if not path.is_file():
        raise ValueError(
            f"checkpoint must be a file, {path} is not; give the path of a downloaded weight file"
        )
    weights = _checked_state(state_in(_read(path), path), path)
    if not is_torchscript(path):  # a program, which may do more than the modules that it has names of
        weights = without_wrapper(weights, path)
    odd = [name for name, tensor in weights.items() if not _is_plain(tensor)]
    if odd:
        raise ValueError(
            f"weights must be dense tensors of floating-point numbers, {_shown(odd)} in {path} are not; "
            "is it a quantized or pruned network?"
        )
    weights = {name: tensor.float() for name, tensor in weights.items()}
    broken = [name for name, tensor in weights.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise ValueError(
            f"weights must be finite, {_shown(broken)} in {path} are not; download the file again"
        )
    return weights


def is_torchscript(path: Path) -> bool:
    """Tell a TorchScript archive, whatever its suffix, from other files."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def network_from_weights(config: NetworkConfig, weights: Mapping[str, Tensor], source: str) -> SapiensNetwork:
    """Build a network around weights, resizing the position table if the network has another input size.

    Args:
        config: The architecture.
        weights: Official names to tensors, each of the shape in the architecture but for the position table.
        source: What to call the weights in errors.

    Returns:
        The network in evaluation mode.

    Raises:
        ValueError: Names or shapes differ from the architecture's.
    """
    with torch.device("meta"):  # lest weights be made at random that are replaced at once
        network = SapiensNetwork(config)
    weights = official_names(config.task, weights)
    weights.update(fitted_positions(config, weights, source))
    check_fit(network.state_dict(), weights, config.task, source)
    network.load_state_dict(weights, assign=True)
    return network.eval()


def check_fit(wanted: Mapping[str, Tensor], weights: Mapping[str, Tensor], task: str, source: str) -> None:
    """Refuse weights that are not a network's.

    Args:
        wanted: The network's names to tensors, of which the shape counts.
        weights: Names to tensors.
        task: What it predicts.
        source: What to call the weights in errors.

    Raises:
        ValueError: Names or shapes differ.
    """
    missing, unknown = sorted(wanted.keys() - weights.keys()), sorted(weights.keys() - wanted.keys())
    if missing or unknown:
        raise ValueError(
            f"{source} must hold the weights of a {task} network: missing {_shown(missing)}, "
            f"unknown {_shown(unknown)}; is it for another task or size?"
        )
    for name, tensor in wanted.items():
        if tensor.shape != weights[name].shape:
            raise ValueError(
                f"{name} must be {tuple(tensor.shape)}, got {tuple(weights[name].shape)} in {source}; "
                "is it of another size? Describe the network with --size or --network"
            )


def network_from_archive(config: NetworkConfig, path: Path) -> nn.Module:
    """Load an official TorchScript archive, which is used as it is.

    This runs the program in the archive, on an empty image. Prefer `network_from_weights` wherever the
    weights in it fit.

    Args:
        config: The architecture it was traced from.
        path: The archive.

    Returns:
        (B, 3, H, W) float, normalised RGB, to (B, C, h, w) float; in evaluation mode.

    Raises:
        ValueError: It takes or returns other shapes.
    """
    network = torch.jit.load(path, map_location="cpu").eval()
    images = torch.zeros(1, 3, *config.input_hw)
    try:
        with torch.inference_mode():
            outputs = network(images)
    except RuntimeError as error:
        raise ValueError(f"{path} must take images of {tuple(images.shape)}, and fails: {error}") from error
    if isinstance(outputs, tuple) and len(outputs) == 1:  # as the feature extractor was exported
        network, outputs = FirstOutput(network), outputs[0]
    expected = (1, config.num_outputs, *config.output_hw)
    if not isinstance(outputs, Tensor) or tuple(outputs.shape) != expected:
        seen = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise ValueError(
            f"{path} must return {expected} for {config.task}, got {seen}; is it for another task?"
        )
    return network  # type: ignore[no-any-return]


class FirstOutput(nn.Module):
    """A network that returns a tuple, as one that returns the tuple's first entry.

    Args:
        network: The network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the first output for (B, 3, H, W) images."""
        first: Tensor = self.network(images)[0]
        return first


def official_names(task: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring the names of older and bare checkpoints into one form, without the pretraining's decoder.

    Args:
        task: What the network predicts.
        weights: Names to tensors, each of which keeps its shape.
    """
    if first_recipe(task).head is None:
        kept = {name: tensor for name, tensor in weights.items() if not name.startswith("neck.")}
        return {name if name.startswith("backbone.") else f"backbone.{name}": kept[name] for name in kept}
    return {name.replace("keypoint_head.", "head."): tensor for name, tensor in weights.items()}


def recognised_network(
    task: Task, weights: Mapping[str, Tensor], source: str, *, labels: str | None = None
) -> NetworkConfig:
    """Tell the released network that weights belong to, by its width and its number of outputs.

    Args:
        task: What the network predicts.
        weights: Official names to tensors, the position table (1, tokens, width).
        source: What to call the weights in errors.
        labels: Set of keypoints or classes; None: the task's first one with this number of outputs.

    Raises:
        ValueError: None of the released sizes has this width.
    """
    weights = official_names(task, weights)
    positions = weights.get(POSITIONS)
    widths = {spec.embed_dim: size for size, spec in FAMILIES["sapiens"].sizes.items()}
    if positions is None or positions.ndim != 3 or positions.shape[2] not in widths:
        seen = (
            "no position table"
            if positions is None
            else f"a position table of shape {tuple(positions.shape)}"
        )
        raise ValueError(
            f"{source} must be of a released size ({', '.join(widths.values())}), it has {seen}; "
            "describe other networks with --network"
        )
    return released_network(
        task, widths[positions.shape[2]], variant=_recognised_variant(task, weights, source, labels)
    )


def _recognised_variant(
    task: Task, weights: Mapping[str, Tensor], source: str, labels: str | None
) -> VariantSpec:
    head, variants = first_recipe(task).head, first_recipe(task).variants
    if head is None:
        return variants[0]
    last_layer = weights.get(f"{head.name}.{head.last_layer}.weight")
    num_outputs = 0 if last_layer is None else last_layer.shape[0]
    for variant in variants:
        if variant.num_outputs == num_outputs and labels in (None, variant.labels):
            return variant
    known = ", ".join(f"{variant.num_outputs} {variant.labels}".strip() for variant in variants)
    raise ValueError(
        f"{source} must have the outputs of a released {task.value} network ({known}), it has {num_outputs}"
        f"{f' and is said to be {labels}' if labels else ''}; describe other networks with --network"
    )


def random_network(config: NetworkConfig, seed: int) -> SapiensNetwork:
    """Build an untrained network whose weights depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SapiensNetwork(config)
        nn.init.normal_(network.backbone.pos_embed, std=0.02)
    return network.eval()


def _read(path: Path) -> object:
    try:
        if is_torchscript(path):
            return torch.jit.load(path, map_location="cpu").state_dict()
        if _is_safetensors(path):
            return load_file(path)
        return _read_pickle(path)
    except _DAMAGE as error:
        with path.open("rb") as file:
            start = file.read(_MAX_BYTES_SHOWN)
        raise ValueError(
            f"{path} must be a complete PyTorch or safetensors file, got {path.stat().st_size} bytes that "
            f"start with {start!r}; download it again"
        ) from error


def _is_safetensors(path: Path) -> bool:
    """Tell a file that begins with the size of its JSON header, and the header."""
    with path.open("rb") as file:
        start = file.read(_SIZE_BYTES + 1)
    return start[_SIZE_BYTES:] == b"{" and int.from_bytes(start[:_SIZE_BYTES], "little") < path.stat().st_size


def _read_pickle(path: Path) -> object:
    with path.open("rb") as file:  # not the path, whose suffix torch goes by
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            if tarfile.is_tarfile(path):  # of a torch before 1.0, which would unpack it into files
                raise
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=False, pickle_module=inert_pickle)


def _checked_state(content: object, path: Path) -> dict[str, Tensor]:
    if isinstance(content, inert_pickle.Inert):
        raise ValueError(
            f"{path} must hold a dictionary of weights, got an object of a class of its own; save its "
            "state_dict() alone"
        )
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path} must hold a dictionary of weights, got {type(content).__name__}")
    unnamed = [repr(name) for name in content if not isinstance(name, str)]
    if unnamed:
        raise ValueError(f"weights in {path} must have names that are text, got {_shown(unnamed)}")
    others = [name for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise ValueError(
            f"{path} must hold tensors only, {_shown(others)} are not; is it an optimizer state?"
        )
    return content


def _is_plain(tensor: Tensor) -> bool:
    """Tell tensors that have all their numbers in memory from those that only claim to have them."""
    return (
        tensor.layout is torch.strided
        and tensor.is_floating_point()
        and not tensor.is_quantized
        and not tensor.is_meta
        and tensor.untyped_storage().nbytes() >= tensor.numel() * tensor.element_size()
    )


def _shown(names: list[str]) -> str:
    rest = f" and {len(names) - _MAX_NAMES_SHOWN} more" if len(names) > _MAX_NAMES_SHOWN else ""
    return ", ".join(names[:_MAX_NAMES_SHOWN]) + rest if names else "nothing"
