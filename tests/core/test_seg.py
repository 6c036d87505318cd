import tracemalloc

import cv2
import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from sapiens_core.finish.seg import class_map

NEAR_TIE = 1e-4  # of the two best logits: float32 sums of the same numbers in another order differ by less

SIZES = {
    "up": ((64, 48), (128, 96), (301, 203)),
    "up, another aspect": ((33, 47), (20, 90), (101, 133)),
    "down": ((128, 96), (256, 192), (17, 29)),
    "network smaller than head": ((64, 48), (16, 12), (75, 75)),
    "identity": ((64, 48), (64, 48), (64, 48)),
    "one pixel": ((64, 48), (128, 96), (1, 1)),
    "flat": ((64, 48), (128, 96), (3, 2000)),
    "tall": ((64, 48), (128, 96), (4000, 3)),
    "lite": ((64, 48), None, (301, 203)),
}


def smooth(rng, shape):
    coarse = rng.normal(size=(shape[0], 5, 4)).astype(np.float32)
    return np.stack([cv2.resize(plane, shape[:0:-1], interpolation=cv2.INTER_CUBIC) for plane in coarse])


def blocky(rng, shape):
    coarse = rng.integers(-4, 5, size=(shape[0], 8, 6)).astype(np.float32)  # with many exact ties
    return np.stack([cv2.resize(plane, shape[:0:-1], interpolation=cv2.INTER_NEAREST) for plane in coarse])


def noisy(rng, shape):
    return rng.normal(scale=3, size=shape).astype(np.float32)


def reference_logits(logits, network_hw, image_hw):
    values = torch.from_numpy(logits)[None].float()
    for size_hw in (network_hw, image_hw):
        if size_hw is not None:
            values = interpolate(values, size_hw, mode="bilinear", align_corners=False)
    return values[0]


def assert_same_but_for_near_ties(classes, logits):
    best, ids = logits.topk(2, dim=0)
    differs = classes != logits.argmax(dim=0).numpy()
    assert (best[0] - best[1]).numpy()[differs].max(initial=0) < NEAR_TIE
    assert (classes[differs] == ids[1].numpy()[differs]).all() or not differs.any()


@pytest.mark.parametrize("case", range(3))
def test_classes_equal_the_full_reference_at_every_pixel(case, golden):
    vectors = golden("seg_postprocess")
    network_hw = tuple(vectors[f"s{case}_full_input_hw"].tolist())
    full = vectors[f"s{case}_full_seg"]
    np.testing.assert_array_equal(class_map(vectors[f"s{case}_logits"], network_hw, full.shape), full)


@pytest.mark.parametrize("case", range(3))
def test_classes_equal_the_lite_reference_at_every_pixel(case, golden):
    vectors = golden("seg_postprocess")
    lite = vectors[f"s{case}_lite_seg"]
    np.testing.assert_array_equal(class_map(vectors[f"s{case}_logits"], None, lite.shape), lite)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize("num_classes", [28, 20, 19, 2])
@pytest.mark.parametrize("pattern", [smooth, noisy])
def test_classes_equal_torch(pattern, num_classes, dtype):
    logits = pattern(np.random.default_rng(0), (num_classes, 64, 48)).astype(dtype)
    classes = class_map(logits, (128, 96), (200, 150))
    assert_same_but_for_near_ties(classes, reference_logits(logits, (128, 96), (200, 150)))


@pytest.mark.parametrize(("head_hw", "network_hw", "image_hw"), SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("pattern", [smooth, noisy])
def test_classes_equal_torch_at_every_size(pattern, head_hw, network_hw, image_hw):
    logits = pattern(np.random.default_rng(1), (28, *head_hw))
    classes = class_map(logits, network_hw, image_hw)
    assert classes.shape == image_hw
    assert classes.dtype == np.uint8
    assert_same_but_for_near_ties(classes, reference_logits(logits, network_hw, image_hw))


@pytest.mark.parametrize("image_hw", [(1440, 1080), (2160, 3840)])
def test_classes_equal_torch_at_the_size_of_photographs(image_hw):
    logits = noisy(np.random.default_rng(2), (4, 512, 384)).astype(np.float16)
    classes = class_map(logits, (1024, 768), image_hw)
    assert_same_but_for_near_ties(classes, reference_logits(logits, (1024, 768), image_hw))


def test_blocks_with_ties_go_to_the_first_class_inside():
    logits = blocky(np.random.default_rng(3), (28, 64, 48))
    classes = class_map(logits, None, (64, 48))
    np.testing.assert_array_equal(classes, logits.argmax(axis=0))


def test_equal_logits_everywhere_are_the_first_class():
    assert not class_map(np.ones((28, 64, 48), np.float16), (128, 96), (101, 77)).any()


def test_a_class_that_leads_nowhere_at_the_head_can_win_in_between():
    logits = np.array([[[5, -5]], [[-5, 5]], [[4, 4]]], np.float32)
    np.testing.assert_array_equal(class_map(logits, None, (1, 9))[0], [0, 0, 0, 2, 2, 2, 1, 1, 1])


def test_a_mirrored_head_gives_mirrored_classes():
    logits = smooth(np.random.default_rng(4), (20, 64, 48))
    classes = class_map(logits, (128, 96), (160, 120))
    mirrored = class_map(logits[:, :, ::-1].copy(), (128, 96), (160, 120))
    assert (mirrored[:, ::-1] != classes).mean() < 1e-3


def test_logits_are_left_unchanged():
    logits = noisy(np.random.default_rng(5), (28, 16, 12))
    before = logits.copy()
    class_map(logits, (64, 48), (50, 40))
    np.testing.assert_array_equal(logits, before)


def test_memory_beyond_the_result_is_small_for_a_large_busy_image():
    logits = noisy(np.random.default_rng(6), (28, 128, 96)).astype(np.float16)
    class_map(logits, (256, 192), (64, 64))
    tracemalloc.start()
    classes = class_map(logits, (256, 192), (2160, 3840))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak - classes.nbytes < 8e6


@pytest.mark.parametrize("shape", [(1, 28, 8, 6), (8, 6), (1, 8, 6), (257, 8, 6)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=str(shape)[1:-1]):
        class_map(np.zeros(shape, np.float32), None, (8, 6))


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="float64"):
        class_map(np.zeros((28, 8, 6)), None, (8, 6))
