"""Golden files and pictures that every test may use."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

GOLDEN = Path(__file__).parent / "golden" / "sapiens1"


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Mapping[str, NDArray]]:
    """Vectors made by running the reference; origin and tolerances in golden/sapiens1/README.md."""

    def load(name: str) -> Mapping[str, NDArray]:
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return dict(arrays)

    return load


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    return GOLDEN


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
