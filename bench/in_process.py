"""The pipelines without a server, as a process that answers commands: the baseline of `overhead.py`.

It runs in a process of its own so that it gets the same environment as the server. Each line on stdin,
`RESULT CONCURRENCY CALLS`, gives one line of JSON on stdout; RESULT is the name of an ensemble.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from measure import load

from sapiens_core.images.codec import decode_bgr
from sapiens_core.prepare.image import image_inputs
from sapiens_core.recipes.lookup import recipe
from sapiens_core.recipes.recipe import Task
from sapiens_core.triton.heap import Heap
from sapiens_export.engines.engine import Engine
from sapiens_export.engines.torchscript import engine_from_torchscript
from sapiens_export.parity import pipeline


def call_of(
    family: str, result: str, encoded: bytes, engine: Engine, input_hw: tuple[int, int]
) -> Callable[[], object]:
    """Return a function that does what the ensemble of this name does."""
    spec = recipe(family, Task(result.removesuffix("_raw")))
    settings = spec.settings(input_hw, 1)
    if result.endswith("_raw"):
        file = np.frombuffer(encoded, np.uint8)
        return lambda: engine(image_inputs(decode_bgr(file), settings).pixels)
    if spec.task == Task.POSE:
        return partial(pipeline.pose, encoded, engine, settings)
    return partial(pipeline.image_result, spec, encoded, engine, settings)


def main() -> None:
    """Answer commands until stdin ends."""
    family, engine_file, image_file, height, width = sys.argv[1:]
    cv2.setNumThreads(1)
    Heap()  # as the server's processes have it
    engine = engine_from_torchscript(Path(engine_file))
    encoded = Path(image_file).read_bytes()
    for line in sys.stdin:
        result, concurrency, num_calls = line.split()
        call = call_of(family, result, encoded, engine, (int(height), int(width)))
        sample = load([call] * int(concurrency), int(num_calls), [os.getpid()])
        print(json.dumps(asdict(sample)), flush=True)


if __name__ == "__main__":
    main()
