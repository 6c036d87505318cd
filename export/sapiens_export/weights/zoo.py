"""The published Sapiens weights: what exists, where it lies, under which licence.

Source: README and model cards of the first release of `facebookresearch/sapiens`, README of
`facebookresearch/sapiens2`, and for the second family's accuracy its paper (arXiv 2604.21681), as its readers
quote it: that of each size is not known. Its commits on the hub are those that public programs pin which have
fetched the files; they give seven sizes too, which are float32 and at most 0.1 MB of names more. Paths that
follow from the published naming but are not written out there are marked as inferred. Left out is what has no
architecture here: the first release's person detector and its one-class foreground network. No weights are
published of albedo.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from types import MappingProxyType
from typing import Any, Literal

from sapiens_core.recipes.lookup import FAMILIES, recipe
from sapiens_core.recipes.recipe import Task

FileFormat = Literal["original", "clean", "torchscript", "bfloat16", "transformers"]


@dataclass(frozen=True)
class HubFile:
    """One file on the Hugging Face hub.

    Attributes:
        repository: The hub's name of the repository, "owner/name".
        path: The file in it.
        is_inferred: The path follows from the naming of other files; nobody has written it down.
        revision: Commit of the repository that is fetched; None: none is known, and the newest is.
    """

    repository: str
    path: str
    is_inferred: bool = False
    revision: str | None = None

    @property
    def name(self) -> str:
        """The file's own name, without folders."""
        return self.path.rpartition("/")[2]


@dataclass(frozen=True)
class Accuracy:
    """How well a network does, as published.

    Attributes:
        metric: What was measured, on what. The figures on COCO are of whole-body or body keypoints, with flip
            test and a detector's boxes. Goliath's and those of the second family are of images that are not
            published, of each family other ones: they do not compare.
        value: Per cent, or what the metric says.
    """

    metric: str
    value: float


@dataclass(frozen=True)
class ZooEntry:
    """One published network.

    Attributes:
        task: What it predicts.
        size: Name of the released size, e.g. "0.3b".
        labels: Name of its set of keypoints or classes; empty where channels are no labels.
        num_parameters: Numbers that its architecture takes.
        licence: Licence of the weights, or "not stated".
        accuracy: As published; None: nothing is.
        files: Its weights by format. "original" is what the training wrote, "clean" the bare backbone;
            "torchscript" and "bfloat16" are programs, "transformers" a copy under another name.
        family: Generation.
    """

    task: Task
    size: str
    labels: str
    num_parameters: int
    licence: str
    accuracy: Accuracy | None
    files: Mapping[FileFormat, HubFile]
    family: str = "sapiens"

    @property
    def file(self) -> HubFile:
        """The weights that are exported: the original ones, which can be read without running anything."""
        return self.files["original"]

    @property
    def num_bytes(self) -> int:
        """About the size of that file, which holds float32."""
        return self.num_parameters * 4

    @property
    def input_hw(self) -> tuple[int, int]:
        """Height and width of the network's input, pixels."""
        window = FAMILIES[self.family].sizes[self.size].window
        return recipe(self.family, self.task).released_hw(window)


def _zoo_entry(facts: Mapping[str, Any]) -> ZooEntry:
    accuracy = facts["accuracy"]
    return ZooEntry(
        task=Task(facts["task"]),
        size=facts["size"],
        labels=facts["labels"],
        num_parameters=facts["num_parameters"],
        licence=facts["licence"],
        accuracy=None if accuracy is None else Accuracy(**accuracy),
        files=MappingProxyType({form: HubFile(**file) for form, file in facts["files"].items()}),
        family=facts.get("family", "sapiens"),
    )


ZOO: tuple[ZooEntry, ...] = tuple(
    map(_zoo_entry, json.loads((files("sapiens_export") / "data" / "zoo.json").read_text()))
)


def zoo_entry(task: Task, size: str, labels: str | None = None, family: str | None = None) -> ZooEntry:
    """Return a published network.

    Args:
        task: What it predicts.
        size: Name of the released size.
        labels: Set of keypoints or classes; None: the default of the task and family.
        family: Generation; None: the first that has the task in this size.

    Raises:
        ValueError: There are no such published weights.
    """
    of_task = [entry for entry in ZOO if entry.task is task and family in (None, entry.family)]
    for entry in of_task:
        if (entry.size, entry.labels) == (size, labels or _default_labels(entry)):
            return entry
    known = ", ".join(f"{entry.size} {entry.labels}".strip() for entry in of_task)
    default = next((_default_labels(entry) for entry in of_task), "")
    wanted = f"{size} {default if labels is None else labels}".strip()
    others = [_option(entry) for entry in of_task if entry.size == size and entry.labels]
    raise ValueError(
        f"published weights of {task.value} must be one of {known or 'none'}, got {wanted}; give "
        f"{''.join(f'{option}, or ' for option in others)}a weight file of your own with --checkpoint"
    )


def _default_labels(entry: ZooEntry) -> str:
    return recipe(entry.family, entry.task).variants[0].labels


def _option(entry: ZooEntry) -> str:
    """Return what asks `sapiens export` for the labels of a network."""
    own = recipe(entry.family, entry.task)
    if own.labels == "classes":
        return f"--classes {entry.labels}"
    return next(
        f"--keypoints {variant.num_outputs}" for variant in own.variants if variant.labels == entry.labels
    )
