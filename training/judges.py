"""What independent small networks see in a photograph: its person's outline, eyes, nose and shoulders.

The networks are MediaPipe's (Apache-2.0), read by OpenCV 4 from the wheel `mediapipe==0.10.21`; they are used
for comparison only, and nothing of them is part of this project.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from training.images import read_photograph, region_matrix

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OUTLINE_SIDE, _POSE_SIDE, _FACE_SIDE = 256, 256, 192
_LANDMARKS, _LANDMARK_VALUES = "Identity", 5  # x, y, z, visibility, presence
_BODY_CENTER, _BODY_TOP = 33, 34  # auxiliary landmarks that say where to look for the body
_REGION_PADDING = 1.25
_FACE_HALF_SIDE = 1.8  # distances of the eyes, until the face itself tells
_FACE_PADDING = 1.5
_NOSE_TIP, _LEFT_EYE, _RIGHT_EYE = (1,), (263, 362, 386, 374), (33, 133, 159, 145)  # eyes: corners and lids


def judged(image: NDArray[np.uint8], folder: Path) -> dict[str, NDArray[Any]]:
    """Ask all judges.

    Args:
        image: (H, W, 3) uint8, RGB, with one person.
        folder: `mediapipe/modules` of the unpacked wheel.

    Returns:
        `outline` (H, W) bool; `names` (5,) of keypoints and `keypoints` (5, 2) float32, x and y in pixels
        from the first pixel's centre.
    """
    height, width = image.shape[:2]
    outline = _network(folder / "selfie_segmentation/selfie_segmentation.tflite")
    side = (_OUTLINE_SIDE, _OUTLINE_SIDE)
    outline.setInput(_blob(cv2.resize(image, side, interpolation=cv2.INTER_AREA)))
    shares = outline.forward().reshape(side)
    body = _body(image, folder)
    face = _face(image, folder, center=body[0], half_side=_FACE_HALF_SIDE * np.abs(body[2] - body[5]).max())
    points = {
        "nose": face[list(_NOSE_TIP)].mean(axis=0),
        "left_eye": face[list(_LEFT_EYE)].mean(axis=0),
        "right_eye": face[list(_RIGHT_EYE)].mean(axis=0),
        "left_shoulder": body[11],
        "right_shoulder": body[12],
    }
    return {
        "outline": cv2.resize(shares, (width, height)) > 0.5,
        "names": np.array(list(points)),
        "keypoints": (np.stack(list(points.values())) - 0.5).astype(np.float32),
    }


def _body(image: NDArray[np.uint8], folder: Path) -> NDArray[np.float64]:
    """Return (39, 2) landmarks, found in the region that the landmarks themselves ask for."""
    network = _network(folder / "pose_landmark/pose_landmark_full.tflite")
    side = max(image.shape[:2])
    region = np.array([0, 0, side, side], np.float64)
    for _ in range(4):
        network.setInput(_blob(_cut(image, region, _POSE_SIDE)))
        found = _in_image(network.forward(_LANDMARKS).reshape(-1, _LANDMARK_VALUES), region, _POSE_SIDE)
        radius = np.linalg.norm(found[_BODY_TOP] - found[_BODY_CENTER]) * _REGION_PADDING
        region = np.concatenate([found[_BODY_CENTER] - radius, found[_BODY_CENTER] + radius])
    return found


def _face(
    image: NDArray[np.uint8], folder: Path, center: NDArray[np.float64], half_side: float
) -> NDArray[np.float64]:
    """Return (468, 2) landmarks, found in the square around the landmarks themselves."""
    network = _network(folder / "face_landmark/face_landmark.tflite")
    for _ in range(3):
        region = np.concatenate([center - half_side, center + half_side])
        network.setInput(_blob(_cut(image, region, _FACE_SIDE)))
        found = _in_image(network.forward("conv2d_21").reshape(-1, 3), region, _FACE_SIDE)
        low, high = found.min(axis=0), found.max(axis=0)
        center, half_side = (low + high) / 2, (high - low).max() / 2 * _FACE_PADDING
    return found


def _network(path: Path) -> cv2.dnn.Net:
    return cv2.dnn.readNetFromTFLite(str(path))


def _cut(image: NDArray[np.uint8], region: NDArray[np.float64], side: int) -> NDArray[np.uint8]:
    """Return (side, side, 3) uint8, the square `region`, xyxy of pixel corners; black outside the image."""
    return cv2.warpAffine(image, region_matrix(tuple(region), (side, side)), (side, side))  # type: ignore[return-value]


def _blob(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """Return (1, 3, H, W) float32, 0..1, of (H, W, 3) uint8."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], dtype=np.float32) / np.float32(255)


def _in_image(landmarks: NDArray[Any], region: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return (L, 2) x and y from the image's corner, of (L, 2 or more) from that of a region's cut."""
    return landmarks[:, :2] / side * (region[2:] - region[:2]) + region[:2]


def main() -> None:
    """Keep the judges' opinion of a photograph in a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photograph", type=Path)
    parser.add_argument("modules", type=Path, help="mediapipe/modules of the unpacked wheel")
    parser.add_argument("output", type=Path, help=".npz file")
    options = parser.parse_args()
    opinion = judged(read_photograph(options.photograph), options.modules)
    np.savez_compressed(options.output, **opinion)
    print({str(n): p.round(1).tolist() for n, p in zip(opinion["names"], opinion["keypoints"], strict=True)})


if __name__ == "__main__":
    main()
