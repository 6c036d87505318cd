"""Person detectors of the RT-DETR family, by transformers: from a folder or from the Hugging Face hub."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard
from transformers import AutoConfig, AutoModelForObjectDetection
from yaml import YAMLError

from sapiens_core.recipes.recipe import Normalization
from sapiens_export.networks.config import DetectorConfig
from sapiens_export.networks.detectors import ServedDetector
from sapiens_export.weights.hub import DownloadError, Hub, download_checkpoint
from sapiens_export.weights.zoo import HubFile

# Those that score every class by itself and return boxes as shares of the image, as `ServedDetector` expects.
FAMILIES = {"rt_detr": "rt-detr", "rt_detr_v2": "rt-detr-v2", "d_fine": "d-fine"}
PERSON = "person"
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
_WEIGHTS = "model.safetensors"
_PREPROCESSING = "preprocessor_config.json"
_CARD = "README.md"


@dataclass(frozen=True)
class LoadedDetector:
    """A detector and where it comes from.

    Attributes:
        network: As it is served, in evaluation mode.
        config: What it takes and returns.
        weights: The file of its weights.
        licence: As its model card states it.
    """

    network: ServedDetector
    config: DetectorConfig
    weights: Path
    licence: str


def load_detector(name: str, hub: Hub | None = None) -> LoadedDetector:
    """Load a detector in the format of `save_pretrained`; code beside the weights is not run.

    Args:
        name: Folder, or name on the hub, from where it is downloaded.
        hub: Where from; None: as the environment says.

    Raises:
        ValueError: There is no such detector, or it is of another kind.
    """
    try:
        folder = _folder(name, hub or Hub())
        config = AutoConfig.from_pretrained(folder)
        if config.model_type not in FAMILIES:
            raise ValueError(f"detector must be one of {sorted(FAMILIES)}, {name} is {config.model_type!r}")
        preprocessing = json.loads((folder / _PREPROCESSING).read_text())
        network, loading = AutoModelForObjectDetection.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except OSError as error:
        # What the hub's client advises is for published weights.
        reason = str(error).partition(";" if isinstance(error, DownloadError) else "\n")[0]
        raise ValueError(
            f"detector must be a folder or a name on the Hugging Face hub with config.json, {_WEIGHTS} and "
            f"{_PREPROCESSING}, got {name}: {reason}; check name and network, or copy these files into a "
            "folder and give that"
        ) from error
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])[:3]
        raise ValueError(f"{name} must hold the weights of a whole detector, it lacks {missing} ...")
    persons = [index for index, label in config.id2label.items() if label == PERSON]
    if not persons:
        labels = list(config.id2label.values())[:5]
        raise ValueError(f"detector must have a class {PERSON!r}, {name} has {labels} ...")
    return LoadedDetector(
        ServedDetector(network, _normalization(preprocessing), persons[0]).eval(),
        DetectorConfig(
            FAMILIES[config.model_type], Path(name).name, _input_hw(preprocessing, name), config.num_queries
        ),
        folder / _WEIGHTS,
        _licence(name, folder / _CARD),
    )


def _folder(name: str, hub: Hub) -> Path:
    """Return the folder of the files: that of the name, else where they are downloaded to.

    transformers would download them too, but tries for half a minute where there is no way to the hub.
    """
    if Path(name).is_dir():
        return Path(name)
    if not _HUB_NAME.fullmatch(name):
        raise OSError("there is no such folder, and the hub has no such names")
    first, *others = ("config.json", _PREPROCESSING, _WEIGHTS)
    folder = download_checkpoint(HubFile(name, first), hub=hub).path.parent
    for file in others:
        download_checkpoint(HubFile(name, file), hub=hub)
    with suppress(DownloadError):  # there need not be a model card
        download_checkpoint(HubFile(name, _CARD), hub=hub)
    return folder


def _input_hw(preprocessing: dict[str, Any], name: str) -> tuple[int, int]:
    size = preprocessing.get("size") or {}
    if not {"height", "width"} <= size.keys():
        raise ValueError(f"detector must take one size, with height and width, {name} takes {size}")
    return size["height"], size["width"]


def _normalization(preprocessing: dict[str, Any]) -> Normalization:
    """Return the statistics in grey levels; the family's own are none but the division by 255."""
    scale = preprocessing.get("rescale_factor", 1 / 255)
    is_normalized = preprocessing.get("do_normalize", False)
    mean = preprocessing["image_mean"] if is_normalized else (0.0, 0.0, 0.0)
    std = preprocessing["image_std"] if is_normalized else (1.0, 1.0, 1.0)
    return Normalization(tuple(value / scale for value in mean), tuple(value / scale for value in std))


def _licence(name: str, card: Path) -> str:
    """Read the licence from the head of the model card, if there is one that can be read."""
    stated = None
    with suppress(OSError, ValueError, YAMLError):
        stated = ModelCard.load(card, ignore_metadata_errors=True).data.license if card.is_file() else None
    return str(stated) if stated else f"not stated by {name}"
