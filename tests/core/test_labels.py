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
    assert tuple(keypoint_set(source).names[index] for (index,) in body) == keypoint_set("coco").names


def test_the_wrists_of_goliath_are_found_at_their_hands():
    goliath, coco = keypoint_set("goliath"), keypoint_set("coco")
    indices = dict(zip(coco.names, counterparts(goliath, coco), strict=True))
    assert (indices["left_wrist"], indices["right_wrist"]) == ((62,), (41,))


def test_what_goliath_lacks_of_wholebody_is_marked():
    goliath, wholebody = keypoint_set("goliath"), keypoint_set("coco_wholebody")
    indices = counterparts(goliath, wholebody)
    shared = [name for name, index in zip(wholebody.names, indices, strict=True) if index]
    assert len(shared) == 53
    assert all(goliath.names[index] in shared for parts in indices for index in parts)
    assert indices[wholebody.names.index("face-0")] == ()
    assert indices[wholebody.names.index("left_hand_root")] == ()


@pytest.mark.parametrize(
    ("name", "size", "known"),
    [
        ("openpose25", 25, {"coco": 19, "coco_wholebody": 25, "goliath": 25}),
        ("openpose18", 18, {"coco": 18, "coco_wholebody": 18, "goliath": 18}),
        ("hands21", 42, {"coco": 2, "coco_wholebody": 42, "goliath": 42}),
        ("face70", 70, {"coco": 0, "coco_wholebody": 68, "goliath": 24}),
    ],
)
def test_the_sets_of_openpose_are_found_in_those_of_networks(name, size, known):
    target = keypoint_set(name)
    assert len(set(target.names)) == len(target.colors) == len(target.flip_indices) == size
    assert all(map(is_color, target.colors))
    assert all(0 <= link.start < link.end < size for link in target.skeleton)
    found = {source: sum(map(bool, counterparts(keypoint_set(source), target))) for source in KEYPOINT_SETS}
    assert found == known


@pytest.mark.parametrize("name", ["openpose25", "hands21", "face70"])
@pytest.mark.parametrize("source", KEYPOINT_SETS)
def test_a_mirrored_person_is_one_in_the_sets_of_openpose_too(name, source):
    keypoints, target = keypoint_set(source), keypoint_set(name)
    parts = counterparts(keypoints, target)
    for index, mirrored in enumerate(target.flip_indices):
        assert {keypoints.flip_indices[each] for each in parts[index]} == {*parts[mirrored]}


def test_the_neck_of_openpose_is_the_middle_of_the_shoulders_and_not_the_neck_of_goliath():
    goliath, body = keypoint_set("goliath"), keypoint_set("openpose25")
    parts = counterparts(goliath, body)[1]
    assert tuple(goliath.names[index] for index in parts) == ("left_shoulder", "right_shoulder")
    assert counterparts(body, goliath)[goliath.names.index("neck")] == ()


def test_a_finger_of_goliath_runs_from_its_third_joint_to_its_tip():
    goliath, hands = keypoint_set("goliath"), keypoint_set("hands21")
    parts = [goliath.names[index] for (index,) in counterparts(goliath, hands)]
    assert [parts[index] for index in (0, 5, 6, 7, 8, 21)] == [
        *("left_wrist", "left_forefinger_third_joint"),
        *("left_forefinger2", "left_forefinger3", "left_forefinger4", "right_wrist"),
    ]


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
    with pytest.raises(ValueError, match=r"\['coco', 'coco_wholebody', 'face70', .*\], got 'mpii'"):
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
