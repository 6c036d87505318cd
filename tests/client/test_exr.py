from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sapiens_client import InvalidInputError

PROGRAM = """
import sys, cv2, numpy as np
np.save(sys.argv[2], cv2.imread(sys.argv[1], cv2.IMREAD_UNCHANGED))
"""


def read_by_opencv(path: Path) -> np.ndarray:
    """OpenCV reads the variable once in a process."""
    target = path.with_suffix(".npy")
    environment = os.environ | {"OPENCV_IO_ENABLE_OPENEXR": "1"}
    subprocess.run([sys.executable, "-c", PROGRAM, path, target], env=environment, check=True)
    return np.load(target)


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (16, 5), (31, 17), (33, 100)])
def test_depth_is_exact_also_where_it_is_no_number(result, tmp_path, shape):
    depth = np.random.default_rng(0).normal(3, 2, shape).astype(np.float32)
    depth[0, 0] = np.nan
    (path,) = dataclasses.replace(result, depth=depth).save(tmp_path / "depth.exr")
    np.testing.assert_array_equal(read_by_opencv(path), depth, strict=True)


def test_smooth_depth_is_exact_and_takes_less_room(result, tmp_path):
    depth = np.linspace(0, 1, 300 * 200, dtype=np.float32).reshape(300, 200)
    (path,) = dataclasses.replace(result, depth=depth).save(tmp_path / "depth.exr")
    np.testing.assert_array_equal(read_by_opencv(path), depth, strict=True)
    assert path.stat().st_size < 0.8 * depth.nbytes


def test_normals_are_exact_and_x_is_red(normal_result, tmp_path):
    (path,) = normal_result.save(tmp_path / "normal.exr")
    bgr = read_by_opencv(path)
    np.testing.assert_array_equal(bgr[:, :, ::-1], normal_result.normals, strict=True)


def test_classes_are_no_floats(seg_result, tmp_path):
    with pytest.raises(InvalidInputError, match=r"got 'seg\.exr'"):
        seg_result.save(tmp_path / "seg.exr")
