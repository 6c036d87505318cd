from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from sapiens_client import InvalidInputError
from sapiens_core.finish.depth import normals_from_depth
from sapiens_core.labels import class_set
from sapiens_core.pictures import class_picture, normal_picture


def same(picture: Image.Image, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(np.asarray(picture), expected)


@pytest.mark.parametrize("has_foreground", [False, True])
def test_normals_from_depth_are_those_of_the_core(result, has_foreground):
    foreground = result.depth > 2 if has_foreground else None
    np.testing.assert_array_equal(
        result.normal_from_depth(foreground), normals_from_depth(result.depth, foreground)
    )


def test_normals_from_depth_refuse_a_foreground_of_another_shape(result):
    with pytest.raises(InvalidInputError, match=r"\(3, 4\)"):
        result.normal_from_depth(np.ones((3, 4), bool))


def test_normals_are_drawn_as_the_reference_does(normal_result):
    foreground = normal_result.normals[:, :, 0] > 0
    same(normal_result.plot(), normal_picture(normal_result.normals))
    same(normal_result.plot(foreground), normal_picture(normal_result.normals, foreground))


def test_classes_are_laid_over_the_image(seg_result, photo):
    same(seg_result.plot(), class_picture(photo, seg_result.class_map, class_set("goliath").palette))


def test_a_mask_unites_classes_by_name_and_by_id(seg_result):
    expected = np.isin(seg_result.class_map, [2, 3])
    np.testing.assert_array_equal(seg_result.mask("Face_Neck", "Hair"), expected)
    np.testing.assert_array_equal(seg_result.mask("Face_Neck", 3), expected)
    assert not seg_result.mask().any()


def test_the_masks_of_all_classes_cover_the_image_and_the_foreground_is_all_but_the_background(seg_result):
    assert seg_result.mask(*seg_result.classes).all()
    np.testing.assert_array_equal(seg_result.foreground, seg_result.mask(*seg_result.classes[1:]))
    np.testing.assert_array_equal(seg_result.foreground, ~seg_result.mask("Background"))


@pytest.mark.parametrize(
    ("label", "hint"),
    [("Face", "'Face_Neck'"), ("hair", "'Hair'"), ("Wheel", "."), (28, "Background, Apparel"), (-1, "Hair")],
)
def test_an_unknown_class_is_an_error_that_helps(seg_result, label, hint):
    with pytest.raises(
        InvalidInputError, match=rf"class must be one of the network's 28.*got {label!r}.*{hint}"
    ):
        seg_result.mask("Hair", label)


def test_classes_without_labels_are_named_by_their_numbers(seg_result):
    unlabelled = dataclasses.replace(
        seg_result,
        model=dataclasses.replace(seg_result.model, labels=""),
        class_map=seg_result.class_map + 200,
    )
    np.testing.assert_array_equal(unlabelled.mask("202", 203), np.isin(unlabelled.class_map, [202, 203]))
    assert unlabelled.plot().size == (90, 120)


def test_class_ids_are_saved_as_they_are(seg_result, tmp_path):
    for name in ("a.ids.png", "a.npy"):
        (path,) = seg_result.save(tmp_path / name)
        saved = np.load(path) if path.suffix == ".npy" else np.asarray(Image.open(path))
        np.testing.assert_array_equal(saved, seg_result.class_map, strict=True)


def test_saved_coco_results_name_the_image(seg_result, tmp_path):
    (path,) = seg_result.save(tmp_path / "a.json", image_id=139)
    assert json.loads(path.read_text()) == seg_result.to_coco(image_id=139)


def test_features_are_drawn_patch_by_patch(feature_result):
    picture = np.asarray(feature_result.plot())
    assert picture.shape == (64, 48, 3)
    patches = picture.reshape(4, 16, 3, 16, 3)
    assert (patches == patches[:, :1, :, :1]).all()
    assert (picture.min(), picture.max()) == (0, 255)


@pytest.mark.parametrize("shape", [(2, 4, 3), (1, 1, 1), (8, 2, 2)])
def test_few_or_constant_features_can_be_drawn_too(feature_result, shape):
    flat = dataclasses.replace(feature_result, features=np.ones(shape, np.float32))
    assert flat.plot().size == (shape[2] * 16, shape[1] * 16)


@pytest.mark.parametrize(
    "name",
    [
        "normal_result",
        "seg_result",
        "feature_result",
        "pose",
        "detections",
        "pointmap_result",
        "matting_result",
        "albedo_result",
    ],
)
def test_every_result_is_saved_as_a_picture_and_as_arrays(request, name, tmp_path):
    result = request.getfixturevalue(name)
    (picture,) = result.save(tmp_path / "a.png")
    same(Image.open(picture), np.asarray(result.plot()))
    (path,) = result.save(tmp_path / "a.npz")
    with np.load(path) as saved:
        assert saved.keys() == {*result.arrays(), "facts"}
        for key, array in result.arrays().items():
            np.testing.assert_array_equal(saved[key], array, strict=True)


def test_the_image_is_that_which_was_sent_and_cannot_be_changed(seg_result, photo):
    np.testing.assert_array_equal(seg_result.image, photo)
    assert seg_result.image is seg_result.image
    with pytest.raises(ValueError, match="read-only"):
        seg_result.image[0, 0] = 0
