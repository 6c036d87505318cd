import subprocess
import sys

import pytest

from sapiens_core.labels import class_set, counterparts, keypoint_set, keypoint_set_of_size

KEYPOINT_SETS = {"coco": 17, "coco_wholebody": 133, "goliath": 308}
CLASS_SETS = {"goliath": 28, "sapiens2": 29, "cihp": 20, "lip": 20, "seg_face": 19}


def is_color(color):
    return len(color) == 3 and all(isinstance(channel, int) and 0 <= channel <= 255 for channel in color)


@pytest.mark.parametrize(("name", "size"), KEYPOINT_SETS.items())
def test_every_keypoint_has_a_name_a_colour_and_a_sigma(name, size):
    keypoints = keypoint_set(name)
    assert keypoints is keypoint_set_of_size(size)
    assert len(set(keypoints.names)) == len(keypoints.colors) == len(keypoints.sigmas) == size
    assert all(map(is_color, keypoints.colors))
    assert all(sigma > 0 for sigma in keypoints.sigmas)


@pytest.mark.parametrize("name", KEYPOINT_SETS)
def test_mirroring_twice_gives_the_same_keypoint(name):
    flip = keypoint_set(name).flip_indices
    assert [flip[index] for index in flip] == list(range(len(flip)))


@pytest.mark.parametrize("name", KEYPOINT_SETS)
def test_mirroring_swaps_left_and_right_of_the_body(name):
    keypoints = keypoint_set(name)
    for side, other in (("left", "right"), ("right", "left")):
        index = keypoints.names.index(f"{side}_knee")
        assert keypoints.names[keypoints.flip_indices[index]] == f"{other}_knee"


@pytest.mark.parametrize(("name", "size"), KEYPOINT_SETS.items())
def test_links_join_two_keypoints_of_the_set(name, size):
    skeleton = keypoint_set(name).skeleton
    assert skeleton
    for link in skeleton:
        assert 0 <= min(link.start, link.end) < max(link.start, link.end) < size
        assert is_color(link.color)


@pytest.mark.parametrize("source", ["coco_wholebody", "goliath"])
def test_the_larger_sets_contain_the_body_by_name(source):
    body = counterparts(keypoint_set(source), keypoint_set("coco"))
    assert tuple(keypoint_set(source).names[index] for index in body) == keypoint_set("coco").names


def test_the_wrists_of_goliath_are_found_at_their_hands():
    goliath, coco = keypoint_set("goliath"), keypoint_set("coco")
    indices = dict(zip(coco.names, counterparts(goliath, coco), strict=True))
    assert (indices["left_wrist"], indices["right_wrist"]) == (62, 41)


def test_what_goliath_lacks_of_wholebody_is_marked():
    goliath, wholebody = keypoint_set("goliath"), keypoint_set("coco_wholebody")
    indices = counterparts(goliath, wholebody)
    shared = [name for name, index in zip(wholebody.names, indices, strict=True) if index is not None]
    assert len(shared) == 53
    assert all(goliath.names[index] in shared for index in indices if index is not None)
    assert indices[wholebody.names.index("face-0")] is None
    assert indices[wholebody.names.index("left_hand_root")] is None


@pytest.mark.parametrize(("name", "size"), CLASS_SETS.items())
def test_every_class_has_a_name_and_a_colour(name, size):
    classes = class_set(name)
    assert len(set(classes.names)) == len(classes.palette) == size
    assert classes.names[classes.background] == "Background"
    assert all(map(is_color, classes.palette))


def test_the_second_family_tells_eyeglasses_apart_and_keeps_all_else():
    first, second = class_set("goliath"), class_set("sapiens2")
    assert second.names[2] == "Eyeglass"
    assert second.names[:2] + second.names[3:] == first.names
    assert second.palette[:2] + second.palette[3:] == first.palette


def test_unknown_names_and_sizes_are_refused():
    with pytest.raises(ValueError, match=r"\['coco', 'coco_wholebody', 'goliath'\], got 'mpii'"):
        keypoint_set("mpii")
    with pytest.raises(ValueError, match=r"\[17, 133, 308\], got 21"):
        keypoint_set_of_size(21)
    with pytest.raises(ValueError, match="got 'ade20k'"):
        class_set("ade20k")


def test_labels_need_neither_numpy_nor_opencv():
    script = (
        "import sys, sapiens_core.labels as l; l.class_set('lip'); print({'numpy', 'cv2'} & {*sys.modules})"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
