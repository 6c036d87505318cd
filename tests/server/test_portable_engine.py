"""The engine that torch runs in the Python backend, on the real server: its threads, a GPU that fails."""

from __future__ import annotations

import json
import shutil

import pytest
from real_servers import becomes_true, processes_of, running

from sapiens_client import SapiensClient, SapiensError
from sapiens_client.connection.options import ClientOptions
from sapiens_core.contract.settings import batch_sizes_to_prepare, num_instances

# Computes until there is the file `broken` beside it, then fails as torch does where a GPU has.
FAILING = """
import os
from pathlib import Path
import torch
from sapiens_core.triton import engine

FOLDER = Path(__file__).parent


class TritonPythonModel(engine.TritonPythonModel):
    def initialize(self, args):
        super().initialize(args)
        (FOLDER / "threads").write_text(str(torch.get_num_threads()))
        (FOLDER / "process").write_text(str(os.getpid()))
        runner, self._runner = self._runner, self._failing

        def failing(pixels):
            if (FOLDER / "broken").exists():
                raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\\nhints")
            return runner(pixels)

        self._compute = failing

    def _failing(self, pixels):
        return self._compute(pixels)

    def execute(self, requests):
        answers = super().execute(requests)
        (FOLDER / "ready").write_text(str(self.is_ready()))
        return answers
"""


@pytest.fixture
def failing(depth_repository, tmp_path):
    """A repository with such an engine, and its version folder."""
    shutil.copytree(depth_repository, tmp_path / "models")
    folder = tmp_path / "models" / "depth_engine" / "1"
    (folder / "model.py").write_text(FAILING)
    return tmp_path / "models", folder


def test_a_gpu_that_fails_makes_the_model_unready_and_ends_its_process(failing, photo):
    repository, folder = failing
    once = ClientOptions(max_attempts=1)
    with running(repository, grpc_port=0) as server, SapiensClient(server.grpc_url, options=once) as client:
        client.depth(photo)
        assert (folder / "ready").read_text() == "True"
        process = int((folder / "process").read_text())
        assert int((folder / "threads").read_text()) >= 1
        assert server.look() == set()
        (folder / "broken").touch()
        # Its answer, UNAVAILABLE, has the client ask again, until there is nobody to answer.
        with pytest.raises(SapiensError, match=r"GPU of this model has failed|is not healthy"):
            client.depth(photo)
        assert "an illegal memory access was encountered" in server.log()
        assert (folder / "ready").read_text() == "False"
        assert becomes_true(lambda: process not in processes_of(server.pid))
        assert becomes_true(server.look)
        assert ["depth_engine" in file for file in server.look()] == [True]


def engine_args(largest, **choices):
    """What Triton passes to `initialize`, as far as it is read."""
    return {"model_config": json.dumps({"max_batch_size": largest, **choices})}


@pytest.mark.parametrize(
    ("warmup", "is_gpu", "sizes"),
    [("1", True, (1, 2, 3)), ("1", False, (1,)), ("2,3", False, (2, 3)), ("", True, ()), ("", False, ())],
)
def test_a_gpu_is_prepared_for_all_sizes_of_batches_and_a_cpu_for_those_asked_for(warmup, is_gpu, sizes):
    parameters = {"warmup": {"string_value": warmup}} if warmup else {}
    assert batch_sizes_to_prepare(engine_args(3, parameters=parameters), is_gpu=is_gpu) == sizes


@pytest.mark.parametrize(
    ("groups", "count"), [([], 1), ([{"count": 3}], 3), ([{"count": 1}, {"count": 2}], 3)]
)
def test_processors_are_shared_by_the_instances_of_a_model(groups, count):
    assert num_instances(engine_args(4, instance_group=groups)) == count
