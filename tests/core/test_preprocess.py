import numpy as np
import pytest

from sapiens_core.prepare.pixels import dense_pixels


@pytest.mark.parametrize("case", range(4))
def test_dense_pixels_equal_the_reference(case, golden):
    vectors = golden("dense_preprocess")
    pixels = dense_pixels(vectors[f"c{case}_image_bgr"], tuple(vectors[f"c{case}_size_hw"].tolist()))
    np.testing.assert_array_equal(pixels[0].transpose(2, 0, 1), vectors[f"c{case}_resized_rgb_chw"])


def test_the_image_is_left_unchanged(photo):
    before = photo.copy()
    dense_pixels(photo, (64, 48))
    np.testing.assert_array_equal(photo, before)
