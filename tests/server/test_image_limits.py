"""What an operator limits, what that takes, and what is given back, each at the real server."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import tritonclient.grpc as triton

from sapiens_client import ClientOptions, InvalidInputError, SapiensClient
from sapiens_core.contract.folders import model_folders
from sapiens_core.contract.limits import LIMITS, MAX_PIXELS_VARIABLE
from sapiens_core.images.bmp import encode_bmp
from sapiens_server import RunningServer, ServerOptions, serve
from sapiens_server.shared_memory import need_of

MAX_PIXELS = 400_000
LARGE_HW = (4000, 5000)
KEPT_MB = {"stub": 100, "server": 160}  # how much more than before a process may have in the end
PATIENCE_S = 90.0

# With little shared memory: serves, tells what it logs of that, then what clients are told of a large image.
CRAMPED = """
import sys
import cv2, numpy as np, tritonclient.grpc as triton
from sapiens_client import ClientOptions, InferenceError, SapiensClient
from sapiens_server import serve

large = np.zeros((3000, 4000, 3), np.uint8)
with serve(sys.argv[1], grpc_port=0) as server:
    print(*(line for line in server.log().splitlines() if "/dev/shm" in line), sep="\\n")
    options = ClientOptions(shared_memory=False, output="image")
    with SapiensClient(server.grpc_url, options=options) as client:
        for image in (large, cv2.imencode(".png", large)[1].tobytes()):
            try:
                client.depth(image)
            except InferenceError as error:
                print(error)
        print(client.depth(large[:90, :90]).depth.shape)
"""


@pytest.fixture(scope="module")
def limited(tasks_repository: Path) -> Iterator[RunningServer]:
    options = ServerOptions(max_image_pixels=MAX_PIXELS)
    with serve(tasks_repository, grpc_port=0, options=options) as server:
        yield server


def image_of(num_pixels: int, width: int = 1000) -> np.ndarray:
    return np.full((num_pixels // width, width, 3), 128, np.uint8)


@pytest.mark.parametrize("call", ["depth", "normal", "seg", "pose", "features", "detect", "people"])
def test_larger_images_than_the_operator_allows_are_refused(limited: RunningServer, call: str) -> None:
    with SapiensClient(limited.grpc_url) as client:
        getattr(client, call)(image_of(MAX_PIXELS))
        with pytest.raises(InvalidInputError, match=f"at most {MAX_PIXELS} pixels .* got 1000 x 401"):
            getattr(client, call)(image_of(MAX_PIXELS + 1000))


def test_finishing_steps_refuse_them_too(limited: RunningServer) -> None:
    inputs = {"depth_map": np.zeros((1, 1, 64, 48), np.float32), "finish_hw": np.array([401, 1000], np.int32)}
    with triton.InferenceServerClient(limited.grpc_url) as client:
        config = client.get_model_config("depth_postprocess", as_json=True)["config"]["input"]
        shape = [1, *map(int, config[0]["dims"][1:])]
        inputs["depth_map"] = np.zeros(shape, np.float32)
        tensors = []
        for name, array in inputs.items():
            dtype = "FP32" if array.dtype == np.float32 else "INT32"
            tensor = triton.InferInput(name, array.shape, dtype)
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        with pytest.raises(triton.InferenceServerException, match=f"at most {MAX_PIXELS} pixels"):
            client.infer("depth_postprocess", tensors)


def test_the_limit_is_told_in_the_log(limited: RunningServer) -> None:
    assert f"images of more than {MAX_PIXELS} pixels are refused" in limited.log()


def test_regions_stay_within_what_is_reckoned(limited: RunningServer, tasks_repository: Path) -> None:
    options = ClientOptions(output="image")
    bmp = encode_bmp(image_of(MAX_PIXELS)).tobytes()
    with SapiensClient(limited.grpc_url, options=options) as client:
        for call in ("depth", "normal", "seg", "pose", "features", "detect", "people"):
            for _ in range(4):  # for every instance
                getattr(client, call)(bmp)
    prefix = limited._claim.prefix
    taken = sum(path.stat().st_size for path in Path("/dev/shm").glob(f"{prefix}*"))
    need = need_of(tasks_repository, model_folders(tasks_repository).models)
    assert 0 < taken <= need.num_bytes(MAX_PIXELS) <= 4 * taken


def test_a_variable_sets_the_limit_as_well(depth_repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "5000")
    with (
        serve(depth_repository, grpc_port=0) as server,
        SapiensClient(server.grpc_url) as client,
        pytest.raises(InvalidInputError, match="at most 5000 pixels"),
    ):
        client.depth(image_of(6000))


@pytest.mark.parametrize("pixels", [0, -1, LIMITS.max_image_pixels + 1])
def test_limits_that_are_none_are_refused(depth_repository: Path, pixels: int) -> None:
    with pytest.raises(ValueError, match=f"from 1 to {LIMITS.max_image_pixels}, got '{pixels}'"):
        serve(depth_repository, grpc_port=0, options=ServerOptions(max_image_pixels=pixels))
    command = [Path(sys.executable).with_name("sapiens"), "serve", "--max-image-pixels", str(pixels)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "--max-image-pixels" in ended.stderr


def test_too_little_shared_memory_is_told_at_start_and_no_region_is_named(depth_repository: Path) -> None:
    inside = 'mount -t tmpfs -o size=40m tmpfs /dev/shm && exec "$@"'
    spaces = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", inside, "sh"]
    if subprocess.run([*spaces, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no mounts of one's own here, so no small /dev/shm")
    command = [*spaces, sys.executable, "-c", CRAMPED, str(depth_repository)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(told) == 4, told
    needed = need_of(depth_repository, model_folders(depth_repository).models)
    needed_mb = -(-needed.num_bytes(LIMITS.max_image_pixels) // 2**20)
    assert f"/dev/shm must have {needed_mb} MB free for images of {LIMITS.max_image_pixels} pixels" in told[0]
    assert f"--shm-size={needed_mb}m, or set --max-image-pixels to at most " in told[0]
    for sentence in told[1:3]:
        assert "Failed to increase the shared memory pool size" in sentence
        assert "sapiens_server_" not in sentence
    assert told[3] == "(90, 90)"


@pytest.mark.parametrize("shared_memory", [True, False])
def test_memory_goes_back_to_its_level_after_large_images(
    tasks_server: RunningServer, *, shared_memory: bool
) -> None:
    small = image_of(MAX_PIXELS)
    large = cv2.imencode(".jpg", np.full((*LARGE_HW, 3), 128, np.uint8))[1].tobytes()
    options = ClientOptions(output="image", shared_memory=shared_memory)
    with SapiensClient(tasks_server.grpc_url, timeout_s=PATIENCE_S, options=options) as client:
        for _ in range(4):
            client.normal(small)
        before = private_mb(tasks_server.pid)
        for _ in range(3):
            client.normal(large)
            client.depth(large)
        deadline = time.monotonic() + PATIENCE_S
        while (kept := kept_beyond(before, tasks_server.pid)) and time.monotonic() < deadline:
            time.sleep(0.2)
    assert not kept


def kept_beyond(before: dict[int, int], server_pid: int) -> dict[int, int]:
    """By how many megabytes processes have grown, those that have by too much."""
    grown = {pid: mb - before[pid] for pid, mb in private_mb(server_pid).items() if pid in before}
    return {pid: mb for pid, mb in grown.items() if mb > KEPT_MB["server" if pid == server_pid else "stub"]}


def private_mb(server_pid: int) -> dict[int, int]:
    """Memory of the server and its processes that is theirs alone."""
    children = Path(f"/proc/{server_pid}/task").glob("*/children")
    pids = [server_pid, *(int(pid) for path in children for pid in path.read_text().split())]
    fields = {pid: Path(f"/proc/{pid}/statm").read_text().split() for pid in pids}
    return {pid: (int(words[1]) - int(words[2])) * 4096 // 10**6 for pid, words in fields.items()}
