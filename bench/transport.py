"""What the SDK costs: its calls against raw tritonclient doing the same by hand, and its import.

    python bench/transport.py [--rounds 15]

A depth network of a single block that takes 32 x 32 pixels hides next to nothing. Contenders take turns in
every round of one call each; a time is the lower quartile of the rounds. "raw tritonclient" sends the bytes
of the image file and returns the array: no retries, no deadline, no facts about the model, no picture.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
from overhead import photograph
from PIL import Image

from sapiens_client import SapiensClient
from sapiens_core.tasks import Task
from sapiens_export.exporter import export_engine
from sapiens_export.networks.config import NetworkConfig
from sapiens_export.sources import source_from_seed
from sapiens_server import serve

NETWORK = NetworkConfig("sapiens", Task.DEPTH, 16, 1, 1, 0, (32, 32), 1, 1)
NUM_IMPORTS = 7
MAX_MESSAGE = 2**31 - 1


def images() -> dict[str, tuple[bytes | np.ndarray, bytes]]:
    """Return what is passed to the SDK, and the bytes that tritonclient is given, by what they are."""
    small, large = photograph(64, 64), photograph(1080, 1440)
    pixels = np.asarray(Image.open(io.BytesIO(large)))
    bitmap = io.BytesIO()
    Image.fromarray(pixels).save(bitmap, "BMP")
    return {
        "JPEG of 64 x 64": (small, small),
        "JPEG of 1080 x 1440": (large, large),
        "array of 1080 x 1440": (pixels, bitmap.getvalue()),
    }


def raw_call(client: triton.InferenceServerClient, encoded: bytes) -> np.ndarray:
    """Ask for the depth like the examples of tritonclient do."""
    array = np.frombuffer(encoded, np.uint8)
    tensor = triton.InferInput("image", array.shape, "UINT8")
    tensor.set_data_from_numpy(array)
    result = client.infer("depth", [tensor], outputs=[triton.InferRequestedOutput("depth")])
    return result.as_numpy("depth")


def quartiles_ms(calls: dict[str, Callable[[], object]], num_rounds: int) -> dict[str, float]:
    """Return the lower quartile of every contender's times."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for round_number in range(-2, num_rounds):  # the first two warm up
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if round_number >= 0:
                times[name].append(time.perf_counter() - started)
    return {name: float(np.quantile(values, 0.25)) * 1e3 for name, values in times.items()}


def import_ms() -> dict[str, float]:
    """Return how long it takes to start Python and import nothing, numpy, or the SDK."""
    programs = {
        "python": "",
        "import numpy": "import numpy",
        "import sapiens_client": "import sapiens_client",
    }
    return quartiles_ms(
        {
            name: lambda program=program: subprocess.run([sys.executable, "-c", program], check=True)
            for name, program in programs.items()
        },
        NUM_IMPORTS,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    print("| start of a process | ms |\n|---|---|")
    for name, ms in import_ms().items():
        print(f"| {name} | {ms:.0f} |")
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "models"
        export_engine(source_from_seed(NETWORK, 0), repository)
        with serve(repository, grpc_port=0) as server, SapiensClient(server.grpc_url) as client:
            raw = triton.InferenceServerClient(
                server.grpc_url,
                channel_args=[
                    ("grpc.max_send_message_length", MAX_MESSAGE),
                    ("grpc.max_receive_message_length", MAX_MESSAGE),
                    ("grpc.enable_http_proxy", 0),
                ],
            )
            print("\n| depth | request | reply | SDK | raw tritonclient | ratio | more per call |")
            print("|---|---|---|---|---|---|---|")
            for name, (image, encoded) in images().items():
                calls = {
                    "sdk": lambda image=image: client.depth(image),
                    "raw": lambda encoded=encoded: raw_call(raw, encoded),
                }
                ms, timing = quartiles_ms(calls, options.rounds), client.depth(image).timing
                print(
                    f"| {name} | {timing.request_bytes / 1e6:.2f} MB | {timing.response_bytes / 1e6:.2f} MB "
                    f"| {ms['sdk']:.2f} ms | {ms['raw']:.2f} ms | x{ms['sdk'] / ms['raw']:.2f} "
                    f"| {ms['sdk'] - ms['raw']:+.2f} ms |"
                )
            raw.close()


if __name__ == "__main__":
    main()
