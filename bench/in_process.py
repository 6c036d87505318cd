"""The pipeline without a server, as a process that answers commands: the baseline of `overhead.py`.

It runs in a process of its own so that it gets the same malloc settings as the server. Each line on stdin,
`RESULT CONCURRENCY CALLS`, gives one line of JSON on stdout; RESULT is "depth" or "depth_raw".
"""

import json
import os
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from measure import load

from sapiens_core.image_codec import decode_bgr
from sapiens_core.postprocess.depth import image_depth
from sapiens_core.preprocess import dense_pixels
from sapiens_export.engines import Engine, engine_from_torchscript


def answer(result: str, encoded: np.ndarray, engine: Engine, input_hw: tuple[int, int]) -> np.ndarray:
    """Do what the ensemble of this name does."""
    image = decode_bgr(encoded)
    depth_map = engine(dense_pixels(image, input_hw))
    return depth_map if result == "depth_raw" else image_depth(depth_map[0, 0], image.shape[:2])


def main() -> None:
    """Answer commands until stdin ends."""
    engine_file, image_file, height, width = sys.argv[1:]
    cv2.setNumThreads(1)
    engine = engine_from_torchscript(Path(engine_file))
    encoded = np.frombuffer(Path(image_file).read_bytes(), np.uint8)
    for line in sys.stdin:
        result, concurrency, num_calls = line.split()
        call = partial(answer, result, encoded, engine, (int(height), int(width)))
        sample = load([call] * int(concurrency), int(num_calls), [os.getpid()])
        print(json.dumps(asdict(sample)), flush=True)


if __name__ == "__main__":
    main()
