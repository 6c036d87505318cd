"""Who may ask a server of `sapiens serve` for what, with real servers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from supervised import announced, becomes_true, command_line, ended, new_repository, started
from tritonclient.utils import InferenceServerException

KEY = {"triton-grpc-protocol-admin-key": "a-word"}


def test_server_that_wants_certificates_of_clients_is_ready(tmp_path: Path, pki: Path) -> None:
    files = (
        "--tls-cert",
        pki / "server.crt",
        "--tls-key",
        pki / "server.key",
        "--tls-client-ca",
        pki / "ca.crt",
    )
    one = started(new_repository(tmp_path / "models"), tmp_path / "errors", *map(str, files))
    try:
        announced(one)
        assert becomes_true(one.is_ready)
        with (
            triton.InferenceServerClient(one.grpc_url) as stranger,
            pytest.raises(InferenceServerException, match="UNAVAILABLE"),
        ):
            stranger.is_server_live()
        files_of_client = {
            "private_key": str(pki / "client.key"),
            "certificate_chain": str(pki / "client.crt"),
        }
        with triton.InferenceServerClient(
            one.grpc_url, ssl=True, root_certificates=str(pki / "ca.crt"), **files_of_client
        ) as client:
            tensor = triton.InferInput("image", [1], "UINT8").set_data_from_numpy(np.array([99], np.uint8))
            assert client.infer("picture", [tensor]).as_numpy("y").tolist() == [99]
    finally:
        ended(one)


@pytest.mark.slow
def test_models_are_loaded_for_the_key_and_come_back_after_a_restart(tmp_path: Path) -> None:
    key_file = tmp_path / "key"
    key_file.write_text("a-word\n")
    options = ("--model-control", "explicit", "--admin-key-file", str(key_file), "--client-shared-memory")
    one = started(new_repository(tmp_path / "models"), tmp_path / "errors", *options)
    try:
        announced(one, models="no models yet")
        assert becomes_true(one.is_ready)
        with triton.InferenceServerClient(one.grpc_url) as client:
            with pytest.raises(InferenceServerException, match="This protocol is restricted"):
                client.load_model("picture")
            with pytest.raises(InferenceServerException, match="Unable to open shared memory region"):
                client.register_system_shared_memory("region", "/no_such_region", 8)
            client.load_model("picture", headers=KEY)
        assert becomes_true(lambda: '"picture": true' in one.get("/ready")[1])
        os.kill(one.server(), signal.SIGKILL)
        assert becomes_true(lambda: one.figure('restarts_total{cause="died"}') == 1)
        assert becomes_true(lambda: '"picture": true' in one.get("/ready")[1])
        assert one.ask() == [255, 1, 2]
        assert b"admin-key=******" in command_line(one.server())
        assert b"a-word" not in command_line(one.server())
    finally:
        ended(one)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--tls-cert", "{file}"], "must be given together, got only --tls-cert; give both"),
        (["--tls-client-ca", "{file}"], "must be given together, got only --tls-client-ca; give both"),
        (["--admin-key-file", "{file}"], "must hold one word of ASCII, got 2 words of 9 characters in"),
    ],
)
def test_wrong_usage_has_a_status_of_its_own(tmp_path: Path, options: list[str], words: str) -> None:
    (tmp_path / "file").write_text("two words")
    given = [option.format(file=tmp_path / "file") for option in options]
    one = started(tmp_path, tmp_path / "errors", *given)
    one.process.communicate(timeout=60)
    assert one.process.returncode == 2
    assert words in " ".join((tmp_path / "errors").read_text().replace("│", " ").split())


def test_start_that_is_refused_has_a_status_of_its_own(tmp_path: Path) -> None:
    options = ("--model-control", "explicit", "--host", "0.0.0.0", "--expose-bundled")
    one = started(new_repository(tmp_path / "models"), tmp_path / "errors", *options)
    one.process.communicate(timeout=60)
    assert one.process.returncode == 1
    assert "give --admin-key-file" in (tmp_path / "errors").read_text()
