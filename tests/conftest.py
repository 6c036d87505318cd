"""Golden files and pictures that every test may use."""

from __future__ import annotations

import io
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from sapiens_core.recipes.recipe import Task
from sapiens_core.recipes.sapiens2 import SAPIENS2
from sapiens_export.networks.config import NetworkConfig
from sapiens_export.networks.sapiens2_config import HeadConfig, Sapiens2NetworkConfig

if TYPE_CHECKING:
    from sapiens_export.networks.sapiens2 import Sapiens2Network

GOLDEN = Path(__file__).parent / "golden" / "sapiens1"
GOLDEN2 = GOLDEN.with_name("sapiens2")
PORTRAIT = Path(__file__).parents[1] / "assets" / "eileen_collins.jpg"


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Mapping[str, NDArray]]:
    """Vectors made by running the reference; origin and tolerances in golden/sapiens1/README.md."""

    def load(name: str) -> Mapping[str, NDArray]:
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return dict(arrays)

    return load


@pytest.fixture(scope="session")
def golden2() -> Callable[[str], Mapping[str, NDArray]]:
    """The same of the second family: golden/sapiens2/README.md."""

    def load(name: str) -> Mapping[str, NDArray]:
        with np.load(GOLDEN2 / f"{name}.npz") as arrays:
            return dict(arrays)

    return load


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    return GOLDEN


@pytest.fixture(scope="session")
def golden2_folder() -> Path:
    return GOLDEN2


@pytest.fixture(scope="session")
def golden_networks() -> dict[str, NetworkConfig]:
    """The architectures of golden/sapiens1/net_*.safetensors by their names."""
    family, input_hw = "sapiens", (64, 48)
    return {
        "depth": NetworkConfig(family, Task.DEPTH, 32, 2, 2, 0, input_hw, 12, 1),
        "normal": NetworkConfig(family, Task.NORMAL, 32, 2, 4, 2, input_hw, 16, 3),
        "seg": NetworkConfig(family, Task.SEG, 32, 2, 4, 0, input_hw, 16, 28, "goliath"),
        "pose17": NetworkConfig(family, Task.POSE, 64, 2, 4, 2, input_hw, 12, 17, "coco"),
        "pose308": NetworkConfig(family, Task.POSE, 32, 2, 4, 2, input_hw, 8, 308, "goliath"),
        "pretrain": NetworkConfig(family, Task.FEATURES, 32, 2, 2, 0, (64, 64), 0, 32),
    }


@pytest.fixture(scope="session")
def sapiens2_config() -> Callable[[str], Sapiens2NetworkConfig]:
    """A function (task) -> the architecture of the reference's tiny network of the second family."""
    deconv, shuffle = ((32, 24, 16, 12), (12, 12)), ((16, 12, 8, 8), (8, 6, 4), True)
    heads = {
        Task.POSE: HeadConfig((32, 24), (24, 16, 16)),
        Task.SEG: HeadConfig(*deconv),
        Task.POINTMAP: HeadConfig(*shuffle, (24, 16, 8), (12, 8)),
        Task.FEATURES: None,
    }

    def config(task: str) -> Sapiens2NetworkConfig:
        input_hw = (192, 144) if task == Task.POINTMAP else (64, 48)
        variant = SAPIENS2.recipes[task].variants[0]
        head = heads[Task(task)] if task in heads else HeadConfig(*shuffle)
        sizes = (48, 18, 4, 2, 64, variant.num_outputs)
        return Sapiens2NetworkConfig("sapiens2", task, input_hw, *sizes, head, variant.labels)

    return config


@pytest.fixture(scope="session")
def windowed_config(sapiens2_config) -> Sapiens2NetworkConfig:
    """The architecture of a tiny network whose tokens are windows of patches, as 1b-4k."""
    sizes = {"num_hidden_layers": 2, "input_hw": (192, 144), "window": 3, "num_window_layers": 2}
    return replace(sapiens2_config(Task.FEATURES), **sizes)


@pytest.fixture(scope="session")
def sapiens2_networks(sapiens2_config) -> Mapping[str, Sapiens2Network]:
    """The reference's tiny networks of the second family, by task."""
    from sapiens_export.weights.sapiens2 import sapiens2_from_weights  # here, because it loads transformers

    backbone = load_file(GOLDEN2 / "net_backbone.safetensors")
    weights = {name: each.float() for name, each in backbone.items()}

    def network(task: str) -> Sapiens2Network:
        head = {} if task == Task.FEATURES else load_file(GOLDEN2 / f"net_head_{task}.safetensors")
        return sapiens2_from_weights(sapiens2_config(task), weights | head, task).requires_grad_(False)

    return {task: network(task) for task in SAPIENS2.recipes}


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """(120, 90, 3) uint8 RGB, smooth with some noise, so that resizing it shows every shift."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 6, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((90, 120), Image.Resampling.BICUBIC)).astype(np.int16)
    return np.clip(smooth + rng.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    """A function (array or PIL image, format, options) -> the bytes of the file."""

    def encoded(image: NDArray | Image.Image, file_format: str = "PNG", **options: object) -> bytes:
        buffer = io.BytesIO()
        picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
        picture.save(buffer, file_format, **options)
        return buffer.getvalue()

    return encoded


@pytest.fixture(scope="session")
def portrait() -> NDArray[np.uint8]:
    """(512, 512, 3) uint8 RGB: one person."""
    return np.asarray(Image.open(PORTRAIT))


@pytest.fixture(scope="session")
def picture_of_people(portrait: NDArray[np.uint8]) -> Callable[..., NDArray[np.uint8]]:
    """A function ((left, top, side) of each portrait, (H, W)) -> (H, W, 3) uint8, the portraits on grey."""

    def draw(places: Sequence[tuple[int, int, int]], hw: tuple[int, int] = (480, 640)) -> NDArray[np.uint8]:
        image = np.full((*hw, 3), 128, np.uint8)
        for left, top, side in places:
            resized = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
            image[top : top + side, left : left + side] = resized
        return image

    return draw


@pytest.fixture(scope="session")
def odd_images(encode: Callable[..., bytes]) -> dict[str, bytes]:
    """Ten image files of odd sizes and kinds."""
    rng = np.random.default_rng(1)

    def noise(height: int, width: int, *channels: int) -> NDArray[np.uint8]:
        return rng.integers(0, 256, (height, width, *channels), dtype=np.uint8)

    rotated = Image.Exif()
    rotated[0x0112] = 6  # orientation: the camera was turned by 90 degrees
    deep = rng.integers(0, 2**16, (50, 70), dtype=np.uint16)
    return {
        "1x1": encode(noise(1, 1, 3)),
        "3x2000": encode(noise(3, 2000, 3)),
        "4000x3": encode(noise(4000, 3, 3)),
        "portrait": encode(noise(640, 360, 3), "JPEG"),
        "exif-rotated": encode(noise(40, 100, 3), "JPEG", exif=rotated),
        "grey": encode(noise(77, 55)),
        "rgba": encode(noise(60, 80, 4)),
        "16-bit": encode(Image.fromarray(deep)),
        "cmyk": encode(Image.fromarray(noise(64, 48, 3)).convert("CMYK"), "JPEG"),
        "4k": encode(noise(2160, 3840, 3), "JPEG"),
    }


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="session")
def pki(tmp_path_factory) -> Path:
    """A folder with authorities `ca` and `other`, and certificates `server`, `client` by `ca`."""
    folder = tmp_path_factory.mktemp("pki")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for name in ("ca", "other"):
        files = ("-keyout", f"{name}.key", "-out", f"{name}.crt")
        openssl(folder, "req", "-x509", *key, *files, "-days", "2", "-subj", f"/CN={name}")
    for name, alternative in (("server", "IP:127.0.0.1,DNS:gpu.example"), ("client", "DNS:client")):
        (folder / f"{name}.ext").write_text(f"subjectAltName={alternative}")
        openssl(folder, "req", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        signed = (
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            f"{name}.ext",
        )
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", *signed, "-out", f"{name}.crt")
    return folder


def pytest_configure() -> None:
    """Let SIGINT reach what tests start, also where it is ignored: in a run in the background."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what only an NVIDIA GPU can run, and count it as left out."""
    import torch

    if torch.cuda.is_available():
        return
    left_out = [item for item in items if item.get_closest_marker("gpu")]
    items[:] = [item for item in items if item not in left_out]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
