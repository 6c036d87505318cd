"""What a client tells about a server: its networks, how they fare, and whether it is ready."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from math import isnan

import pytest
from real_servers import running

from sapiens_client import (
    AsyncSapiensClient,
    AuthenticationError,
    ClientClosedError,
    ModelNotServedError,
    RequestTimeoutError,
    SapiensClient,
)
from sapiens_client.testing import FakeServer
from sapiens_core.recipes.tolerances import MEASURES
from sapiens_server import ServerOptions

TASKS = ["depth", "normal", "seg", "pose", "features", "detect"]
LIST_IS_SECRET = "--grpc-restricted-protocol=model-repository,statistics:admin-key=secret"


@pytest.fixture(scope="module")
def client(tasks_server):
    with SapiensClient(tasks_server.grpc_url) as client:
        yield client


def test_every_network_is_told_with_what_is_known_about_it(client, tasks_repository):
    cards = client.models()
    assert list(cards) == TASKS
    seg, pose = cards["seg"], cards["pose"]
    assert (seg.labels[2], len(seg.labels), len(pose.labels), cards["depth"].labels) == (
        "Face_Neck",
        28,
        17,
        (),
    )
    assert (pose.info.labels, pose.info.licence, pose.info.untrained) == ("coco", "unknown", False)
    manifest = json.loads((tasks_repository / "seg_engine" / "manifest.json").read_text())
    assert seg.parity == {each["name"]: each["value"] for each in manifest["parity"]["measures"]}
    assert seg.parity.keys() <= MEASURES.keys()
    assert cards["detect"].parity.keys() >= {"max_error", "median_distance", "score_error"}


def test_the_load_of_every_step_is_told(client, photo):
    before = client.models()["seg"].steps
    client.seg(photo)
    after = client.models()["seg"].steps
    assert list(after) == ["dense_preprocess", "seg_engine", "seg_postprocess"]
    for step, load in after.items():
        assert load.num_requests == before[step].num_requests + 1
        assert 0 <= load.queue_s < 60
        assert 0 < load.compute_s < 60


def test_a_step_that_nobody_asked_has_no_means(depth_repository):
    with running(depth_repository, grpc_port=0) as server, SapiensClient(server.grpc_url) as client:
        (load, *_) = client.models()["depth"].steps.values()
        assert (load.num_requests, isnan(load.queue_s), isnan(load.compute_s)) == (0, True, True)


def test_further_networks_are_found(several_repository):
    with running(several_repository, grpc_port=0) as server, SapiensClient(server.grpc_url) as client:
        assert list(client.models()) == ["depth", "depth_2b", "pose_0.3b"]


def test_where_the_list_is_secret_the_networks_of_the_tasks_are_found(several_repository):
    options = ServerOptions(arguments=(LIST_IS_SECRET,))
    with (
        running(several_repository, grpc_port=0, options=options) as server,
        SapiensClient(server.grpc_url) as client,
    ):
        cards = client.models()
    assert {name: dict(card.steps) for name, card in cards.items()} == {"depth": {}}


def test_the_async_client_tells_the_same(client, tasks_server):
    async def cards():
        async with AsyncSapiensClient(tasks_server.grpc_url) as other:
            await other.wait_until_ready(timeout_s=20)
            return await other.models()

    assert repr(asyncio.run(cards())) == repr(client.models())  # which takes NaN for NaN


def test_a_repository_of_another_contract_says_which_side_to_renew(depth_repository, photo, tmp_path):
    served = tmp_path / "models"
    served.mkdir()
    for model in depth_repository.iterdir():
        (served / model.name).mkdir()
        for file in model.iterdir():
            (served / model.name / file.name).symlink_to(file)
    config = served / "depth" / "config.pbtxt"
    text = config.read_text()
    config.unlink()
    for theirs, advice in (("99", "upgrade sapiens-triton where the client runs"), ("0", "export it again")):
        config.write_text(contract(text, theirs))
        with (
            running(served, grpc_port=0) as server,
            SapiensClient(server.grpc_url) as client,
        ):
            for ask in (client.models, lambda client=client: client.depth(photo)):
                with pytest.raises(ModelNotServedError, match=f"contract 1, .*got {theirs}; {advice}"):
                    ask()


def contract(config, number):
    head, _, tail = config.partition('key: "contract"')
    return head + 'key: "contract"' + tail.replace('"1"', f'"{number}"', 1)


def test_waiting_ends_when_a_server_is_there(depth_repository):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with SapiensClient(f"localhost:{port}") as client:
        assert not client.ready()
        waiting = threading.Thread(target=client.wait_until_ready, kwargs={"timeout_s": 60})
        waiting.start()
        time.sleep(0.5)
        assert waiting.is_alive()
        with running(depth_repository, grpc_port=port):
            waiting.join()
            assert client.ready()


def test_waiting_in_vain_tells_what_the_last_answer_was():
    with FakeServer() as server, SapiensClient(server.url) as client:
        server.drain()
        with pytest.raises(RequestTimeoutError, match=r"must be ready within 0\.6 s, but: .*exiting"):
            client.wait_until_ready(timeout_s=0.6)


def test_waiting_for_what_does_not_change_ends_at_once(depth_repository):
    options = ServerOptions(arguments=("--grpc-restricted-protocol=inference:authorization=Bearer x",))
    with running(depth_repository, grpc_port=0, options=options) as server:
        client = SapiensClient(server.grpc_url, token="other")
        client.wait_until_ready()
        with pytest.raises(AuthenticationError):
            client.depth(b"image")
        client.close()
        with pytest.raises(ClientClosedError):
            client.wait_until_ready()
