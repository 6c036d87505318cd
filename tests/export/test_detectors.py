import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from PIL import Image
from transformers import (
    DFineConfig,
    DFineForObjectDetection,
    HGNetV2Config,
    RTDetrImageProcessorPil,
    RTDetrResNetConfig,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
)
from tritonclient.grpc import model_config_pb2

from sapiens_core.contract.engines import ENGINE_FILES
from sapiens_core.contract.model_info import ModelInfo
from sapiens_core.images.codec import decode_bgr
from sapiens_core.prepare.image import image_inputs
from sapiens_core.recipes.detectors import DETECT
from sapiens_export.engines.torchscript import engine_from_torchscript
from sapiens_export.exporter import EngineOptions, export_detector, export_engine
from sapiens_export.parity.measures import in_order_of
from sapiens_export.repository.serving import Serving
from sapiens_export.weights.detectors import load_detector
from sapiens_export.weights.hashes import file_sha256
from sapiens_export.weights.hub import Hub
from sapiens_export.weights.sources import source_from_seed

INPUT_HW = (96, 64)
CLASSES = {0: "cat", 1: "person"}
CHANNELS = [12, 16, 20]
# The real architectures, narrow and short.
DECODER = {
    "encoder_hidden_dim": 16,
    "encoder_in_channels": CHANNELS,
    "encoder_ffn_dim": 16,
    "encoder_attention_heads": 2,
    "d_model": 16,
    "num_queries": 20,
    "decoder_in_channels": [16, 16, 16],
    "decoder_ffn_dim": 16,
    "decoder_layers": 2,
    "decoder_attention_heads": 2,
    "id2label": CLASSES,
}


def rt_detr():
    backbone = RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, *CHANNELS],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    return RTDetrV2ForObjectDetection(RTDetrV2Config(backbone_config=backbone, **DECODER))


def d_fine():
    backbone = HGNetV2Config(
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 8, 12, 16],
        stage_mid_channels=[4, 4, 8, 8],
        stage_out_channels=[8, *CHANNELS],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        hidden_sizes=[8, *CHANNELS],
        out_features=["stage2", "stage3", "stage4"],
    )
    return DFineForObjectDetection(DFineConfig(backbone_config=backbone, **DECODER))


def save(network, folder, **preprocessing):
    network.save_pretrained(folder)
    processor = RTDetrImageProcessorPil(size={"height": INPUT_HW[0], "width": INPUT_HW[1]}, **preprocessing)
    processor.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A detector\n")
    return folder


@pytest.fixture(scope="module", params=["rt-detr-v2", "d-fine"])
def folder(request, tmp_path_factory):
    """An untrained detector as `save_pretrained` writes it."""
    torch.manual_seed(0)
    network = {"rt-detr-v2": rt_detr, "d-fine": d_fine}[request.param]()
    return save(network, tmp_path_factory.mktemp("detector") / request.param)


@pytest.fixture(scope="module")
def repository(folder, tmp_path_factory) -> Path:
    repository = tmp_path_factory.mktemp("repository") / "models"
    export_detector(str(folder), repository)
    return repository


@pytest.fixture(scope="module")
def engine(repository):
    return engine_from_torchscript(repository / "detect_engine" / "1" / ENGINE_FILES["python"])


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (3, *INPUT_HW, 3), dtype=np.uint8)


def test_the_engine_equals_the_network(folder, engine, pixels):
    network = load_detector(str(folder)).network.network
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        outputs = network(pixel_values=images)
    x, y, width, height = (outputs.pred_boxes * torch.tensor([64, 96, 64, 96])).unbind(2)
    expected = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], dim=2)
    wanted = (expected.numpy(), outputs.logits[..., 1].sigmoid().numpy())
    bboxes, scores = in_order_of(wanted, engine(pixels))
    np.testing.assert_allclose(bboxes, expected, rtol=0, atol=1e-3)
    np.testing.assert_allclose(scores, outputs.logits[..., 1].sigmoid(), rtol=0, atol=1e-5)


def test_a_batch_equals_its_images_alone(engine, pixels):
    def one_by_one(images):
        answers = [engine(image[None]) for image in images]
        return tuple(np.concatenate(parts) for parts in zip(*answers, strict=True))

    wanted = one_by_one(pixels)
    for seen, expected in zip(in_order_of(wanted, engine(pixels)), wanted, strict=True):
        np.testing.assert_allclose(seen, expected, rtol=0, atol=1e-3)


def test_no_device_is_written_into_the_engine(repository):
    graph = str(torch.jit.load(repository / "detect_engine" / "1" / ENGINE_FILES["python"]).inlined_graph)
    assert 'prim::Constant[value="cpu"]' not in graph


def test_the_image_is_prepared_like_by_the_detectors_own_processor(photo, encode):
    processor = RTDetrImageProcessorPil(size={"height": 96, "width": 64})
    expected = processor(Image.fromarray(photo), return_tensors="np")["pixel_values"][0]
    image = decode_bgr(np.frombuffer(encode(photo), np.uint8))
    pixels = image_inputs(image, DETECT.settings(INPUT_HW, 4)).pixels[0]
    np.testing.assert_allclose(pixels.transpose(2, 0, 1) / 255, expected, rtol=0, atol=1e-6)


def test_the_manifest_tells_where_the_detector_comes_from(folder, repository):
    facts = json.loads((repository / "detect_engine" / "manifest.json").read_text())
    assert facts["family"] == facts["size"] == folder.name
    assert facts["licence"] == "apache-2.0"
    assert facts["untrained"] is False
    assert facts["checkpoint_sha256"] == file_sha256(folder / "model.safetensors")
    assert facts["network"] == {
        "family": folder.name,
        "size": folder.name,
        "input_hw": list(INPUT_HW),
        "num_outputs": 20,
        "fit": "stretch",
        "min_score": 0.3,
    }


def test_statistics_of_the_processor_are_the_engines_first_layer(tmp_path):
    save(rt_detr(), tmp_path, do_normalize=True, image_mean=[0.5, 0.4, 0.3], image_std=[0.1, 0.2, 0.3])
    network = load_detector(str(tmp_path)).network
    np.testing.assert_allclose(network.mean.flatten(), [127.5, 102, 76.5], rtol=1e-6)
    np.testing.assert_allclose(network.std.flatten(), [25.5, 51, 76.5], rtol=1e-6)


def test_one_detector_replaces_another(repository, install_detector, tmp_path):
    shutil.copytree(repository, tmp_path / "models")
    install_detector(tmp_path / "models")
    assert [path.name for path in (tmp_path / "models/detect_engine/1").iterdir()] == ["model.py"]
    for setting in ("letterbox", "min_score"):
        assert setting not in (repository / "detect_postprocess/config.pbtxt").read_text()
        assert setting in (tmp_path / "models/detect_postprocess/config.pbtxt").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (EngineOptions(runtime="onnx"), "runtime of a detector must be one of"),
        (EngineOptions(precision="float16"), "must be float32, in which its library computes, got 'float16'"),
    ],
    ids=["runtime", "precision"],
)
def test_what_a_librarys_detector_cannot_become_is_refused(options, message, folder, tmp_path):
    with pytest.raises(ValueError, match=message):
        export_detector(str(folder), tmp_path / "models", options)
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("detector_first", [True, False])
def test_a_repository_with_a_detector_and_a_pose_network_gets_both_in_one(
    detector_first, golden_networks, install_detector, tmp_path
):
    steps = [
        lambda: install_detector(tmp_path),
        lambda: export_engine(
            source_from_seed(golden_networks["pose17"], 0), tmp_path, serving=Serving(max_batch_size=3)
        ),
    ]
    first, second = steps if detector_first else steps[::-1]
    first()
    assert not (tmp_path / "people_pose").exists()
    second()
    text = (tmp_path / "people_pose" / "config.pbtxt").read_text()
    model = text_format.Parse(text, model_config_pb2.ModelConfig())
    facts = {name: parameter.string_value for name, parameter in model.parameters.items()}
    assert (facts["num_keypoints"], facts["pose_max_batch_size"], facts["pose_network_hw"]) == (
        "17",
        "3",
        "64x48",
    )
    assert ModelInfo.from_parameters(facts).labels == "coco"
    assert (tmp_path / "people_pose" / "1" / "model.py").is_file()


def change(file, **facts):
    file.write_text(json.dumps({**json.loads(file.read_text()), **facts}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "Unrecognized model in .*detector"),
        (lambda folder: (folder / "preprocessor_config.json").unlink(), "preprocessor_config.json, got"),
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: change(folder / "config.json", model_type="detr"), "is 'detr'"),
        (
            lambda folder: change(folder / "config.json", id2label={"0": "cat", "1": "dog"}, label2id=None),
            r"class 'person', .* has \['cat', 'dog'\]",
        ),
        (
            lambda folder: change(folder / "preprocessor_config.json", size={"shortest_edge": 9}),
            "takes {'shortest_edge': 9}",
        ),
        (lambda folder: change(folder / "config.json", decoder_layers=3), "lacks"),
    ],
    ids=[
        "no config",
        "no processor",
        "no weights",
        "another kind",
        "no person",
        "no size",
        "weights missing",
    ],
)
def test_what_is_no_such_detector_is_refused(damage, message, tmp_path):
    folder = save(rt_detr(), tmp_path / "detector")
    damage(folder)
    with pytest.raises(ValueError, match=message):
        load_detector(str(folder))


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\ntags: [a]\nlicense: 'mit'\n---\nlicense: of something else\n", "mit"),
        ("---\nlicense: [\n---\n", "not stated by somebody/rtdetr"),
        (None, "not stated by somebody/rtdetr"),
    ],
    ids=["model card", "broken model card", "no model card"],
)
def test_a_name_on_the_hub_stands_for_the_files_there(card, licence, hub_server, tmp_path):
    folder = save(rt_detr(), tmp_path / "detector")
    (folder / "README.md").unlink()
    if card:
        (folder / "README.md").write_text(card)
    hub_server.files = {f"somebody/rtdetr/{file.name}": file.read_bytes() for file in folder.iterdir()}
    hub = Hub(hub_server.url, cache=tmp_path / "cache")
    first = load_detector("somebody/rtdetr", hub)
    hub_server.refusal = "unavailable"
    again = load_detector("somebody/rtdetr", hub)
    assert first.config == again.config
    assert first.config.size == "rtdetr"
    assert first.licence == again.licence == licence
    assert file_sha256(again.weights) == file_sha256(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("somebody/rtdetr", "http://127.0.0.1:1 must be within reach, got"),
        ("somebody/absent/rtdetr", "there is no such folder"),
    ],
)
def test_a_detector_that_cannot_be_had_is_told_at_once(name, reason, tmp_path):
    start_s = time.monotonic()
    with pytest.raises(ValueError, match=f"got {name}: {reason}.*; check name and network, or copy these"):
        load_detector(name, Hub("http://127.0.0.1:1", cache=tmp_path))
    assert time.monotonic() - start_s < 5
