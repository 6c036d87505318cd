"""What finishes an engine's output takes memory for the image, so it looks at its size first."""

import numpy as np
import pytest

from sapiens_core.contract.limits import LIMITS
from sapiens_core.contract.settings import StepSettings
from sapiens_core.finish.depth import image_depth
from sapiens_core.finish.detect import detected_persons
from sapiens_core.finish.normal import unit_normals
from sapiens_core.finish.seg import class_map

SETTINGS = StepSettings(network_hw=(64, 48), max_batch_size=1, fit="letterbox")
FINISHING = {
    "depth": lambda image_hw: image_depth(np.zeros((4, 3), np.float32), image_hw),
    "normals": lambda image_hw: unit_normals(np.zeros((3, 4, 3), np.float32), None, image_hw),
    "classes": lambda image_hw: class_map(np.zeros((2, 4, 3), np.float16), (8, 6), image_hw),
    "persons": lambda image_hw: detected_persons(
        np.zeros((5, 4), np.float32), np.zeros(5, np.float32), image_hw, SETTINGS
    ),
}


@pytest.mark.parametrize("finish", FINISHING.values(), ids=FINISHING.keys())
@pytest.mark.parametrize(
    ("image_hw", "seen"),
    [
        ((8_500, 10_000), "10000 x 8500; scale it down"),
        ((100_000, 100_000), "100000 x 100000"),
        ((1, LIMITS.max_image_side + 1), "32767 x 1"),
        ((0, 5), "at least 1 x 1 pixels, got 5 x 0"),
        ((5, -3), "got -3 x 5"),
    ],
)
def test_sizes_that_no_image_has_are_refused_in_words(finish, image_hw, seen):
    with pytest.raises(ValueError, match=f"^image must have .*{seen}"):
        finish(image_hw)


@pytest.mark.parametrize("finish", FINISHING.values(), ids=FINISHING.keys())
def test_the_smallest_image_is_finished(finish):
    finish((1, 1))
