"""What operators do to `sapiens serve`: they load a model again, or give it too little shared memory."""

from __future__ import annotations

import shutil
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import tritonclient.grpc as triton
from figures import Figure, at_most, exactly, told
from load import Load, Sizes
from servers import STAND_IN
from supervised import Command, commands, seconds_until
from tritonclient.utils import InferenceServerException

from sapiens_client import SapiensClient

_KEY = "a-word"
_HEADERS = {"triton-grpc-protocol-admin-key": _KEY}
_BROKEN = "this is no Python\n"
_SMALL_MB = 24
_SMALL = (
    "unshare",
    "--mount",
    "sh",
    "-c",
    f'mount -t tmpfs -o size={_SMALL_MB}m tmpfs /dev/shm && exec "$0" "$@"',
)
_LARGE_BYTES = 4_000_000  # which the small one cannot take


def reload(sizes: Sizes) -> list[Figure]:
    """Load a model anew under load, then a version of it that cannot be loaded."""
    with tempfile.TemporaryDirectory() as folder:
        models, key = Path(folder, "models"), Path(folder, "key")
        shutil.copytree(STAND_IN, models)
        key.write_text(_KEY)
        options = ("--model-control", "explicit", "--admin-key-file", str(key))
        with commands(1, *options, repository=models) as (command,):
            _load(command)
            with SapiensClient(command.grpc_url) as client, Load(client, sizes.num_callers) as load:
                load.until(sizes.event_s)
                with _Readiness(command) as readiness:
                    (models / "depth" / "1" / "model.py").touch()
                    began_s = load.now_s()
                    _load(command)
                    took_s = load.now_s() - began_s
                    load.until(load.now_s() + sizes.event_s)
                    shutil.copytree(models / "depth" / "1", models / "depth" / "2")
                    (models / "depth" / "2" / "model.py").write_text(_BROKEN)
                    refusal = _refusal(command)
                    load.until(max(sizes.seconds, load.now_s() + 2 * sizes.event_s))
        return [
            told("calls", len(load.calls)),
            exactly("failed calls", sum(bool(call.failure) for call in load.calls), 0),
            told("requests sent at most for one call", max(call.attempts for call in load.calls)),
            told("the model was loaded anew in", took_s, "s"),
            exactly("the broken version is refused", bool(refusal), True),
            exactly("probes of /ready that said no", readiness.num_unready, 0),
            *(Figure("failure", failure) for failure in sorted({call.failure for call in load.calls} - {""})),
        ]


def _load(command: Command) -> None:
    with triton.InferenceServerClient(command.grpc_url) as client:
        client.load_model("depth", headers=_HEADERS)


def _refusal(command: Command) -> str:
    try:
        _load(command)
    except InferenceServerException as error:
        return str(error)
    return ""


class _Readiness:
    """Asks /ready again and again during the `with` block, as balancers do."""

    def __init__(self, command: Command) -> None:
        self.num_unready = 0
        self._command = command
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._probe)

    def __enter__(self) -> _Readiness:
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _probe(self) -> None:
        while not self._is_over.wait(0.25):
            self.num_unready += not self._command.is_ready()


def exhausted(sizes: Sizes) -> list[Figure]:
    """Something fills the /dev/shm of one of two servers before the first large images. Needs root."""
    with ExitStack() as stack:
        (small,) = stack.enter_context(commands(1, before=_SMALL))
        (other,) = stack.enter_context(commands(1))
        filler = Path(f"/proc/{small.process.pid}/root/dev/shm/filler")
        client = stack.enter_context(SapiensClient([small.grpc_url, other.grpc_url]))
        with suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        with Load(client, sizes.num_callers, num_bytes=_LARGE_BYTES) as load:
            left_s = seconds_until(lambda: not small.is_ready())
            filler.unlink()
            back_s = seconds_until(small.is_ready)
            load.until(load.now_s() + sizes.event_s)
    return [
        at_most("it left rotation after", left_s, 10.0, "s"),
        told("ready again, once there is room, after", back_s, "s"),
        told("calls", len(load.calls)),
        told("failed calls, before it left", sum(bool(call.failure) for call in load.calls)),
    ]
