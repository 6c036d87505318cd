"""What the SDK costs: its calls against raw tritonclient doing the same by hand, and its import.

    python bench/transport.py [--rounds 15]

A depth network of a single block that takes 32 x 32 pixels hides next to nothing. Contenders take turns in
every round of one call each; a time is the lower quartile of the rounds. "raw tritonclient" takes the same
path by hand, from the bytes of the image file to the array: no retries, no deadline, no facts about the
model, no picture, and shared memory of the right size that it has from the start.

    messages    image and depth are in request and reply
    memory      both are in shared memory, which the SDK chooses for large arrays and a server beside it
    network     the network's own depth is in the reply, and the client makes it as large as the image
    compressed  the request is compressed with gzip
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shm
from overhead import photograph
from PIL import Image
from wire import CountingProxy

from sapiens_client import ClientOptions, SapiensClient
from sapiens_core.finish.depth import image_depth
from sapiens_core.recipes.recipe import Task
from sapiens_export.exporter import export_engine
from sapiens_export.networks.config import NetworkConfig
from sapiens_export.weights.sources import source_from_seed
from sapiens_server import serve

NETWORK = NetworkConfig("sapiens", Task.DEPTH, 16, 1, 1, 0, (32, 32), 1, 1)
NUM_IMPORTS = 7
SIZES_WH = ((64, 64), (1080, 1440), (4000, 3000))
PATHS = {
    "messages": ClientOptions(shared_memory=False, output="image"),
    "memory": ClientOptions(output="image"),
    "network": ClientOptions(shared_memory=False, output="network"),
    "compressed": ClientOptions(shared_memory=False, output="image", compression="gzip"),
}
MAX_MESSAGE = 2**31 - 1


def images() -> dict[str, tuple[bytes | np.ndarray, bytes]]:
    """Return what is passed to the SDK, and the bytes that tritonclient is given, by what they are."""
    found: dict[str, tuple[bytes | np.ndarray, bytes]] = {}
    for width, height in SIZES_WH:
        jpeg = photograph(width, height)
        found[f"JPEG of {width} x {height}"] = (jpeg, jpeg)
        pixels, bitmap = np.asarray(Image.open(io.BytesIO(jpeg))), io.BytesIO()
        Image.fromarray(pixels).save(bitmap, "BMP")
        found[f"array of {width} x {height}"] = (pixels, bitmap.getvalue())
    return found


class ByHand:
    """Asks for the depth like the examples of tritonclient do, in one way for each path of the SDK.

    Args:
        url: Where the server is.
        encoded: The image file.
        image_hw: Height and width of the image.
    """

    def __init__(self, url: str, encoded: bytes, image_hw: tuple[int, int]) -> None:
        arguments = [
            ("grpc.max_send_message_length", MAX_MESSAGE),
            ("grpc.max_receive_message_length", MAX_MESSAGE),
            ("grpc.enable_http_proxy", 0),
        ]
        self.client = triton.InferenceServerClient(url, channel_args=arguments)
        self.image = np.frombuffer(encoded, np.uint8)
        self.image_hw = image_hw

    def messages(self, ensemble: str = "depth", output: str = "depth", **options: object) -> np.ndarray:
        tensor = triton.InferInput("image", self.image.shape, "UINT8")
        tensor.set_data_from_numpy(self.image)
        wanted = [triton.InferRequestedOutput(output)]
        return self.client.infer(ensemble, [tensor], outputs=wanted, **options).as_numpy(output)

    def network(self) -> np.ndarray:
        return image_depth(self.messages("depth_raw", "depth_map")[0, 0], self.image_hw)

    def compressed(self) -> np.ndarray:
        return self.messages(compression_algorithm="gzip")

    def memory(self) -> np.ndarray:
        height, width = self.image_hw
        tensor = triton.InferInput("image", self.image.shape, "UINT8")
        tensor.set_shared_memory("image", self.image.nbytes)
        output = triton.InferRequestedOutput("depth")
        output.set_shared_memory("depth", height * width * 4)
        shm.set_shared_memory_region(self.regions[0], [self.image])
        self.client.infer("depth", [tensor], outputs=[output])
        return shm.get_contents_as_numpy(self.regions[1], np.float32, self.image_hw).copy()

    def __enter__(self) -> Self:
        height, width = self.image_hw
        sizes = {"image": self.image.nbytes, "depth": height * width * 4}
        self.regions = []
        for name, size in sizes.items():
            self.regions.append(shm.create_shared_memory_region(name, f"/bench-{name}", size))
            self.client.register_system_shared_memory(name, f"/bench-{name}", size)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.client.unregister_system_shared_memory()
        for region in self.regions:
            shm.destroy_shared_memory_region(region)
        self.client.close()


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
        "from sapiens_client import SapiensClient": "from sapiens_client import SapiensClient",
    }
    return quartiles_ms(
        {
            name: lambda program=program: subprocess.run([sys.executable, "-c", program], check=True)
            for name, program in programs.items()
        },
        NUM_IMPORTS,
    )


def travelled(url: str, image: bytes | np.ndarray, options: ClientOptions) -> str:
    """Return what one call sends and receives, megabytes, with compression and frames."""
    with CountingProxy(url) as proxy, SapiensClient(proxy.url, options=options) as client:
        client.depth(image)
        sent, received = proxy.num_sent, proxy.num_received
        shared = client.depth(image).timing.shared_bytes
    return f"{sent / 1e6:.2f} | {received / 1e6:.2f} | {shared / 1e6:.2f}"


def compare(url: str, num_rounds: int) -> None:
    """Print a row for every image and path."""
    print("\n| depth of | path | MB sent | MB received | MB shared | SDK | raw tritonclient | ratio | more |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, (image, encoded) in images().items():
        with Image.open(io.BytesIO(encoded)) as picture:
            width, height = picture.size
        with ByHand(url, encoded, (height, width)) as by_hand, ExitStack() as stack:
            calls: dict[str, Callable[[], object]] = {}
            for path, options in PATHS.items():
                client = stack.enter_context(SapiensClient(url, options=options))
                calls[f"sdk {path}"] = partial(client.depth, image)
                calls[f"raw {path}"] = getattr(by_hand, path)
            ms = quartiles_ms(calls, num_rounds)
        for path, options in PATHS.items():
            sdk, raw = ms[f"sdk {path}"], ms[f"raw {path}"]
            print(
                f"| {name} | {path} | {travelled(url, image, options)} "
                f"| {sdk:.2f} ms | {raw:.2f} ms | x{sdk / raw:.2f} | {sdk - raw:+.2f} ms |",
                flush=True,
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
        with serve(repository, grpc_port=0) as server:
            compare(server.grpc_url, options.rounds)


if __name__ == "__main__":
    main()
