from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from real_servers import running

from sapiens_client import (
    AlbedoResult,
    AsyncSapiensClient,
    ClientOptions,
    DepthResult,
    DetectionResult,
    FeatureResult,
    MattingResult,
    ModelInfo,
    NormalResult,
    PointmapResult,
    PoseResult,
    Result,
    SapiensClient,
    SapiensError,
    SegmentationResult,
    Timing,
)
from sapiens_client.tasks.images import ImageLike, encoded_image
from sapiens_core.labels import KeypointSet, keypoint_set
from sapiens_core.surfaces.camera import unprojected

MODEL = ModelInfo(
    task="depth",
    family="sapiens",
    size="0.3b",
    labels="",
    precision="float32",
    runtime="python",
    preprocess="full",
    flip_test=False,
    licence="CC-BY-NC-4.0",
    untrained=True,
    checkpoint_sha256="",
)

# Output tensors of the stand-ins.
DEPTH = {"depth": "TYPE_FP32 dims: [ -1, -1 ]"}
NORMALS = {"normals": "TYPE_FP32 dims: [ -1, -1, 3 ]"}
CLASS_MAP = {"class_map": "TYPE_UINT8 dims: [ -1, -1 ]"}
FEATURES = {"features": "TYPE_FP32 dims: [ -1, 1, 4, 3 ]"}
DETECTIONS = {"bboxes": "TYPE_FP32 dims: [ -1, 4 ]", "scores": "TYPE_FP32 dims: [ -1 ]"}
PEOPLE = {
    "keypoints": "TYPE_FP32 dims: [ -1, 17, 2 ]",
    "scores": "TYPE_FP32 dims: [ -1, 17 ]",
    "person_bboxes": "TYPE_FP32 dims: [ -1, 4 ]",
    "bbox_scores": "TYPE_FP32 dims: [ -1 ]",
}

ENSEMBLE = """
ensemble_scheduling { step [ {
  model_name: "stand_in"
  model_version: -1
  input_map { key: "image" value: "image" }
  output_map { key: "depth" value: "depth" }
  output_map { key: "image_hw" value: "image_hw" }
} ] }
"""

IMPATIENT_QUEUE = """
dynamic_batching { default_queue_policy {
  max_queue_size: 1
  timeout_action: REJECT
  default_timeout_microseconds: 100000
} }
"""

FALLBACK_INPUT = 'input { name: "whole_image_if_nobody" data_type: TYPE_BOOL dims: [ 1 ] optional: true }'


def config(outputs: dict[str, str], model: ModelInfo | None, *more: str, kind: str = "python") -> str:
    """The config of a model that takes an image."""
    tensors = outputs | {"image_hw": "TYPE_INT32 dims: [ 2 ]"}
    facts = model.to_parameters() if model else {}
    lines = ["max_batch_size: 0", 'input { name: "image" data_type: TYPE_UINT8 dims: [ -1 ] }', *more]
    lines += [f'output {{ name: "{name}" data_type: {tensor} }}' for name, tensor in tensors.items()]
    lines += [
        f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}' for name, value in facts.items()
    ]
    return "\n".join([*lines, 'platform: "ensemble"' if kind == "ensemble" else f'backend: "{kind}"'])


CPU = "instance_group [ { kind: KIND_CPU count: 1 } ]"
TWO_CPUS = "instance_group [ { kind: KIND_CPU count: 2 } ]"
NANODET = replace(MODEL, task="detect", family="nanodet", size="g", licence="Apache-2.0")

STAND_INS = {
    "depth": config(DEPTH, MODEL, ENSEMBLE, kind="ensemble"),
    "stand_in": config(DEPTH, None, TWO_CPUS),
    "crowded": config(DEPTH, None, CPU, IMPATIENT_QUEUE),
    "normal": config(NORMALS, replace(MODEL, task="normal"), CPU),
    "seg": config(CLASS_MAP, replace(MODEL, task="seg", labels="goliath"), CPU),
    "features": config(FEATURES, replace(MODEL, task="features"), CPU),
    "human": config(DEPTH | NORMALS | CLASS_MAP, None, CPU),
    "detect": config(DETECTIONS, NANODET, CPU),
    "people_pose": config(PEOPLE, replace(MODEL, task="pose", labels="coco"), CPU, FALLBACK_INPUT),
}


@pytest.fixture(scope="session")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real server with stand-ins.

    They are all the models but `pose`, as contracted, and `crowded` with room for one waiting request.
    """
    repository = tmp_path_factory.mktemp("repository")
    write_stand_ins(repository, STAND_INS)
    with running(repository, grpc_port=0) as server:
        yield server.grpc_url


def write_stand_ins(repository: Path, configs: dict[str, str], source: str | None = None) -> None:
    for name, text in configs.items():
        version = repository / name / "1"
        version.mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(f'name: "{name}"\n{text}')
        if "ensemble_scheduling" not in text:
            usual = "stand_in_people.py" if name in ("detect", "people_pose") else "stand_in_model.py"
            shutil.copy(Path(__file__).with_name(source or usual), version / "model.py")


@pytest.fixture(scope="session")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository to serve several times: `normal`, `seg`, and `depth` with room for one waiting request."""
    repository = tmp_path_factory.mktemp("replicated")
    models = {name: STAND_INS[name] for name in ("normal", "seg")}
    write_stand_ins(repository, {**models, "depth": config(DEPTH, MODEL, CPU, IMPATIENT_QUEUE)})
    return repository


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository to serve: `depth` does what the "image" says, beside models that are none of ours."""
    repository = tmp_path_factory.mktemp("faulty")
    logits = {"logits": "TYPE_FP32 dims: [ 1000 ]"}
    owner = 'parameters { key: "owner" value { string_value: "somebody" } }'
    models = {
        "depth": config(DEPTH, MODEL, CPU, IMPATIENT_QUEUE),
        "depth_other": config(DEPTH, None, CPU, owner),
        "resnet50": config(logits, None, CPU),
        "normal": config(logits, None, CPU),
        "seg": config(CLASS_MAP, replace(MODEL, task="depth"), CPU),
    }
    write_stand_ins(repository, models, source="stand_in_faults.py")
    return repository


@pytest.fixture
def patient(monkeypatch) -> None:
    """Let servers on a busy machine take their time until they know shared memory, or have forgotten it."""
    monkeypatch.setattr("sapiens_client.shared.memory._TIMEOUT_S", 30.0)


@pytest.fixture
def hold(replicated: Path) -> Iterator[Path]:
    """A file; as long as it is there, the replicated server's seg model works on `held_image`."""
    path = replicated / "seg" / "1" / "hold"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture(scope="session")
def held_image() -> np.ndarray:
    return np.zeros((699, 701, 3), np.uint8)


@pytest.fixture
def client(url: str) -> Iterator[SapiensClient]:
    with SapiensClient(url) as client:
        yield client


@pytest.fixture(scope="session")
def pose_url(golden_networks, tmp_path_factory) -> Iterator[str]:
    """The address of a real server with a small untrained pose network that takes 4 persons at a time."""
    from sapiens_export.exporter import export_engine
    from sapiens_export.weights.sources import source_from_seed

    repository = tmp_path_factory.mktemp("pose") / "models"
    export_engine(source_from_seed(golden_networks["pose17"], 0), repository)
    with running(repository, grpc_port=0) as server:
        yield server.grpc_url


@pytest.fixture
def pose_client(pose_url: str) -> Iterator[SapiensClient]:
    with SapiensClient(pose_url) as client:
        yield client


@pytest.fixture(params=["threads", "asyncio"])
def ask(request) -> Callable[..., DepthResult | SapiensError]:
    """A function (addresses, image, maybe seconds) -> depth or the error; it sends requests twice at most.

    It is there twice, for the client of threads and for that of event loops.
    """
    options = ClientOptions(max_attempts=2)

    def in_a_thread(
        url: str | list[str], image: ImageLike, timeout_s: float = 10.0
    ) -> DepthResult | SapiensError:
        with SapiensClient(url, options=options) as client:
            try:
                return client.depth(image, timeout_s=timeout_s)
            except SapiensError as error:
                return error

    async def on_a_loop(
        url: str | list[str], image: ImageLike, timeout_s: float = 10.0
    ) -> DepthResult | SapiensError:
        async with AsyncSapiensClient(url, options=options) as client:
            try:
                return await client.depth(image, timeout_s=timeout_s)
            except SapiensError as error:
                return error

    return in_a_thread if request.param == "threads" else lambda *about: asyncio.run(on_a_loop(*about))


@pytest.fixture(scope="session")
def dead_url() -> str:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(scope="session")
def slow_image() -> np.ndarray:
    """The server takes 1.5 s for it."""
    return np.zeros((1, 2, 3), np.uint8)


@pytest.fixture(scope="session")
def failing_image() -> np.ndarray:
    """The server's depth model raises RuntimeError for it."""
    return np.zeros((1, 3, 3), np.uint8)


@pytest.fixture(scope="session")
def unanswered_image() -> np.ndarray:
    """The server's depth model returns no depth for it."""
    return np.zeros((1, 4, 3), np.uint8)


@pytest.fixture(scope="session")
def apart_image() -> np.ndarray:
    """The server's `human` raises RuntimeError for it, the models of the single tasks do not."""
    return np.zeros((1, 5, 3), np.uint8)


@pytest.fixture
def make(photo) -> Callable[..., Result]:
    """A function (class of a result, its fields) -> the result, which belongs to the photo."""

    def made(kind: type[Result], *, labels: str = "", **values: object) -> Result:
        model = replace(MODEL, labels=labels)
        timing = Timing(0.3, 0.1, 0.2, 10, 20)
        return kind(model=model, timing=timing, encoded_image=encoded_image(photo), **values)

    return made


@pytest.fixture
def result(make) -> DepthResult:
    return make(DepthResult, depth=np.random.default_rng(0).normal(3, 2, (31, 17)).astype(np.float32))


@pytest.fixture
def normal_result(make) -> NormalResult:
    normals = np.random.default_rng(0).normal(size=(120, 90, 3)).astype(np.float32)
    return make(NormalResult, normals=normals / np.linalg.norm(normals, axis=2, keepdims=True))


@pytest.fixture
def seg_result(make) -> SegmentationResult:
    coarse = np.random.default_rng(0).integers(0, 28, (6, 9), dtype=np.uint8)
    return make(SegmentationResult, labels="goliath", class_map=coarse.repeat(20, axis=0).repeat(10, axis=1))


@pytest.fixture
def feature_result(make) -> FeatureResult:
    return make(FeatureResult, features=np.random.default_rng(0).normal(size=(32, 4, 3)).astype(np.float32))


@pytest.fixture
def pointmap_result(make) -> PointmapResult:
    """A tilted wall, 2 m away at its left, with a person 1 m before it and a corner of sky."""
    depth = np.linspace(2, 3, 90, dtype=np.float32) * np.ones((120, 1), np.float32)
    depth[40:, 30:60] -= 1
    depth[:10, 80:] = np.inf
    intrinsics = np.array([[100, 0, 44.5], [0, 100, 59.5], [0, 0, 1]])
    with np.errstate(invalid="ignore"):
        points = unprojected(depth, intrinsics)
    camera = {"focal_length": np.float32([100]), "intrinsics": intrinsics.astype(np.float32)}
    return make(PointmapResult, points=points, valid=np.isfinite(depth).view(np.uint8), **camera)


@pytest.fixture
def matting_result(make) -> MattingResult:
    alpha = np.linspace(0, 1, 120 * 90, dtype=np.float32).reshape(120, 90)
    colors = np.random.default_rng(0).random((120, 90, 3), dtype=np.float32)
    return make(MattingResult, alpha=alpha, foreground=colors * alpha[..., None])


@pytest.fixture
def albedo_result(make) -> AlbedoResult:
    return make(AlbedoResult, albedo=np.random.default_rng(0).integers(0, 256, (120, 90, 3), np.uint8))


@pytest.fixture
def make_pose(make) -> Callable[..., PoseResult]:
    """A function (set of keypoints, number of persons) -> poses."""

    def made(keypoints: KeypointSet, num_persons: int = 2, **values: object) -> PoseResult:
        rng = np.random.default_rng(0)
        shape = num_persons, len(keypoints.names)
        bboxes = np.tile(np.float32([10, 20, 70, 100]), (num_persons, 1))
        arrays = {
            "keypoints": rng.uniform(10, 80, (*shape, 2)).astype(np.float32),
            "scores": rng.uniform(0.1, 1, shape).astype(np.float32),
            "bboxes": bboxes + np.arange(num_persons, dtype=np.float32)[:, None],
        }
        return make(PoseResult, keypoint_set=keypoints, **arrays | values)

    return made


@pytest.fixture
def pose(make_pose) -> PoseResult:
    return make_pose(keypoint_set("coco"))


@pytest.fixture
def detections(make) -> DetectionResult:
    bboxes = np.float32([[10, 20, 40, 100], [30.5, 5, 80, 110]])
    return make(DetectionResult, bboxes=bboxes, scores=np.float32([0.9, 0.5]))
