import numpy as np
import pytest

from sapiens_core.contract.settings import StepSettings
from sapiens_core.prepare.image import image_inputs


@pytest.mark.parametrize("case", range(4))
def test_stretched_pixels_equal_the_reference(case, golden):
    vectors = golden("dense_preprocess")
    pixels = image_inputs(
        vectors[f"c{case}_image_bgr"], StepSettings(tuple(vectors[f"c{case}_size_hw"].tolist()), 1)
    ).pixels
    np.testing.assert_array_equal(pixels[0].transpose(2, 0, 1), vectors[f"c{case}_resized_rgb_chw"])


def test_the_image_is_left_unchanged(photo):
    before = photo.copy()
    image_inputs(photo, StepSettings((64, 48), 1))
    np.testing.assert_array_equal(photo, before)
