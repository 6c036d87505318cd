"""The parts of the supervisor that need no server."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from sapiens_core.images.codec import decode_bgr
from sapiens_server import AddressError, PortInUseError
from sapiens_server.addresses import Addresses
from sapiens_server.installation import Installation, release_of
from sapiens_server.supervise.access import Access, TLSFiles, check_access, private_arguments
from sapiens_server.supervise.api import Counts, Reply, ServerApi, _counts
from sapiens_server.supervise.canary import Outcome, canary_models, canary_request, outcome_of, own_models
from sapiens_server.supervise.endpoint import HealthEndpoint
from sapiens_server.supervise.health import Health
from sapiens_server.supervise.monitor import Monitor, _Model

METRICS = """\
# TYPE nv_inference_request_success counter
nv_inference_request_success{model="depth",version="1"} 3
nv_inference_request_success{model="depth",version="2"} 2
nv_inference_request_failure{model="depth",reason="OTHER",version="1"} 4
nv_inference_request_failure{model="depth_engine",reason="BACKEND",version="1"} 1
nv_inference_pending_request_count{model="depth",version="1"} 6
nv_cpu_utilization 0.5
"""
IMAGE = {"name": "image", "data_type": "TYPE_UINT8", "dims": [-1], "optional": True}
BBOXES = {"name": "bboxes", "data_type": "TYPE_FP32", "dims": [-1, 4], "optional": True}


def test_counts_are_read_from_the_metrics() -> None:
    counts = _counts(METRICS)
    assert counts.succeeded == {"depth": 5}
    assert (counts.num_finished, counts.num_pending, counts.num_backend_failures) == (10, 6, 1)


def test_models_that_take_images_and_are_no_steps_are_asked() -> None:
    configs = {
        "pose": {"input": [IMAGE, BBOXES], "ensemble_scheduling": {"step": [{"model_name": "prepare"}]}},
        "prepare": {"input": [IMAGE]},
        "engine": {"input": [{"name": "pixels", "data_type": "TYPE_UINT8", "dims": [8, 8, 3]}]},
        "other": {"input": [IMAGE, {**BBOXES, "optional": False}]},
        "unloaded": {},
    }
    assert canary_models(configs) == ("pose",)


def ensemble(*steps: str, is_own: bool = False) -> dict[str, object]:
    parameters = {"contract": {"string_value": "1"}} if is_own else {}
    scheduling = {"step": [{"model_name": step} for step in steps]}
    return {"input": [IMAGE], "ensemble_scheduling": scheduling, "parameters": parameters}


def test_only_what_an_export_wrote_may_restart_the_server() -> None:
    configs = {
        "depth": ensemble("prepare", "engine", is_own=True),
        "seg": ensemble("prepare", "other_engine", is_own=True),
        "human": ensemble("prepare", "engine", "other_engine"),
        "foreign": ensemble("prepare", "foreign_engine"),
        "classify": {"input": [IMAGE]},
    }
    assert own_models(configs) == {"depth", "seg", "human"}


def test_refusal_of_the_image_is_life_of_a_foreign_model() -> None:
    assert outcome_of(Reply(400, b""), is_own=False) is Outcome.ANSWERED
    assert outcome_of(Reply(400, b""), is_own=True) is Outcome.FAILED
    assert outcome_of(Reply(500, b""), is_own=False) is Outcome.FAILED


def monitor_of(**models: _Model) -> Monitor:
    return Monitor(ServerApi("127.0.0.1:1", "127.0.0.1:1", "key"), 0, Health(), _models=models)


def test_work_of_all_steps_for_others_stands_for_a_canary() -> None:
    lean = _Model(("prepare", "engine"), is_own=True, is_answered=True)
    monitor = monitor_of(depth_raw=lean)
    assert monitor._is_due(lean)
    monitor._counts = Counts({"prepare": 1}, 1, 0, 0)
    assert monitor._is_due(lean)
    monitor._counts = Counts({"prepare": 1, "engine": 1}, 1, 0, 0)
    assert not monitor._is_due(lean)


class Refusing(ServerApi):
    """A server whose models refuse every image."""

    def infer(self, model: str, body: bytes, timeout_s: float) -> Reply:
        return Reply(400, b"")


def test_refused_canaries_are_not_taken_for_answers_that_the_server_counts() -> None:
    foreign = _Model(("classify",), is_own=False)
    api = Refusing("127.0.0.1:1", "127.0.0.1:1", "key")
    monitor = Monitor(api, 0, Health(), _models={"classify": foreign})
    monitor._ask("classify", foreign, b"")
    assert foreign.is_answered
    assert monitor._num_canaries == 0


def test_slow_models_are_asked_more_rarely() -> None:
    an_hour_ago = time.monotonic() - 3600
    slow, quick = (_Model(("m",), True, is_answered=True, asked_s=an_hour_ago, took_s=t) for t in (100, 1))
    assert not monitor_of(slow=slow)._is_due(slow)
    assert monitor_of(quick=quick)._is_due(quick)


def test_canary_is_an_image() -> None:
    (tensor,) = json.loads(canary_request())["inputs"]
    image = decode_bgr(np.array(tensor["data"], np.uint8))
    assert image.shape == (8, 8, 3)
    assert (image == 128).all()


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, Outcome.ANSWERED), (503, Outcome.REFUSED), (500, Outcome.FAILED)]
)
def test_full_queues_tell_nothing_about_a_model(status: int, outcome: Outcome) -> None:
    assert outcome_of(Reply(status, b""), is_own=True) is outcome


@pytest.mark.parametrize(
    ("body", "words"), [(b'{"error":"no\\nroom"}', "no room"), (b"odd", "odd"), (b"", "HTTP status 500")]
)
def test_words_of_a_failure(body: bytes, words: str) -> None:
    assert Reply(500, body).error == words


def test_model_is_ready_from_its_answer_to_its_next_failure() -> None:
    health = Health()
    assert health.status().problems == ("tritonserver is loading",)
    health.enter("serving")
    health.answers(is_answering=True)
    assert health.status().problems == ("tritonserver has not been asked about its models yet",)
    health.serves(("depth", "pose"))
    health.answered("depth")
    assert health.status().problems == ("pose has not answered a canary yet",)
    health.answered("pose")
    health.serves(("pose", "depth"))
    assert health.status().is_ready
    health.failed("pose", "no room")
    assert health.status().problems == ("pose failed a canary: no room",)
    health.answered("pose")
    health.says_unready(("pose_engine",))
    assert health.status().problems == ("pose_engine is unready, says tritonserver",)
    health.says_unready(())
    health.enter("draining")
    assert health.status().problems == ("tritonserver is draining",)


def test_endpoint_names_a_taken_port_with_its_option() -> None:
    with HealthEndpoint(Health(), "127.0.0.1", 0) as endpoint:
        port = int(endpoint.address.rpartition(":")[2])
        with pytest.raises(PortInUseError, match=rf"health_port must be free.*{port}.*--health-port"):
            HealthEndpoint(Health(), "127.0.0.1", port)
        request = urllib.request.Request(f"http://{endpoint.address}/live", method="HEAD")
        with urllib.request.urlopen(request, timeout=10) as reply:
            assert (reply.status, reply.read()) == (200, b"")


def test_tls_is_passed_on_with_full_paths() -> None:
    access = Access(TLSFiles(Path("a.crt"), Path("a.key"), Path("ca.crt")))
    arguments = set(access.arguments("none", "secret", has_http=False, release=(2, 51)))
    here = Path.cwd()
    assert arguments >= {
        "--grpc-use-ssl=true",
        f"--grpc-server-cert={here}/a.crt",
        f"--grpc-server-key={here}/a.key",
        "--grpc-use-ssl-mutual=true",
        f"--grpc-root-cert={here}/ca.crt",
    }


@pytest.mark.parametrize(
    ("access", "model_control", "routes"),
    [
        (Access(), "none", "trace,logging,shared-memory"),
        (Access(client_shared_memory=True), "none", "trace,logging"),
        (Access(admin_key="k"), "explicit", "trace,logging,shared-memory,model-repository"),
    ],
)
def test_restricted_routes(access: Access, model_control: str, routes: str) -> None:
    arguments = list(access.arguments(model_control, "secret", has_http=True, release=None))
    assert f"--grpc-restricted-protocol={routes}:admin-key=secret" in arguments
    assert f"--http-restricted-api={routes}:admin-key=secret" in arguments


@pytest.mark.parametrize(
    ("release", "is_given"), [((2, 67), False), ((2, 68), True), ((3, 0), True), (None, False)]
)
def test_client_shared_memory_is_allowed_where_it_is_off(
    release: tuple[int, int] | None, is_given: bool
) -> None:
    access = Access(client_shared_memory=True)
    arguments = list(access.arguments("none", "secret", has_http=False, release=release))
    assert ("--allow-client-shm=true" in arguments) == is_given


def test_release_is_read_beside_the_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installation = Installation(tmp_path / "bin" / "tritonserver", wheel=None)
    monkeypatch.delenv("TRITON_SERVER_VERSION", raising=False)
    assert release_of(installation) is None
    monkeypatch.setenv("TRITON_SERVER_VERSION", "2.70.0")
    assert release_of(installation) == (2, 70)
    (tmp_path / "TRITON_VERSION").write_text("2.75.0\n")
    assert release_of(installation) == (2, 75)


def test_private_services_listen_where_they_are_told() -> None:
    addresses = Addresses("127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3")
    arguments = list(private_arguments(addresses, "secret", http=True, metrics=False))
    assert arguments[0].startswith("--http-restricted-api=health,metadata,inference,")
    assert arguments[1:] == ["--allow-http=true", "--http-address=127.0.0.1", "--http-port=2"]


def test_loading_of_models_is_not_offered_to_strangers() -> None:
    with pytest.raises(AddressError, match=r"got host '0\.0\.0\.0'; give --admin-key-file"):
        check_access(Access(), "0.0.0.0", "explicit")
    check_access(Access(admin_key="k"), "0.0.0.0", "explicit")
    check_access(Access(), "0.0.0.0", "none")


def test_key_is_not_shown() -> None:
    assert "word" not in repr(Access(admin_key="word"))
