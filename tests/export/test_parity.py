"""How engines are compared with the float32 network."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_exports import limits

from sapiens_core.recipes.lookup import first_recipe, first_recipes
from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.sapiens1 import SAPIENS
from sapiens_core.recipes.tolerances import MEASURES
from sapiens_export.engines.engine import engine_from_network
from sapiens_export.parity.compare import parity
from sapiens_export.parity.images import parity_pixels
from sapiens_export.parity.reference import Reference, reference
from sapiens_export.parity.report import Measure, ParityReport

NETWORKS = [Task(task) for task in SAPIENS.recipes]
ANYTHING = {}


@pytest.fixture
def reference_of(served):
    """A function (network) -> what it answers to the fixed images."""

    def answers(network):
        config = network.config
        return reference(
            config.recipe, engine_from_network(served(network)), config.input_hw, config.output_hw
        )

    return answers


def answering(expected, *outputs):
    """An engine that has these outputs for the fixed images."""

    def engine(pixels):
        order = [int(np.flatnonzero((expected.pixels == image).all((1, 2, 3)))[0]) for image in pixels]
        return tuple(output[order] for output in outputs)

    return engine


def values_of(expected, *outputs):
    report = parity(answering(expected, *outputs), expected, ANYTHING, max_batch_size=4)
    return {measure.name: measure.value for measure in report.measures}


def dense(task, output):
    pixels = parity_pixels((4, 3)) if output.shape[2:] != (8, 6) else parity_pixels((8, 6))
    return Reference(first_recipe(task), pixels, [output], output.shape[2:])


def test_the_fixed_images_are_two_and_always_the_same():
    pixels = parity_pixels((64, 48))
    assert (pixels.shape, pixels.dtype) == ((2, 64, 48, 3), np.uint8)
    assert (pixels == parity_pixels((64, 48))).all()
    assert (pixels[0] != pixels[1]).mean() > 0.9


@pytest.mark.parametrize("task", NETWORKS)
def test_a_network_equals_itself_alone_and_in_a_batch(task, tiny_weights, reference_of, served):
    network = tiny_weights(task)
    engine = engine_from_network(served(network))
    report = parity(engine, reference_of(network), limits(task, "float32", untrained=False), max_batch_size=4)
    assert report.is_passed, str(report)


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
@pytest.mark.parametrize("task", NETWORKS)
def test_reduced_precision_is_within_the_limits_of_trained_networks(
    task, precision, trained, tiny_weights, reference_of, served
):
    network = tiny_weights(task) if task is Task.FEATURES else trained(task)
    engine = engine_from_network(served(network, precision))
    report = parity(engine, reference_of(network), limits(task, precision, untrained=False), max_batch_size=4)
    assert report.is_passed, str(report)
    assert report.measures[0].value > 0


@pytest.mark.parametrize("is_untrained", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_steps_in_the_depth_are_found_out(dtype, is_untrained, trained, tiny_weights, reference_of, served):
    network = (tiny_weights if is_untrained else trained)(Task.DEPTH)
    expected, engine = reference_of(network), engine_from_network(served(network))

    def stepped(pixels):
        return tuple(torch.from_numpy(output).to(dtype).float().numpy() for output in engine(pixels))

    allowed = limits(Task.DEPTH, "bfloat16", untrained=is_untrained)
    assert parity(engine, expected, allowed, max_batch_size=4).is_passed
    report = parity(stepped, expected, allowed, max_batch_size=4)
    assert [measure.name for measure in report.measures if not measure.is_passed] == ["lost_levels"]


def test_levels_are_counted_in_each_image_alone():
    output = np.arange(24, dtype=np.float32).reshape(2, 1, 4, 3)
    halved = output.copy()
    halved[1] = output[1] // 2 * 2
    assert values_of(dense(Task.DEPTH, output), halved)["lost_levels"] == pytest.approx(0.5)
    assert values_of(dense(Task.DEPTH, halved), output)["lost_levels"] == 0


@pytest.mark.parametrize("task", NETWORKS)
def test_weights_of_too_few_digits_are_found_out(task, trained, tiny_weights, reference_of, served):
    network = tiny_weights(task) if task is Task.FEATURES else trained(task)
    expected = reference_of(network)
    engine = engine_from_network(served(coarse(network)))
    assert not parity(engine, expected, limits(task, "bfloat16", untrained=False), max_batch_size=4).is_passed


def coarse(network):
    """The network with weights of hardly two binary digits."""
    weights = {}
    for name, weight in network.state_dict().items():
        step = weight.abs().max() / 3
        weights[name] = (weight / step).round() * step
    other = type(network)(network.config)
    other.load_state_dict(weights)
    return other.eval()


@pytest.mark.parametrize("task", NETWORKS)
def test_random_weights_are_held_to_wider_limits(task, tiny_weights, reference_of, served):
    network = tiny_weights(task)
    engine = engine_from_network(served(network, "bfloat16"))
    report = parity(engine, reference_of(network), limits(task, "bfloat16", untrained=True), max_batch_size=4)
    assert report.is_passed, str(report)


def test_an_engine_that_mixes_up_its_batch_is_found_out(tiny_weights, reference_of, served):
    network = tiny_weights(Task.DEPTH)
    engine = engine_from_network(served(network))
    report = parity(
        lambda pixels: (engine(pixels)[0][::-1],),
        reference_of(network),
        limits(Task.DEPTH, "float32", untrained=False),
        max_batch_size=4,
    )
    assert not report.is_passed


def test_engines_of_single_images_never_see_a_batch(tiny_weights, reference_of, served):
    sizes = []
    engine = engine_from_network(served(tiny_weights(Task.DEPTH)))

    def counting(pixels):
        sizes.append(len(pixels))
        return engine(pixels)

    parity(counting, reference_of(tiny_weights(Task.DEPTH)), ANYTHING, max_batch_size=1)
    assert sizes == [1, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_fails_whatever_the_limits(value):
    expected = dense(Task.DEPTH, np.zeros((2, 1, 4, 3), np.float32))
    broken = np.full((2, 1, 4, 3), value, np.float32)
    assert not parity(answering(expected, broken), expected, ANYTHING, max_batch_size=4).is_passed


@pytest.mark.parametrize(
    "output",
    [np.zeros((2, 1, 4, 1), np.float32), np.zeros((2, 1, 4, 3), np.float16)],
    ids=["shape", "type"],
)
def test_other_shapes_and_types_are_refused(output):
    expected = dense(Task.DEPTH, np.zeros((2, 1, 4, 3), np.float32))
    with pytest.raises(
        ValueError, match=r"\(\(3, 1, 4, 3\), 'float32'\)\], got \[\(\(3, 1, 4, [13]\), 'float"
    ):
        parity(answering(expected, output), expected, ANYTHING, max_batch_size=4)


def test_limits_of_other_measures_are_refused():
    expected = dense(Task.DEPTH, np.zeros((2, 1, 4, 3), np.float32))
    with pytest.raises(ValueError, match="got \\['mean_angle'\\] too"):
        parity(answering(expected, *expected.outputs), expected, {"mean_angle": 1}, max_batch_size=4)


def test_errors_are_shares_of_the_range():
    output = np.linspace(0, 50, 24, dtype=np.float32).reshape(2, 1, 4, 3)
    expected = dense(Task.DEPTH, output)
    values = values_of(expected, output + 5)
    assert values["max_error"] == pytest.approx(0.1)
    assert values["mean_error"] == pytest.approx(0.1)


def test_angles_are_between_unit_vectors_whatever_their_length():
    angle = np.radians(2)
    straight = np.zeros((2, 3, 8, 6), np.float32)
    straight[:, 2] = 3
    turned = np.zeros_like(straight)
    turned[:, 0], turned[:, 2] = 5 * np.sin(angle), 5 * np.cos(angle)
    values = values_of(dense(Task.NORMAL, straight), turned)
    assert values["mean_angle"] == pytest.approx(2, abs=1e-4)
    assert values["p99_angle"] == pytest.approx(2, abs=1e-4)


def test_classes_are_counted_at_the_size_of_the_input():
    logits = np.zeros((2, 2, 8, 6), np.float16)
    logits[:, 0] = 1
    other = logits.copy()
    other[0, :, 0, :3] = [[0], [1]]
    assert values_of(dense(Task.SEG, logits), other)["unequal_classes"] == pytest.approx(2 * 3 / (3 * 48))


def pose_outputs(columns, scores):
    """Peaks of single cells in heatmaps of 8 x 6."""
    peaks = np.array([[[column, 4] for column in columns]] * 2, np.int32)
    patches = np.zeros((2, len(columns), 13, 13), np.float32)
    patches[:, :, 6, 6] = scores
    scores = np.array([scores] * 2, np.float32)
    return [peaks, scores, patches, scores / 12]


def pose_reference(columns, scores):
    return Reference(first_recipe(Task.POSE), parity_pixels((32, 24)), pose_outputs(columns, scores), (8, 6))


def test_distances_are_in_pixels_of_the_input():
    expected = pose_reference([2, 2, 2], [1.0, 1.0, 1.0])
    values = values_of(expected, *pose_outputs([3, 3, 3], [1.0, 1.0, 1.0]))
    assert values["median_distance"] == pytest.approx(24 / 5)


def test_only_keypoints_that_the_network_is_sure_of_are_compared():
    expected = pose_reference([2, 2, 2], [1.0, 0.29, 0.1])
    values = values_of(expected, *pose_outputs([2, 5, 0], [1.0, 0.29, 0.1]))
    assert values["p99_distance"] == 0


def test_a_map_without_a_keypoint_may_have_its_peak_anywhere():
    """Which of two equal cells of noise is higher hangs on rounding, also in float32."""
    expected = pose_reference([2, 2, 2], [1.0, 0.9, 0.001])
    engine = answering(expected, *pose_outputs([2, 2, 5], [1.0, 0.9, 0.001]))
    limits_of_pose = limits(Task.POSE, "float32", untrained=False)
    assert parity(engine, expected, limits_of_pose, max_batch_size=4).is_passed
    moved = answering(expected, *pose_outputs([2, 3, 2], [1.0, 0.9, 0.001]))
    assert not parity(moved, expected, limits_of_pose, max_batch_size=4).is_passed


def test_where_the_network_is_sure_of_none_all_are_compared():
    expected = pose_reference([2, 2, 2], [0.1, 0.1, 0.1])
    values = values_of(expected, *pose_outputs([3, 3, 3], [0.1, 0.1, 0.1]))
    assert values["median_distance"] == pytest.approx(24 / 5)


def test_a_reference_survives_its_file(tiny_weights, reference_of, tmp_path):
    expected = reference_of(tiny_weights(Task.POSE))
    expected.save(tmp_path / "parity.npz")
    loaded = Reference.load(tmp_path / "parity.npz", first_recipe(Task.POSE), expected.output_hw)
    assert (loaded.pixels == expected.pixels).all()
    for output, wanted in zip(loaded.outputs, expected.outputs, strict=True):
        np.testing.assert_array_equal(output, wanted)


def file_of(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"PK\x03\x04 broken",
        file_of(pixels=np.zeros((2, 4, 3, 3))),
        file_of(pixels=np.zeros((0, 4, 3, 3)), depth_map=np.zeros((0, 1, 4, 3))),
        file_of(pixels=np.zeros((2, 4, 3, 3)), depth_map=np.zeros((1, 1, 4, 3))),
    ],
    ids=["missing", "empty", "damaged", "without outputs", "without images", "of other images"],
)
def test_a_reference_that_cannot_be_read_is_named(content, tmp_path):
    if content is not None:
        (tmp_path / "parity.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"parity\.npz must hold .*export the engine again"):
        Reference.load(tmp_path / "parity.npz", first_recipe(Task.DEPTH), (4, 3))


def test_a_report_is_plain_data_and_a_sentence():
    report = ParityReport("cpu", 2, (Measure("max_error", 2e-5, 1e-4), Measure("mean_error", 1e-6, None)))
    assert json.loads(json.dumps(report.to_json()))["is_passed"] is True
    assert str(report) == "max error 2e-05 of range (0.0001 allowed) on 2 images, cpu"
    failed = replace(report, measures=(Measure("max_error", 2e-3, 1e-4),))
    assert json.loads(json.dumps(failed.to_json()))["is_passed"] is False
    broken = replace(report, measures=(Measure("max_error", float("nan"), 1e-4),))
    assert json.loads(json.dumps(broken.to_json(), allow_nan=False))["measures"][0]["value"] is None


def test_the_limits_of_reduced_precision_are_those_that_are_promised():
    for precision in ("bfloat16", "float16"):
        assert limits(Task.DEPTH, precision, untrained=False) == {"mean_error": 0.005, "lost_levels": 0.25}
        assert limits(Task.NORMAL, precision, untrained=False) == {"mean_angle": 0.5, "p99_angle": 3}
        assert limits(Task.SEG, precision, untrained=False) == {"unequal_classes": 0.005}
        assert limits(Task.POSE, precision, untrained=False) == {"median_distance": 0.1, "p99_distance": 1}
        assert limits(Task.DETECT, precision, untrained=False) == {
            "median_distance": 0.5,
            "p99_distance": 3,
            "score_error": 0.02,
        }


def test_every_limit_is_of_a_known_measure():
    names = {
        name
        for recipe in first_recipes().values()
        for measures in (recipe.tolerances.float32, recipe.tolerances.reduced)
        for name in measures
    }
    assert names <= MEASURES.keys()


@pytest.fixture
def boxes_found():
    """What a detector answers: one person in the first of two images, and cells that are none."""
    rng = np.random.default_rng(0)
    bboxes = rng.uniform(0, 400, (2, 50, 4)).astype(np.float32)
    scores = np.full((2, 50), 0.2, np.float32)
    scores[0, :3] = 0.9, 0.8, 0.7
    return Reference(first_recipe(Task.DETECT), parity_pixels((416, 416)), [bboxes, scores], (416, 416))


@pytest.mark.parametrize(
    ("box", "shift", "score", "is_passed"),
    [(0, 0.4, 0.01, True), (0, 9.0, 0.0, False), (0, 0.0, 0.03, False), (9, 9.0, 0.03, True)],
    ids=["a little", "its place", "its score", "no person"],
)
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_boxes_of_persons_must_stay_where_they_are(precision, box, shift, score, is_passed, boxes_found):
    bboxes, scores = (output.copy() for output in boxes_found.outputs)
    bboxes[0, box] += shift
    scores[0, box] += score
    allowed = limits(Task.DETECT, precision, untrained=False)
    engine = answering(boxes_found, bboxes, scores)
    report = parity(engine, boxes_found, allowed, max_batch_size=4)
    assert report.is_passed is is_passed, str(report)


def test_boxes_in_another_order_are_the_same_boxes(boxes_found):
    order = np.random.default_rng(1).permutation(50)
    values = values_of(boxes_found, *(output[:, order] for output in boxes_found.outputs))
    assert set(values.values()) == {0}


def test_where_nobody_is_all_boxes_are_compared(boxes_found):
    bboxes, scores = boxes_found.outputs
    nobody = replace(boxes_found, outputs=[bboxes, np.minimum(scores, 0.2)])
    values = values_of(nobody, bboxes + 2, nobody.outputs[1])
    assert values["median_distance"] == pytest.approx(2, abs=1e-3)
