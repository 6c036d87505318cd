"""Write the tables of docs/protocol.md from the contract and the recipes: `make protocol`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from sapiens_core.contract.limits import IMAGE_FORMATS, LIMITS
from sapiens_core.contract.model_info import CONTRACT, CONTRACT_PARAMETER
from sapiens_core.contract.tensors import TensorSpec
from sapiens_core.recipes.combined import HUMAN, HUMAN_TASKS_OF, PEOPLE_POSE
from sapiens_core.recipes.lookup import FAMILIES, recipe
from sapiens_core.recipes.recipe import Task

PATH = Path(__file__).parents[1] / "docs" / "protocol.md"
MEANINGS = {
    "image": "the bytes of one image file",
    "bboxes": "boxes x0, y0, x1, y1 in pixels of the image",
    "whole_image_if_nobody": "true: where no person is found, the whole image is taken for one",
    "depth": "row, column of the image; relative, larger is farther",
    "normals": "row, column of the image; unit x, y, z",
    "class_map": "row, column of the image; index of the class",
    "points": "row, column of the image; x right, y down, z forward, metres",
    "scale": "canonical focal length (the width of the network's input) through that of the camera",
    "focal_length": "pixels of the image",
    "intrinsics": "3 x 3 matrix of a pinhole camera, pixels of the image",
    "valid": "row, column of the image; 0 where the point is no measurement",
    "alpha": "row, column of the image; 0 to 1, how much of a pixel is the person's",
    "foreground": "row, column of the image; RGB of the person, 0 to 1, times alpha",
    "albedo": "row, column of the image; RGB of the surface without light",
    "features": "channel, row, column of the network's grid of tokens",
    "keypoints": "person, keypoint; x, y in pixels of the image",
    "scores": "how sure the network is: of each keypoint of each person, or of each box",
    "person_bboxes": "the boxes that keypoints were looked for in",
    "bbox_scores": "how sure the detector is of each box",
    "image_hw": "height and width of the image, after its orientation was applied",
    "depth_map": "depth at the network's output size",
    "normal_map": "normals there, of any length",
    "logits": "a value for each class there; the largest wins",
    "margins": "m: a class is (m / 255)² x `margin_range` below the best one there",
    "margin_range": "row, column there; what a margin of 255 stands for",
    "point_map": "points there, times `scale`",
    "matte": "red, green and blue, each times alpha, and alpha there",
    "albedo_map": "albedo there, 0 to 1",
}
_SECTIONS = re.compile(r"(<!-- (\w+): `make protocol` writes this -->\n).*?(?=<!-- end -->)", re.DOTALL)

Row = tuple[str, Sequence[TensorSpec], Sequence[TensorSpec]]


def served() -> Iterator[tuple[Row, str]]:
    """Yield what clients call, as name, inputs and outputs, and the family whose networks do it."""
    for family, facts in FAMILIES.items():
        for spec in facts.recipes.values():
            yield (spec.name, spec.preprocess.inputs, spec.outputs), family
            if spec.raw_outputs:
                yield (spec.raw_name, spec.preprocess.inputs, spec.raw_outputs), family
        parts = [recipe(family, task) for task in HUMAN_TASKS_OF[family]]
        outputs = dict.fromkeys(tensor for part in parts for tensor in part.outputs)
        yield (HUMAN, parts[0].preprocess.inputs, tuple(outputs)), family
    detect = recipe("", Task.DETECT)
    yield (detect.name, detect.preprocess.inputs, detect.outputs), "detectors"
    yield (PEOPLE_POSE.name, PEOPLE_POSE.inputs, PEOPLE_POSE.outputs), "sapiens with a detector"


def tensor(spec: TensorSpec) -> str:
    """Return one tensor's name, type and shape as a request or a reply has them."""
    dims = ", ".join(map(str, (*((-1,) if spec.is_batched else ()), *spec.dims)))
    can_be_left_out = spec.is_optional and spec.name != "image"  # which a step refuses to do without
    return f"`{spec.name}` {spec.dtype} [{dims}]{', optional' if can_be_left_out else ''}"


def models() -> Iterator[str]:
    """Yield the table of models."""
    yield from ("| model | of | inputs | outputs |", "|---|---|---|---|")
    families: dict[Row, list[str]] = {}
    for row, family in served():
        families.setdefault(row, []).append(family)
    for (name, inputs, outputs), of in sorted(families.items(), key=lambda item: item[0][0]):
        cells = (f"`{name}`", ", ".join(of), *("; ".join(map(tensor, each)) for each in (inputs, outputs)))
        yield f"| {' | '.join(cells)} |"


def tensors() -> Iterator[str]:
    """Yield the table of what tensors mean."""
    yield from ("| tensor | means |", "|---|---|")
    named = {spec.name for (_, inputs, outputs), _ in served() for spec in (*inputs, *outputs)}
    for name in sorted(named):
        yield f"| `{name}` | {MEANINGS[name]} |"


def limits() -> Iterator[str]:
    """Yield what a request may contain."""
    yield f"* Formats: {', '.join(IMAGE_FORMATS)}; a file of at most {LIMITS.max_image_bytes // 2**20} MiB."
    yield (
        f"* At most {LIMITS.max_image_pixels:,} pixels (an operator may allow less) and sides of at most "
        f"{LIMITS.max_image_side:,}."
    )
    yield f"* Parameter `{CONTRACT_PARAMETER}` of a model's config: `{CONTRACT}`, the version of this page."


def text() -> str:
    """Return the page with its tables written anew."""
    parts = {"models": models, "tensors": tensors, "limits": limits}
    return _SECTIONS.sub(
        lambda found: found[1] + "".join(f"{line}\n" for line in parts[found[2]]()), PATH.read_text()
    )


if __name__ == "__main__":
    PATH.write_text(text())
