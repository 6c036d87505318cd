"""What torch finishes where tensors are equals what numpy finishes; here tensors are on the CPU."""

import cv2
import numpy as np
import pytest
import torch

from sapiens_core.contract.settings import StepSettings
from sapiens_core.finish import depth, in_torch, margins, normal, seg
from sapiens_core.finish.bilinear import axis_sizes

NETWORK_HW = (96, 72)
FULL, LITE = StepSettings(NETWORK_HW, 1), StepSettings(NETWORK_HW, 1, preprocess="lite")
IMAGE_SIZES = [(203, 151), (17, 29), (1, 1), (3, 500), NETWORK_HW]
ULP = 2.0**-23


def smooth(rng, shape):
    coarse = rng.normal(size=(shape[0], 5, 4)).astype(np.float32)
    return np.stack([cv2.resize(plane, shape[:0:-1], interpolation=cv2.INTER_CUBIC) for plane in coarse])


def noisy(rng, shape):
    return rng.normal(scale=3, size=shape).astype(np.float32)


def blocky(rng, shape):
    coarse = rng.integers(-4, 5, size=(shape[0], 8, 6)).astype(np.float32)  # with many exact ties
    return np.stack([cv2.resize(plane, shape[:0:-1], interpolation=cv2.INTER_NEAREST) for plane in coarse])


def nearly_tied(rng, shape):
    """Every class is a rounding or two from the next one, so that the order of sums decides."""
    return noisy(rng, (1, *shape[1:])) * (1 + ULP * rng.integers(-2, 3, size=shape)).astype(np.float32)


def both(numpy_form, torch_form, arrays, image_hw, settings):
    size = np.array(image_hw, np.int32)
    before = [array.copy() for array in arrays]
    (wanted,) = numpy_form(*arrays, size, settings)
    (found,) = torch_form(*map(torch.from_numpy, arrays), torch.from_numpy(size), settings)
    assert all(map(np.array_equal, arrays, before))
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    assert found.flags.c_contiguous
    return found, wanted


@pytest.mark.parametrize("image_hw", IMAGE_SIZES, ids=str)
@pytest.mark.parametrize(
    ("pattern", "dtype", "settings"),
    [
        (smooth, np.float16, LITE),
        (noisy, np.float16, FULL),
        (blocky, np.float16, FULL),
        (nearly_tied, np.float32, LITE),
        (nearly_tied, np.float32, FULL),
    ],
)
def test_every_pixel_has_the_same_class(pattern, dtype, settings, image_hw):
    logits = pattern(np.random.default_rng(0), (20, 48, 36)).astype(dtype)[None]
    np.testing.assert_array_equal(*both(seg.finish, in_torch.seg, [logits], image_hw, settings))


def test_near_ties_are_what_numpy_decides(monkeypatch):
    """Without its word classes differ: the equality above is its doing, not luck."""
    logits = nearly_tied(np.random.default_rng(0), (28, 48, 36))[None]
    monkeypatch.setattr(in_torch, "_DOUBT", -1.0)
    found, wanted = both(seg.finish, in_torch.seg, [logits], (203, 151), FULL)
    assert (found != wanted).any()


def test_classes_that_are_clear_are_not_left_to_numpy(monkeypatch):
    """Else the work would be done on the CPU, and twice."""
    logits = np.full((1, 3, 48, 36), -1, np.float32)
    logits[0, 0, :, :18] = logits[0, 2, :, 18:] = 1
    asked = []
    monkeypatch.setattr(seg, "strip_classes", lambda *args: asked.append(args))
    size = torch.tensor([203, 150], dtype=torch.int32)
    (classes,) = in_torch.seg(torch.from_numpy(logits), size, LITE)
    assert asked == []
    assert set(np.unique(classes)) == {0, 2}


@pytest.mark.parametrize("band_bytes", [1, 40_000])
def test_bands_change_nothing(band_bytes, monkeypatch):
    logits = noisy(np.random.default_rng(0), (1, 7, 48, 36)).astype(np.float16)
    monkeypatch.setattr(in_torch, "_BAND_BYTES", band_bytes)
    np.testing.assert_array_equal(*both(seg.finish, in_torch.seg, [logits], (65, 151), FULL))


@pytest.mark.parametrize("image_hw", IMAGE_SIZES, ids=str)
@pytest.mark.parametrize("pattern", [noisy, blocky])
def test_margins_give_the_same_classes(pattern, image_hw):
    logits = pattern(np.random.default_rng(1), (9, *NETWORK_HW))
    below = logits.max(axis=0) - logits
    largest = below.max(axis=0).clip(1e-4).astype(np.float16)
    shares = (below / largest.astype(np.float32)).clip(max=1)
    arrays = [np.round(255 * np.sqrt(shares)).astype(np.uint8)[None], largest[None]]
    np.testing.assert_array_equal(*both(margins.finish, in_torch.margins, arrays, image_hw, FULL))


@pytest.mark.parametrize("image_hw", IMAGE_SIZES, ids=str)
@pytest.mark.parametrize(("pattern", "settings"), [(smooth, FULL), (noisy, FULL), (noisy, LITE)])
def test_normals_are_equal_but_for_rounding(pattern, image_hw, settings):
    normal_map = pattern(np.random.default_rng(2), (3, 48, 36))
    found, wanted = both(normal.finish, in_torch.normal, [normal_map[None]], image_hw, settings)
    axes = axis_sizes((48, 36), settings.between_hw, image_hw)
    vectors = in_torch._image(torch.from_numpy(normal_map), *map(in_torch.taps, axes))
    share = np.linalg.norm(vectors, axis=-1) / np.linalg.norm(normal_map, axis=0).max()
    assert (np.abs(found - wanted).max(axis=-1) * share).max() < 1e-6


@pytest.mark.parametrize("image_hw", IMAGE_SIZES, ids=str)
def test_normals_of_the_second_family_are_equal_but_for_rounding(image_hw):
    normal_map = noisy(np.random.default_rng(3), (1, 3, *NETWORK_HW))
    normal_map[0, :, 40:50] = 0  # which stays zero
    arrays = both(normal.finish_letterboxed, in_torch.letterboxed_normal, [normal_map], image_hw, FULL)
    np.testing.assert_allclose(*arrays, rtol=0, atol=1e-6)


@pytest.mark.parametrize("image_hw", IMAGE_SIZES, ids=str)
@pytest.mark.parametrize("scale", [1, 1000])
def test_depth_is_equal_but_for_rounding(scale, image_hw):
    depth_map = scale * noisy(np.random.default_rng(4), (1, 1, *NETWORK_HW))
    found, wanted = both(depth.finish, in_torch.depth, [depth_map], image_hw, FULL)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.abs(depth_map).max())


def test_several_images_at_once_are_refused_in_words():
    with pytest.raises(ValueError, match=r"\(2, 1, 8, 6\) must be what an engine returns for one image"):
        in_torch.depth(torch.zeros(2, 1, 8, 6), torch.tensor([4, 4]), FULL)


def test_sizes_that_no_image_has_are_refused_in_words():
    with pytest.raises(ValueError, match=r"image must have .* 100000 x 100000"):
        in_torch.depth(torch.zeros(1, 1, 8, 6), torch.tensor([100_000, 100_000]), FULL)
