"""Every task through the SDK and a real tritonserver, against the reference and the in-process pipeline."""

import numpy as np
import pytest
from real_servers import running

from sapiens_client import ClientOptions, InvalidInputError, SapiensClient
from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.contract.settings import StepSettings
from sapiens_core.finish.normal import unit_normals
from sapiens_core.finish.seg import class_map
from sapiens_core.recipes.recipe import Task
from sapiens_export.engines.torchscript import engine_from_torchscript
from sapiens_export.networks.config import NANODET
from sapiens_export.parity import pipeline
from sapiens_export.repository.configs import step_settings
from sapiens_export.repository.serving import Serving

ODD_IMAGES = ["1x1", "3x2000", "4000x3", "portrait", "exif-rotated", "grey", "rgba", "16-bit", "cmyk", "4k"]
INPUT_HW = (64, 48)
SETTINGS = StepSettings(network_hw=INPUT_HW, max_batch_size=4)


@pytest.fixture(scope="module")
def client(tasks_server):
    options = ClientOptions(output="image")  # the ensembles themselves, also of large images
    with SapiensClient(tasks_server.grpc_url, options=options) as client:
        yield client


def reference_image(vectors):
    return np.ascontiguousarray(vectors["e2e_image_bgr"][:, :, ::-1])


def check_keypoints(keypoints, expected, scores):
    errors = np.abs(keypoints - expected).max(axis=2)[scores > 0]
    assert np.median(errors) < 1e-3
    assert np.quantile(errors, 0.98) < 0.2


@pytest.mark.parametrize("kind", ODD_IMAGES)
def test_served_normals_equal_the_pipeline(kind, client, odd_images, engine_of):
    expected = pipeline.normals(odd_images[kind], engine_of(Task.NORMAL), INPUT_HW)
    np.testing.assert_allclose(client.normal(odd_images[kind]).normals, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ODD_IMAGES)
def test_served_classes_equal_the_pipeline(kind, client, odd_images, engine_of):
    expected = pipeline.classes(odd_images[kind], engine_of(Task.SEG), INPUT_HW)
    np.testing.assert_array_equal(client.seg(odd_images[kind]).class_map, expected)


@pytest.mark.parametrize("kind", ODD_IMAGES)
def test_served_features_equal_the_pipeline(kind, client, odd_images, engine_of):
    expected = pipeline.features(odd_images[kind], engine_of(Task.FEATURES), (64, 64))
    np.testing.assert_allclose(client.features(odd_images[kind]).features, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ODD_IMAGES)
def test_served_keypoints_equal_the_pipeline(kind, client, odd_images, engine_of):
    keypoints, scores = pipeline.pose(odd_images[kind], engine_of(Task.POSE), SETTINGS)
    result = client.pose(odd_images[kind])
    np.testing.assert_allclose(result.scores, scores, rtol=0, atol=1e-5)
    np.testing.assert_allclose(result.keypoints, keypoints, rtol=0, atol=1e-2)


@pytest.mark.parametrize("kind", ODD_IMAGES)
def test_served_boxes_of_people_equal_the_pipeline(kind, client, odd_images, engine_of):
    settings = step_settings(NANODET, Serving())
    bboxes, scores = pipeline.detect(odd_images[kind], engine_of(Task.DETECT), settings)
    result = client.detect(odd_images[kind])
    np.testing.assert_allclose(result.bboxes, bboxes, rtol=0, atol=1e-3)
    np.testing.assert_allclose(result.scores, scores, rtol=0, atol=1e-5)


def test_normals_equal_the_reference(client, golden):
    vectors = golden("net_normal")
    expected = vectors["full_pred"].transpose(1, 2, 0)
    expected = expected / (np.linalg.norm(expected, axis=2, keepdims=True) + 1e-5)
    np.testing.assert_allclose(client.normal(reference_image(vectors)).normals, expected, rtol=0, atol=1e-4)


def test_classes_equal_the_reference(client, golden):
    vectors = golden("net_seg")
    np.testing.assert_array_equal(
        client.seg(reference_image(vectors)).class_map, vectors["full_pred_sem_seg"]
    )


def test_features_equal_the_reference(client, golden):
    vectors = golden("net_pretrain")
    result = client.features(reference_image(vectors))
    np.testing.assert_allclose(result.features, vectors["full_feature"], rtol=0, atol=1e-4)


def test_keypoints_equal_the_reference(client, golden):
    vectors = golden("net_pose17")
    result = client.pose(reference_image(vectors), bboxes=vectors["e2e_boxes"])
    np.testing.assert_allclose(result.scores, vectors["full_noflip_scores"], rtol=0, atol=1e-4)
    check_keypoints(result.keypoints, vectors["full_noflip_keypoints"], result.scores)


def test_without_boxes_the_whole_image_is_the_person(client, golden):
    vectors = golden("net_pose17")
    result = client.pose(reference_image(vectors))
    check_keypoints(result.keypoints, vectors["full_nobox_keypoints"], result.scores)
    np.testing.assert_array_equal(result.bboxes, vectors["full_nobox_bbox"])


@pytest.mark.parametrize(("name", "flip_test"), [("pose17", True), ("pose308", True), ("pose308", False)])
def test_other_pose_networks_equal_the_reference(name, flip_test, export_golden, golden, tmp_path):
    vectors, kind = golden(f"net_{name}"), "flip" if flip_test else "noflip"
    export_golden(name, tmp_path / "models", flip_test=flip_test)
    with running(tmp_path / "models", grpc_port=0) as server, SapiensClient(server.grpc_url) as client:
        result = client.pose(reference_image(vectors), bboxes=vectors["e2e_boxes"])
    np.testing.assert_allclose(result.scores, vectors[f"full_{kind}_scores"], rtol=0, atol=1e-4)
    check_keypoints(result.keypoints, vectors[f"full_{kind}_keypoints"], result.scores)
    assert result.model.flip_test is flip_test


def test_lite_keypoints_equal_the_lite_demo(export_golden, golden, tmp_path):
    vectors = golden("net_pose17")
    export_golden("pose17", tmp_path / "models", preprocess="lite")
    with running(tmp_path / "models", grpc_port=0) as server, SapiensClient(server.grpc_url) as client:
        result = client.pose(reference_image(vectors), bboxes=vectors["e2e_boxes"])
    np.testing.assert_allclose(result.scores, vectors["lite_scores"], rtol=0, atol=1e-4)
    check_keypoints(result.keypoints, vectors["lite_keypoints"], result.scores)


def test_lite_maps_are_interpolated_once_like_in_the_lite_demo(export_golden, golden, tmp_path):
    for name in ("seg", "normal"):
        export_golden(name, tmp_path / "models", preprocess="lite")
    seg, normal = golden("net_seg"), golden("net_normal")
    with running(tmp_path / "models", grpc_port=0) as server, SapiensClient(server.grpc_url) as client:
        classes = client.seg(reference_image(seg)).class_map
        normals = client.normal(reference_image(normal)).normals
    image_hw = seg["e2e_image_bgr"].shape[:2]
    assert (classes != class_map(seg["lite_output"], None, image_hw)).mean() < 1e-3
    expected = unit_normals(normal["lite_output"], None, normal["e2e_image_bgr"].shape[:2])
    np.testing.assert_allclose(normals, expected, rtol=0, atol=1e-4)


def test_several_tasks_at_once_equal_the_tasks_alone(client, odd_images):
    analysis = client.analyze(odd_images["portrait"], tasks=("depth", "normal", "seg"))
    np.testing.assert_array_equal(analysis.depth.depth, client.depth(odd_images["portrait"]).depth)
    np.testing.assert_array_equal(analysis.normal.normals, client.normal(odd_images["portrait"]).normals)
    np.testing.assert_array_equal(analysis.seg.class_map, client.seg(odd_images["portrait"]).class_map)


def test_a_shifted_image_and_box_shift_the_keypoints(client, photo):
    canvas = np.zeros((200, 180, 3), np.uint8)
    canvas[10:130, 20:110] = photo
    moved = np.roll(canvas, (30, 40), axis=(0, 1))
    box = np.array([[20, 10, 110, 130]], np.float32)
    first = client.pose(canvas, bboxes=box)
    second = client.pose(moved, bboxes=box + np.array([40, 30, 40, 30], np.float32))
    np.testing.assert_allclose(second.scores, first.scores, atol=1e-4)
    errors = np.abs(second.keypoints - first.keypoints - [40, 30])
    assert np.median(errors) < 1e-3


def test_permuting_persons_permutes_their_keypoints(client, golden):
    vectors = golden("net_pose17")
    image, boxes = reference_image(vectors), vectors["e2e_boxes"]
    direct, turned = client.pose(image, bboxes=boxes), client.pose(image, bboxes=boxes[::-1])
    np.testing.assert_allclose(turned.keypoints[::-1], direct.keypoints, rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    ("bboxes", "message"),
    [
        ([[0, 0, np.nan, 10]], "nan"),
        ([[30, 0, 10, 10]], r"\[30"),
        ([[500, 500, 600, 600]], "overlap|outside"),
        ([[1, 2, 3]], r"\(1, 3\)"),
        ([[0, 0, 10, 10]] * 10**6, "1 to 1000 per request, got 1000000"),
    ],
    ids=["nan", "x2 before x1", "outside", "three numbers", "a million"],
)
def test_a_bad_box_gets_a_sentence_with_what_was_seen(bboxes, message, client, odd_images):
    with pytest.raises(InvalidInputError, match=message):
        client.pose(odd_images["grey"], bboxes=np.array(bboxes, np.float32))
    assert client.pose(odd_images["grey"]).keypoints.shape == (1, 17, 2)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_engines_of_reduced_precision_are_served_as_they_are_in_process(
    precision, export_golden, photo, encode, tmp_path
):
    export_golden("depth", tmp_path / "models", precision=precision)
    file = tmp_path / "models" / "depth_engine" / "1" / ENGINE_FILES["python"]
    with running(tmp_path / "models", grpc_port=0) as server, SapiensClient(server.grpc_url) as client:
        result = client.depth(photo)
    expected = pipeline.depth(encode(photo), engine_from_torchscript(file), (64, 48))
    np.testing.assert_allclose(result.depth, expected, rtol=0, atol=1e-5)
    assert result.model.precision == precision
