"""The pipelines of the second family, against pictures that its reference has prepared."""

import json

import cv2
import numpy as np
import pytest

from sapiens_core.prepare.geometry import person_crops
from sapiens_core.prepare.image import image_inputs
from sapiens_core.prepare.letterbox import centered_content
from sapiens_core.prepare.persons import person_inputs
from sapiens_core.recipes.lookup import recipe
from sapiens_core.recipes.sapiens2 import NETWORK_HW

SMALL_HW, SMALL_PERSON_HW = (112, 84), (64, 48)
IMAGES = (
    *("landscape", "portrait_tall", "exact_4x3_down", "tiny_up", "floor_quirk_w", "floor_quirk_h"),
    *("odd_pads", "square", "w_equal_target", "w_up_h_down", "w_down_h_up"),
)
MATTED = ("landscape", "tiny_up", "w_equal_target", "w_up_h_down", "w_down_h_up")
TASKS = {"resizepad": ("normal", "pointmap", "albedo"), "seg": ("seg",), "matting": ("matting",)}
CASES = [
    (task, pipe, image)
    for pipe, tasks in TASKS.items()
    for task in tasks
    for image in (MATTED if pipe == "matting" else IMAGES)
]
FULL = [
    *(("normal", image) for image in ("landscape", "portrait_tall", "floor_quirk_w", "formula_down")),
    *(("seg", image) for image in ("landscape", "portrait_tall", "floor_quirk_w", "formula_down")),
    ("matting", "landscape"),
]
MAX_CROP_LEVELS, MEAN_CROP_LEVELS = 4, 0.2  # between versions of OpenCV
PERSONS = (
    *("inside", "wide", "tall_partly_outside", "tiny_upscale", "fullimage_fallback"),
    "right_bottom_overflow",
)


@pytest.fixture(scope="module")
def facts(golden2_folder):
    return json.loads((golden2_folder / "preprocess.json").read_text())


@pytest.fixture(scope="module")
def vectors(golden2):
    return golden2("preprocess")


def prepared(task, image, network_hw):
    """The reference's layout: (3, H, W), BGR."""
    settings = recipe("sapiens2", task).settings(network_hw, 1)
    return image_inputs(image, settings).pixels[0, ..., ::-1].transpose(2, 0, 1)


def formula_image(hw):
    y, x = np.mgrid[: hw[0], : hw[1]]
    planes = (7 * x + 13 * y, x * x // 97 + 5 * y, 31 * (x // 9) + 17 * (y // 11))
    return np.stack(planes, axis=2).astype(np.uint8)


@pytest.mark.parametrize(("task", "pipe", "image"), CASES)
def test_whole_images_equal_the_reference(task, pipe, image, vectors):
    expected = vectors[f"out_{pipe}_{image}"]
    np.testing.assert_array_equal(prepared(task, vectors[f"img_{image}"], SMALL_HW), expected)


@pytest.mark.parametrize(("task", "image"), FULL)
def test_whole_images_at_the_released_size_equal_the_reference(task, image, vectors, facts):
    picture = vectors.get(f"img_{image}")
    if picture is None:
        picture = formula_image(facts["formula_image_hw"])
    expected = vectors[f"full_{task}_{image}_u8_strided32"]
    np.testing.assert_array_equal(prepared(task, picture, NETWORK_HW)[:, 5::32, 3::32], expected)


@pytest.mark.parametrize(
    ("task", "name", "kept"),
    [
        ("normal", "out_resizepad_landscape norm_resizepad_landscape", np.s_[:, ::2, ::2]),
        ("seg", "out_seg_landscape norm_seg_landscape", np.s_[:, ::2, ::2]),
        ("seg", "out_seg_w_up_h_down norm_seg_w_up_h_down", np.s_[:, ::2, ::2]),
        ("matting", "out_matting_landscape norm_matting_landscape", np.s_[:, ::2, ::2]),
        ("normal", "full_normal_formula_down_u8_strided32 full_normal_formula_down_norm_strided32", np.s_[:]),
        ("matting", "full_matting_landscape_u8_strided32 full_matting_landscape_norm_strided32", np.s_[:]),
    ],
)
def test_pixels_are_normalised_as_by_the_reference(task, name, kept, vectors):
    pixels, normalised = (vectors[each] for each in name.split())
    statistics = recipe("sapiens2", task).preparation("full").normalization
    mean, std = (np.array(each, np.float32)[:, None, None] for each in (statistics.mean, statistics.std))
    np.testing.assert_allclose(((pixels[::-1] - mean) / std)[kept], normalised, rtol=0, atol=1e-5)


@pytest.mark.parametrize("image", IMAGES)
def test_padding_is_where_the_reference_says(image, facts):
    case = facts["cases"][f"resizepad_{image}"]
    content = centered_content(tuple(case["image_hw"]), SMALL_HW)
    height, width = SMALL_HW
    padding = [
        *(content.columns.start, width - content.columns.stop),
        *(content.rows.start, height - content.rows.stop),
    ]
    assert padding == case["padding_size_l_r_t_b"]


@pytest.mark.parametrize("hw", [(1, 30000), (30000, 1)])
def test_no_image_is_so_long_that_nothing_is_left_of_it(hw):
    content = centered_content(hw, NETWORK_HW)
    assert min(content.hw) == 1


@pytest.fixture(scope="module")
def crops(golden2):
    """What the reference crops with OpenCV of one major version: of this one, and of the other."""
    versions = [golden2("preprocess"), golden2("preprocess_pose_opencv5")]
    return versions if cv2.__version__ < "5" else versions[::-1]


def person(image, case, network_hw):
    settings = recipe("sapiens2", "pose").settings(network_hw, 1)
    inputs = person_inputs(image, np.array([case["bbox_xyxy"]], np.float32), settings)
    return inputs.pixels[0, ..., ::-1].transpose(2, 0, 1)


@pytest.mark.parametrize("name", PERSONS)
def test_persons_equal_the_reference(name, vectors, crops, facts):
    pixels = person(vectors["img_landscape"], facts["pose"][f"small_{name}"], SMALL_PERSON_HW)
    np.testing.assert_array_equal(pixels, crops[0][f"pose_{name}"])
    is_close(pixels, crops[1][f"pose_{name}"])


@pytest.mark.parametrize("name", [*PERSONS, "formula"])
def test_persons_at_the_released_size_equal_the_reference(name, vectors, crops, facts):
    image = vectors["img_landscape"] if name != "formula" else formula_image(facts["formula_image_hw"])
    pixels = person(image, facts["pose"][f"full_{name}"], NETWORK_HW)
    sample = f"pose_full_{name}_strided32"
    np.testing.assert_array_equal(pixels[:, 5::32, 3::32], crops[0][sample])
    is_close(pixels[:, 5::32, 3::32], crops[1][sample])


def is_close(pixels, others):
    """Versions 4 and 5 of OpenCV interpolate with other fractions of a pixel."""
    differences = abs(pixels.astype(int) - others)
    assert 0 < differences.max() <= MAX_CROP_LEVELS
    assert differences.mean() < MEAN_CROP_LEVELS


@pytest.mark.parametrize("name", PERSONS)
def test_crops_equal_the_reference(name, facts):
    case = facts["pose"][f"full_{name}"]
    crops = person_crops(np.array([case["bbox_xyxy"]], np.float32), NETWORK_HW)
    expected = np.concatenate([case["bbox_center"], case["bbox_scale"]], axis=1)
    np.testing.assert_allclose(crops, expected, rtol=1e-6)
