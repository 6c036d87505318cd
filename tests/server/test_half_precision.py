"""Results as float16 from the real server, however they travel: what is rounded is what float32 would be."""

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from tritonclient.utils import InferenceServerException

from sapiens_client import ClientOptions, SapiensClient
from sapiens_core.contract.tensors import RESULT_DTYPE
from sapiens_core.images.opencv import float16_of

ARRAYS = {"depth": "depth", "normal": "normals"}
WAYS = {
    "finished there": ClientOptions(output="image", shared_memory=False),
    "finished there, through shared memory": ClientOptions(output="image"),
    "finished here": ClientOptions(output="network", shared_memory=False),
    "finished here, through shared memory": ClientOptions(output="network"),
}


@pytest.fixture(scope="module")
def image():
    """One that has more than the megabyte from which on memory is shared, and so have its results."""
    return np.random.default_rng(0).integers(0, 256, (800, 700, 3), dtype=np.uint8)


@pytest.mark.parametrize("way", WAYS)
def test_what_is_rounded_is_the_usual_result(way, tasks_server, image):
    with SapiensClient(tasks_server.grpc_url, options=WAYS[way]) as client:
        for task, name in ARRAYS.items():
            usual, rounded = (getattr(client, task)(image, dtype=dtype) for dtype in ("float32", "float16"))
            values, halves = getattr(usual, name), getattr(rounded, name)
            assert (values.dtype, halves.dtype) == (np.float32, np.float16)
            np.testing.assert_array_equal(halves, float16_of(np.ascontiguousarray(values)))
            assert (rounded.timing.shared_bytes > 0) is ("shared memory" in way)
            if way == "finished there":
                assert rounded.timing.response_bytes < 0.51 * usual.timing.response_bytes


def test_several_tasks_of_one_ensemble_are_rounded_too(tasks_server, image):
    with SapiensClient(tasks_server.grpc_url, options=WAYS["finished there"]) as client:
        analysis = client.analyze(image, ["depth", "normal", "seg"], dtype="float16")
    types = (analysis.depth.depth.dtype, analysis.normal.normals.dtype, analysis.seg.class_map.dtype)
    assert types == (np.float16, np.float16, np.uint8)


def test_a_type_that_the_server_does_not_know_is_refused_in_words(tasks_server, encode, image):
    """By whatever client: ours refuses it before."""
    with grpcclient.InferenceServerClient(tasks_server.grpc_url) as client:
        content = np.frombuffer(encode(image), np.uint8)
        tensor = grpcclient.InferInput("image", content.shape, "UINT8")
        tensor.set_data_from_numpy(content)
        with pytest.raises(InferenceServerException, match="result_dtype must be FP16 or FP32, got 'BF16'"):
            client.infer("depth", [tensor], parameters={RESULT_DTYPE: "BF16"})
