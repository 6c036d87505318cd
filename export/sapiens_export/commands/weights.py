"""Which network an export is of, as its options say, and where its weights are."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal

from sapiens_core.recipes.lookup import FAMILIES
from sapiens_core.recipes.recipe import FamilySpec, Task, VariantSpec
from sapiens_export.commands.rules import BUILT_IN_DETECTOR
from sapiens_export.networks.config import DEMO_NETWORKS, DEMO_SIZE
from sapiens_export.weights.licences import DEMO_LICENCE
from sapiens_export.weights.zoo import ZooEntry, zoo_entry

if TYPE_CHECKING:
    from sapiens_export.networks.config import EngineConfig, WeightsConfig
    from sapiens_export.weights.official import OfficialCheckpoint
    from sapiens_export.weights.sources import Source


def _variants(task: Task) -> dict[str, VariantSpec]:
    """Return the sets of all families by their names; what several have is the first one's."""
    found: dict[str, VariantSpec] = {}
    for facts in FAMILIES.values():
        for variant in facts.recipes[task].variants:
            found.setdefault(variant.labels, variant)
    return found


_KEYPOINTS = {str(variant.num_outputs): variant for variant in _variants(Task.POSE).values()}
_CLASSES = _variants(Task.SEG)
_MAX_SEED = 2**63 - 1

_network = partial(typer.Option, rich_help_panel="Network")


def _choices(variants: Mapping[str, VariantSpec]) -> str:
    return f"{', '.join(variants)}; default: what the weights fit, else {next(iter(variants))}."


@dataclass(frozen=True)
class WeightOptions:
    """What the command line says about a network and its weights; the options' own help describes them."""

    task: Annotated[Task, typer.Argument(help="What the network predicts; detect finds people.")]
    checkpoint: Annotated[
        Path | None, _network(help="Downloaded official weights: .pth, .safetensors or _torchscript.pt2.")
    ] = None
    network: Annotated[
        Path | None, _network(help="JSON description of the network; default: the released one that fits.")
    ] = None
    size: Annotated[
        str | None,
        _network(
            help="Released size, e.g. 0.3b. Alone: fetch its published weights, which `sapiens zoo` lists; "
            "with a checkpoint, default: what the weights fit. demo: the small networks that come with this "
            "project, trained on rendered people."
        ),
    ] = None
    family: Annotated[
        str | None,
        _network(
            help=f"Generation of a released size, {', '.join(FAMILIES)}; default: the first that has the "
            "task in this size."
        ),
    ] = None
    accept_licence: Annotated[
        bool, _network("--accept-licence", help="You accept the licence of the published weights.")
    ] = False
    mirror: Annotated[
        Path | None,
        _network(
            metavar="DIR",
            help="Folder with copies of published files, used instead of the hub: OWNER/NAME/FILE or FILE.",
        ),
    ] = None
    keypoints: Annotated[str | None, _network(help=f"pose: number of keypoints, {_choices(_KEYPOINTS)}")] = (
        None
    )
    classes: Annotated[str | None, _network(help=f"seg: set of classes, {_choices(_CLASSES)}")] = None
    detector: Annotated[
        str | None,
        _network(
            help=f"detect: {BUILT_IN_DETECTOR} (default), which is part of this package; or an RT-DETR, "
            "RT-DETRv2 or D-FINE network: a folder written by save_pretrained, or a name on the Hugging Face "
            "hub such as PekingU/rtdetr_v2_r18vd."
        ),
    ] = None
    random_weights: Annotated[
        bool, _network("--random-weights", help="An untrained network, for trying things out.")
    ] = False
    seed: Annotated[int, _network(min=0, max=_MAX_SEED, help="Seed of --random-weights.")] = 0
    licence: Annotated[
        str | None,
        _network(
            metavar="TEXT",
            help="Licence of the weights, told to every caller; default: that of the release for a released "
            "size or a detector, else unknown.",
        ),
    ] = None

    @cached_property
    def variant(self) -> VariantSpec | None:
        """What the outputs stand for; None: not said.

        Raises:
            typer.BadParameter: There is no such set.
        """
        return _variant("--keypoints", self.keypoints, _KEYPOINTS) or _variant(
            "--classes", self.classes, _CLASSES
        )

    @cached_property
    def generation(self) -> str | None:
        """The family of a released size; None: what the weights tell.

        Raises:
            typer.BadParameter: There is no such family, or it has no such task.
        """
        if self.family is None and self.variant is None:
            return None
        families = [
            name
            for name, facts in FAMILIES.items()
            if self.family in (None, name) and self._is_told_by(facts)
        ]
        if not families:
            raise typer.BadParameter(
                f"--family must be one with {self.task.value} {self.labels or ''}".rstrip()
                + f" of {', '.join(FAMILIES)}, got {self.family}"
            )
        with_size = [name for name in families if self.size in FAMILIES[name].sizes]
        return (with_size or families)[0]

    def _is_told_by(self, facts: FamilySpec) -> bool:
        if self.task not in facts.recipes:
            return False
        known = {variant.labels for variant in facts.recipes[self.task].variants}
        return self.variant is None or self.variant.labels in known

    @property
    def other_detector(self) -> str | None:
        """The detector that is asked for in place of the built-in one; None: none is."""
        return None if self.detector == BUILT_IN_DETECTOR else self.detector

    @property
    def labels(self) -> str | None:
        """Set of keypoints or classes; None: not said."""
        return self.variant.labels if self.variant else None

    @property
    def is_demo(self) -> bool:
        """Whether the weights that come with this project are asked for."""
        return self.size == DEMO_SIZE and self._is_size_alone

    @cached_property
    def published(self) -> ZooEntry | None:
        """The published weights that are asked for; None: others are."""
        if self.size is None or self.is_demo or not self._is_size_alone:
            return None
        return zoo_entry(self.task, self.size, self.labels, self.generation)

    @property
    def known_licence(self) -> str | None:
        """The licence of the published weights or of the demo's; None: others are asked for."""
        if self.is_demo:
            return DEMO_LICENCE
        return self.published.licence if self.published else None

    @property
    def _is_size_alone(self) -> bool:
        return self.task != Task.DETECT and self.checkpoint is None and not self.random_weights

    @property
    def _demo_file(self) -> Path:
        return DEMO_NETWORKS / f"{self.task.value}.safetensors"

    def config(self) -> WeightsConfig | None:
        """Return the architecture, if it is said.

        Raises:
            ValueError: It is not said as it must be.
        """
        from sapiens_export.networks.config import read_network, released_config

        if self.network is not None:
            return read_network(self.network, self.task)
        if self.size is not None:
            return released_config(self.task, self.size, self.generation, variant=self.variant)
        if self.random_weights:
            raise ValueError("--random-weights needs an architecture; give --size or --network")
        return None

    def fetched(self) -> OfficialCheckpoint | None:
        """Fetch the published weights that are asked for, once their licence is accepted.

        Raises:
            ValueError: The licence is not accepted, or the file cannot be had.
            DownloadError: The hub does not give the file.
        """
        if self.published is None:
            return None
        from sapiens_export.weights.official import checkpoint_from_zoo

        return checkpoint_from_zoo(
            self.published,
            accept_licence=self.accept_licence,
            mirror=self.mirror,
            ask=_ask if sys.stdin.isatty() else None,
        )

    def sha256(self) -> str:
        """Return the hash of the weight file, which is fetched if it is not here.

        Raises:
            ValueError: There is no such file, or its licence is not accepted.
            DownloadError: The hub does not give the file.
        """
        from sapiens_export.weights.hashes import file_sha256

        if self.task == Task.DETECT:
            from sapiens_export.networks.config import NANODET_WEIGHTS

            return file_sha256(NANODET_WEIGHTS)
        if self.published and self.mirror is None:
            from sapiens_export.weights.hub import cached_sha256

            if known := cached_sha256(self.published.file):
                return known
        fetched = self.fetched()
        return file_sha256(fetched.path if fetched else self._demo_file)

    def source(self, fetched: OfficialCheckpoint | None) -> Source:
        """Load the network.

        Args:
            fetched: What `fetched` returned.

        Raises:
            ValueError: The weights cannot be read, or are another network's.
        """
        from sapiens_export.weights.sources import built_in_detector, source_from_checkpoint, source_from_seed

        if self.task == Task.DETECT:
            return built_in_detector()
        config = self.config()
        if fetched is not None:
            source = source_from_checkpoint(self.task, fetched.path, config, labels=self.labels)
            return replace(source, origin=fetched.origin)
        checkpoint = self._demo_file if self.is_demo else self.checkpoint
        if checkpoint is not None:
            return source_from_checkpoint(self.task, checkpoint, config, labels=self.labels)
        if config is None or not self.random_weights:
            raise ValueError(f"weights of {self.task.value} must be given, got none; give --checkpoint")
        return source_from_seed(config, self.seed)

    def planned(self) -> tuple[EngineConfig, str]:
        """Return the architecture, and in words where the weights would come from; nothing is fetched.

        Raises:
            ValueError: The weights are a file that cannot be read or that the mirror lacks, or the
                architecture is not said.
        """
        from sapiens_export.networks.config import NANODET
        from sapiens_export.weights.checkpoints import load_state_dict
        from sapiens_export.weights.sources import recognised_config

        if self.task == Task.DETECT:
            return NANODET, "part of this package"
        config = self.config()
        if self.checkpoint is not None:
            weights = load_state_dict(self.checkpoint)
            config = config or recognised_config(self.task, weights, str(self.checkpoint), labels=self.labels)
            return config, f"{self.checkpoint}, {decimal(self.checkpoint.stat().st_size)}"
        if config is None:
            raise ValueError(f"weights of {self.task.value} must be given, got none; give --checkpoint")
        if self.is_demo:
            return (
                config,
                f"{self._demo_file.name}, {decimal(self._demo_file.stat().st_size)}, part of this project",
            )
        if self.published is None:
            return config, f"random, seed {self.seed}"
        file = self.published.file
        where = f"about {decimal(self.published.num_bytes)}, downloaded unless it is in the cache"
        if self.mirror:
            from sapiens_export.weights.hub import mirrored_file

            copy = mirrored_file(file, self.mirror)
            where = f"{decimal(copy.stat().st_size)}, from {copy}"
        return config, f"{file.repository}, {file.path}, {where}"


def _variant(option: str, choice: str | None, variants: Mapping[str, VariantSpec]) -> VariantSpec | None:
    if choice is None or choice in variants:
        return None if choice is None else variants[choice]
    raise typer.BadParameter(f"{option} must be one of {', '.join(variants)}, got {choice!r}")


def _ask(question: str) -> bool:
    return typer.confirm(question, err=True)
