"""Callers of a server: threads that ask again once they have their answer, for some seconds.

    python bench/callers.py URL MODEL OUTPUT,OUTPUT photo.jpg --threads 4 --seconds 5

Every thread asks once before. Prints, as JSON, when further questions were put and answered, by the wall's
clock. A process of its own, because one Python process would be the bottleneck, and without torch.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton


def ask(options: argparse.Namespace) -> list[tuple[float, float]]:
    """Ask until the time is over."""
    content = np.frombuffer(options.image.read_bytes(), np.uint8)
    tensor = triton.InferInput("image", content.shape, "UINT8")
    tensor.set_data_from_numpy(content)
    outputs = [triton.InferRequestedOutput(name) for name in options.outputs.split(",")]
    times: list[tuple[float, float]] = []
    with triton.InferenceServerClient(options.url) as client:
        client.infer(options.model, [tensor], outputs=outputs)
        until_s = time.time() + options.seconds
        while not times or time.time() < until_s:
            put_s = time.time()
            client.infer(options.model, [tensor], outputs=outputs)
            times.append((put_s, time.time()))
    return times


def main() -> None:
    """Let all threads ask, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("model")
    parser.add_argument("outputs")
    parser.add_argument("image", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    options = parser.parse_args()
    with ThreadPoolExecutor(options.threads) as threads:
        asked = [threads.submit(ask, options) for _ in range(options.threads)]
        print(json.dumps([times for each in asked for times in each.result()]))


if __name__ == "__main__":
    main()
