"""`*.npz` files and back."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from sapiens_client import DepthResult, DetectionResult, InvalidInputError, PoseResult, Result
from sapiens_core.labels import keypoint_set

KINDS = ["result", "normal_result", "seg_result", "feature_result", "pose", "detections"]
KINDS += ["pointmap_result", "matting_result", "albedo_result"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_saved_is_loaded(request, tmp_path, kind):
    result = replace(request.getfixturevalue(kind), url="gpu-1:8001", request_id="1f")
    result.save(tmp_path / "a.npz")
    for loaded in (Result.load(tmp_path / "a.npz"), type(result).load(str(tmp_path / "a.npz"))):
        assert type(loaded) is type(result)
        assert (loaded.model, loaded.timing, loaded.labels) == (result.model, result.timing, result.labels)
        assert (loaded.url, loaded.request_id) == ("gpu-1:8001", "1f")
        assert loaded.arrays().keys() == result.arrays().keys()
        for name, array in result.arrays().items():
            np.testing.assert_array_equal(loaded.arrays()[name], array)
            assert not loaded.arrays()[name].flags.writeable


@pytest.mark.parametrize("target", ["coco", "a set of their own"])
def test_poses_keep_their_set_of_keypoints(make_pose, tmp_path, target):
    theirs = replace(keypoint_set("coco"), name="", names=("nose", "tail"), flip_indices=(0, 1))
    pose = make_pose(keypoint_set("goliath"), bbox_scores=np.float32([0.5, 1]))
    converted = pose.to("coco" if target == "coco" else theirs)
    converted.save(tmp_path / "a.npz")
    loaded = PoseResult.load(tmp_path / "a.npz")
    assert loaded.keypoint_set == converted.keypoint_set
    assert loaded[0]["nose"] == pose[0]["nose"]
    np.testing.assert_array_equal(loaded.bbox_scores, [0.5, 1])


def test_numpy_alone_reads_licence_and_labels(seg_result, tmp_path):
    seg_result.save(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        facts = json.loads(str(file["facts"]))
    assert (facts["model"]["licence"], facts["labels"][2]) == ("CC-BY-NC-4.0", "Face_Neck")


def test_a_loaded_result_draws_over_the_image_that_it_is_given(pose, tmp_path):
    pose.save(tmp_path / "a.npz")
    with pytest.raises(InvalidInputError, match=r"must know its image.*load\(..., image=...\)"):
        PoseResult.load(tmp_path / "a.npz").plot()
    content = pose.encoded_image.tobytes()
    (tmp_path / "a.bmp").write_bytes(content)
    for image in (content, tmp_path / "a.bmp"):
        loaded = PoseResult.load(tmp_path / "a.npz", image=image)
        np.testing.assert_array_equal(np.asarray(loaded.plot()), np.asarray(pose.plot()))


def test_another_kind_of_result_is_refused(result, tmp_path):
    result.save(tmp_path / "a.npz")
    with pytest.raises(InvalidInputError, match="must hold a DetectionResult, got 'DepthResult'"):
        DetectionResult.load(tmp_path / "a.npz")


def facts_of(result, /, **changes):
    return np.array(json.dumps({"format": 1, **result.facts(), **changes}))


def test_what_save_did_not_write_is_refused(result, tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, depth=result.depth)
    with pytest.raises(InvalidInputError, match=r"must be an \.npz that `save` of a result wrote"):
        Result.load(path)
    for facts in (facts_of(result, model={}), facts_of(result, timing={"years": 3})):
        np.savez(path, depth=result.depth, facts=facts)
        with pytest.raises(InvalidInputError, match="must be as `save` wrote it"):
            Result.load(path)
    np.savez(path, colour=result.depth, facts=facts_of(result))
    with pytest.raises(InvalidInputError, match="colour"):
        Result.load(path)
    np.savez(path, depth=result.depth, facts=facts_of(result, result="Malware"))
    with pytest.raises(InvalidInputError, match="got 'Malware'"):
        Result.load(path)
    np.savez(path, depth=result.depth, facts=facts_of(result, format=2))
    with pytest.raises(InvalidInputError, match="must be of format 1, got 2"):
        Result.load(path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InvalidInputError, match="got something else"):
        Result.load(path)
    np.save(tmp_path / "b.npy", result.depth)
    with pytest.raises(InvalidInputError, match="got something else"):
        DepthResult.load(tmp_path / "b.npy")
    with pytest.raises(FileNotFoundError):
        Result.load(tmp_path / "none.npz")
