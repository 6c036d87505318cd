"""Results as objects of pandas and supervision, which need not be there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from packages_beside import installed

from sapiens_core.labels import keypoint_set


@pytest.fixture
def libraries(monkeypatch):
    """The libraries can be imported."""
    monkeypatch.syspath_prepend(installed(Path(__file__).with_name("interop.txt"), "interop"))


def test_boxes_are_rows_of_a_data_frame(libraries, detections):
    frame = detections.to_pandas()
    assert [*frame.columns] == ["x1", "y1", "x2", "y2", "score"]
    np.testing.assert_array_equal(frame.to_numpy(), np.c_[detections.bboxes, detections.scores])


def test_keypoints_are_rows_of_a_data_frame(libraries, pose):
    frame = pose.to_pandas()
    elbow = frame[(frame.person == 1) & (frame.keypoint == "left_elbow")].iloc[0]
    expected = pose[1]["left_elbow"]
    assert (elbow.x, elbow.y, elbow.score) == (expected.x, expected.y, expected.score)
    assert len(frame) == 2 * 17
    assert len(pose[[]].to_pandas()) == 0


@pytest.mark.filterwarnings("ignore::Warning")  # of what supervision imports
def test_supervision_takes_boxes(libraries, detections):
    theirs = detections.to_supervision()
    np.testing.assert_array_equal(theirs.xyxy, detections.bboxes)
    np.testing.assert_array_equal(theirs.confidence, detections.scores)
    assert theirs.data["class_name"].tolist() == ["person", "person"]
    assert len(theirs[theirs.confidence > 0.6]) == 1
    assert len(detections[[]].to_supervision()) == 0


@pytest.mark.filterwarnings("ignore::Warning")
def test_supervision_takes_keypoints(libraries, make_pose, pose):
    import supervision

    scored = make_pose(pose.keypoint_set, bbox_scores=np.float32([0.2, 0.7]))
    for each, expected in ((pose, None), (scored, scored.bbox_scores)):
        theirs = each.to_supervision()
        np.testing.assert_array_equal(theirs.xy, each.keypoints)
        np.testing.assert_array_equal(theirs.keypoint_confidence, each.scores)
        np.testing.assert_array_equal(theirs.detection_confidence, expected)
    blank = np.zeros((120, 90, 3), np.uint8)
    drawn = supervision.VertexAnnotator().annotate(blank.copy(), pose.to("goliath").to_supervision())
    assert drawn.any()
    assert not supervision.VertexAnnotator().annotate(blank.copy(), pose[[]].to_supervision()).any()


@pytest.mark.filterwarnings("ignore::Warning")
def test_missing_keypoints_are_where_supervision_draws_none(libraries, make_pose):
    theirs = make_pose(keypoint_set("coco")).to("coco_wholebody").to_supervision()
    assert not theirs.xy[:, 50:].any()


@pytest.mark.filterwarnings("ignore::Warning")
def test_supervision_takes_masks(libraries, make, seg_result):
    theirs = seg_result.to_supervision()
    assert 0 not in theirs.class_id
    for mask, class_id, name in zip(theirs.mask, theirs.class_id, theirs.data["class_name"], strict=True):
        np.testing.assert_array_equal(mask, seg_result.mask(name))
        assert seg_result.classes[class_id] == name
    rows, columns = np.nonzero(theirs.mask[0])
    np.testing.assert_array_equal(theirs.xyxy[0], [columns.min(), rows.min(), columns.max(), rows.max()])
    nobody = make(type(seg_result), labels="goliath", class_map=np.zeros((9, 7), np.uint8))
    assert len(nobody.to_supervision()) == 0


@pytest.mark.parametrize("library", ["pandas", "supervision"])
def test_without_the_library_one_is_told_how_to_get_it(library, monkeypatch, detections):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=f"pip install {library}"):
        getattr(detections, f"to_{library}")()


def test_importing_the_client_loads_neither_library():
    program = "import sys, sapiens_client; print(*{'pandas', 'supervision'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
