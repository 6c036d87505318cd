"""What the page asks about a picture, and what it shows of the answers."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image

from sapiens_client.results.dense import SegmentationResult
from sapiens_client.results.depth import DepthResult
from sapiens_client.results.people import PoseResult
from sapiens_client.results.pointmap import PointmapResult
from sapiens_client.results.saving import Format
from sapiens_client.tasks.table import AnalysisTask
from sapiens_demo.figures import facts, joints_figure, parts_figure, shown_size
from sapiens_demo.reliefs import points_relief, relief

if TYPE_CHECKING:
    from sapiens_client.client import SapiensClient
    from sapiens_client.results.base import Result
    from sapiens_client.results.models import ModelCard

_KEPT = (Format.PICTURE, Format.NPZ, Format.JSON)


@dataclass(frozen=True, eq=False)
class Shown:
    """What the page shows of a result.

    Attributes:
        pair: The picture as it was, and with the result.
        figure: HTML that names what is under the pointer; empty: there are no names.
        surface: glTF file; None: the result has none.
    """

    pair: tuple[PIL.Image.Image, PIL.Image.Image]
    figure: str
    surface: Path | None


@dataclass(frozen=True, eq=False)
class Answers:
    """What the page shows of all that was asked about a picture.

    Attributes:
        facts: HTML about who answered, and how fast.
        shown: By task; without those that failed.
        download: An archive with the results; None: there is none.
    """

    facts: str
    shown: Mapping[str, Shown]
    download: Path | None


def served_tasks(cards: Iterable[ModelCard]) -> list[str]:
    """Return the names of the tasks that a server's models answer."""
    served = {card.info.task for card in cards}
    if {"pose", "detect"} <= served:
        served.add(AnalysisTask.PEOPLE)
    return [task.value for task in AnalysisTask if task in served]


def asked(client: SapiensClient, picture: Path, tasks: Sequence[str], folder: Path) -> Answers:
    """Ask about a picture.

    Args:
        client: Of the server.
        picture: An image file.
        tasks: What to ask for.
        folder: For what the page offers as files.

    Raises:
        SapiensError: There is no answer.
    """
    analysis = client.analyze(picture, [AnalysisTask(task) for task in tasks])
    shown = {task: _shown(result, folder / f"{task}.glb") for task, result in analysis.items()}
    files = [path for task, result in analysis.items() for path in _saved(result, folder / task)]
    files += [each.surface for each in shown.values() if each.surface is not None]
    download = archive(files, folder / "sapiens.zip") if files else None
    return Answers(facts(analysis.answers), shown, download)


def archive(files: Iterable[Path], path: Path) -> Path:
    """Put files into an archive; what is large in them is compressed already, or would take long."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as written:
        for file in files:
            written.write(file, file.name)
    return path


def _saved(result: Result, stem: Path) -> list[Path]:
    forms = [form for form in _KEPT if form in result.writers]
    return [path for form in forms for path in result.save(stem.with_name(stem.name + form.suffix))]


def _shown(result: Result, surface: Path) -> Shown:
    original = PIL.Image.fromarray(result.image)
    drawn = result.plot()
    small = shown_size(original)
    figure, content = "", b""
    if isinstance(result, SegmentationResult):
        figure = parts_figure(original, result.class_map, result.class_set)
    elif isinstance(result, PoseResult):
        figure = joints_figure(drawn, result.keypoints, result.scores, result.keypoint_set)
    elif isinstance(result, DepthResult):
        content = relief(result)
    elif isinstance(result, PointmapResult):
        content = points_relief(result)
    if content:
        surface.write_bytes(content)
    pair = small, drawn.convert("RGB").resize(small.size)
    return Shown(pair, figure, surface if content else None)
