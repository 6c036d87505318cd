"""Files that the training tools read."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from training.images import read_photographs


def test_photographs_are_rgb_and_in_the_order_of_their_names(tmp_path):
    for name, bgr in (("b.png", (0, 0, 255)), ("a.png", (255, 0, 0))):
        cv2.imwrite(str(tmp_path / name), np.full((2, 3, 3), bgr, np.uint8))
    assert [photograph[0, 0].tolist() for photograph in read_photographs(tmp_path)] == [
        [0, 0, 255],
        [255, 0, 0],
    ]


def test_a_file_that_is_no_image_is_named(tmp_path):
    (tmp_path / "LICENSE.txt").write_text("CC0")
    with pytest.raises(ValueError, match=r"LICENSE\.txt must be an image file"):
        read_photographs(tmp_path)
