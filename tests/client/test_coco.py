from __future__ import annotations

import json
import re

import numpy as np
import pytest
from pycocotools import coco, cocoeval, mask

from sapiens_client import InvalidInputError
from sapiens_client.results.coco import class_rles, compressed_counts
from sapiens_core.labels import keypoint_set


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (5, 8), (64, 48)])
@pytest.mark.parametrize("num_classes", [1, 2, 28])
def test_run_lengths_decode_to_the_masks(shape, num_classes):
    class_map = np.random.default_rng(0).integers(0, num_classes, shape, dtype=np.uint8)
    rles = class_rles(class_map)
    assert [*rles] == np.unique(class_map).tolist()
    for class_id, rle in rles.items():
        np.testing.assert_array_equal(mask.decode(rle), class_map == class_id)


def test_run_lengths_are_those_of_cocos_tools():
    rng = np.random.default_rng(0)
    for scale in (2, 40, 3000, 2_000_000):  # one to five characters a number, up and down
        runs = rng.integers(0, scale, 60)
        theirs = mask.frPyObjects({"size": [1, int(runs.sum())], "counts": runs.tolist()}, 1, int(runs.sum()))
        assert compressed_counts(runs) == theirs["counts"].decode()


def test_run_lengths_go_down_the_columns_and_begin_outside():
    class_map = np.array([[5, 0, 0], [5, 0, 5]], np.uint8)
    assert class_rles(class_map) == {
        0: {"size": [2, 3], "counts": compressed_counts(np.array([2, 3, 1]))},
        5: {"size": [2, 3], "counts": compressed_counts(np.array([0, 2, 3, 1]))},
    }


def test_the_background_is_no_category(seg_result):
    coco = seg_result.to_coco(image_id=1)
    assert [each["category_id"] for each in coco] == [each for each in seg_result.to_rle() if each != 0]
    json.dumps(coco)


@pytest.mark.parametrize("image_id", [5, np.int64(5), np.uint8(5), "5", np.str_("5")])
def test_images_may_be_called_by_any_whole_number_or_name(seg_result, pose, detections, image_id, tmp_path):
    plain = str(image_id) if isinstance(image_id, str) else 5
    for result in (seg_result, pose, detections):
        (path,) = result.save(tmp_path / "a.json", image_id=image_id)
        assert {each["image_id"] for each in json.loads(path.read_text())} == {plain}


@pytest.mark.parametrize("image_id", [5.0, None, True, np.float32(5), b"5", [5]])
def test_other_ids_of_images_are_refused_with_what_was_seen(seg_result, pose, detections, image_id):
    for result in (seg_result, pose, detections):
        with pytest.raises(InvalidInputError, match=re.escape(f"got {image_id!r}")):
            result.to_coco(image_id=image_id)


def test_a_file_of_masks_is_small_and_evaluated_by_cocos_tools(seg_result, tmp_path):
    (path,) = seg_result.save(tmp_path / "a.json", image_id=139)
    masks = json.loads(path.read_text())
    truth = coco.COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": 139, "height": 120, "width": 90}],
        "categories": [{"id": each["category_id"]} for each in masks],
        "annotations": [
            {
                "id": index,
                "image_id": 139,
                "category_id": each["category_id"],
                "iscrowd": 0,
                "area": int((seg_result.class_map == each["category_id"]).sum()),
                "bbox": [0, 0, 90, 120],
                "segmentation": mask.encode(
                    np.asfortranarray(seg_result.class_map == each["category_id"], dtype=np.uint8)
                ),
            }
            for index, each in enumerate(masks, start=1)
        ],
    }
    truth.createIndex()
    found = truth.loadRes(str(path))
    for each in found.loadAnns(found.getAnnIds()):
        np.testing.assert_array_equal(found.annToMask(each), seg_result.class_map == each["category_id"])
    evaluation = cocoeval.COCOeval(truth, found, "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def test_cocos_tools_evaluate_the_keypoints(make_pose):
    pose = make_pose(keypoint_set("goliath")).to("coco")
    truth = coco.COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": 139}],
        "categories": [{"id": 1, "keypoints": [*pose.keypoint_set.names]}],
        "annotations": [
            {
                "id": index,
                "image_id": 139,
                "category_id": 1,
                "iscrowd": 0,
                "area": 5000,
                "num_keypoints": 17,
                "bbox": [10, 10, 70, 70],
                "keypoints": [value for point in person for value in (point.x, point.y, 2)],
            }
            for index, person in enumerate(pose.persons, start=1)
        ],
    }
    truth.createIndex()
    evaluation = cocoeval.COCOeval(truth, truth.loadRes(pose.to_coco(image_id=139)), "keypoints")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


def test_cocos_tools_evaluate_the_boxes(detections):
    truth = coco.COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": 139}],
        "categories": [{"id": 1}],
        "annotations": [
            {"id": index, "image_id": 139, "category_id": 1, "iscrowd": 0, "area": 5000, "bbox": each["bbox"]}
            for index, each in enumerate(detections.to_coco(image_id=139), start=1)
        ],
    }
    truth.createIndex()
    evaluation = cocoeval.COCOeval(truth, truth.loadRes(detections.to_coco(image_id=139)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
