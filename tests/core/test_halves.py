"""Conversions from and to halves, with OpenCV 4 and as they are with OpenCV 5, which has none."""

import cv2
import numpy as np
import pytest

from sapiens_core.images.opencv import float16_of, float32_of

EVERY_HALF = np.arange(2**16, dtype=np.uint16).view(np.float16).reshape(16, 64, 64)


@pytest.fixture(params=[4, 5], ids="OpenCV {}".format)
def _version(request, monkeypatch):
    if request.param == 5:
        monkeypatch.delattr(cv2, "convertFp16", raising=False)


@pytest.mark.usefixtures("_version")
def test_every_half_goes_there_and_back():
    wide = float32_of(EVERY_HALF)
    assert wide.dtype == np.float32
    np.testing.assert_array_equal(wide, EVERY_HALF.astype(np.float32))
    np.testing.assert_array_equal(float16_of(wide), EVERY_HALF)


@pytest.mark.usefixtures("_version")
def test_floats_are_rounded_to_the_nearest_half_and_to_infinity():
    values = np.float32([[1 + 2**-11, 1 + 3 * 2**-11, 65519.9, 65520, -1e9, 2**-25, 3e-8]])
    expected = [[1, 1 + 2**-9, 65504, np.inf, -np.inf, 0, 2**-25 * 2]]
    np.testing.assert_array_equal(float16_of(values), np.float16(expected))
