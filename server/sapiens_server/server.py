"""A tritonserver that neither outlives this process nor leaves anything behind."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from sapiens_core.contract.folders import ModelFolders
from sapiens_core.contract.limits import LIMITS, MAX_PIXELS_VARIABLE, checked_max_pixels
from sapiens_server.addresses import Addresses, free_addresses, is_loopback
from sapiens_server.engines import check_engines
from sapiens_server.errors import AddressError, RepositoryError, ServerDiedError, ServerStartError
from sapiens_server.installation import CONTAINER, NEWER_CONTAINER, Installation, find_tritonserver, too_old
from sapiens_server.launch import launch, shell_safe
from sapiens_server.leftovers import Claim, claimed_name, hide_regions, remove_when_dead, sweep
from sapiens_server.loading import Loading
from sapiens_server.repository import ModelControl, checked_folders, interrupted, left_out, models_alone
from sapiens_server.server_log import ServerLog, failure_reasons
from sapiens_server.shared_memory import need_of, shortage
from sapiens_server.stubs import StubWatch

OnLog = Callable[[str], object]

_EXIT_TIMEOUT_S = 20
_KILLED_TIMEOUT_S = 5.0
_POLL_S = 0.05
_LAST_LINES = 10
_STORAGE = re.compile("(s3|gs|as)://")
# Without its consent tritonserver cuts connections whose client pings to find out whether it hangs; the SDK
# pings every 10 s.
_CONSENT_TO_PINGS = "--grpc-http2-min-recv-ping-interval-without-data=5000"
# Of messages it keeps eight for reuse, each as large as the largest it ever had: without that it is as fast.
_KEEP_NO_MESSAGES = "--grpc-infer-allocation-pool-size=0"
_LISTENING = "Started GRPCInferenceService"  # what it writes once all models are loaded
# What to do about a failure, by a part of the server's words for it.
_ADVICE = {
    "unable to find backend library for backend": (
        f"this tritonserver lacks the runtime: {CONTAINER}, or export with --runtime python"
    ),
    "file-system not supported": (
        f"this tritonserver cannot read such storage: {CONTAINER}, or copy the models into a folder"
    ),
}


@dataclass(frozen=True)
class ServerOptions:
    """The rarer choices about a server.

    Attributes:
        model_control: Load every model at start ("none"), only when a client asks ("explicit"), or follow the
            folder's changes ("poll"). Clients that may load models may run code on the server.
        startup_timeout_s: How long loading may go on without a sign of work: large engines take minutes.
        expose_bundled: Let the bundled server listen beyond loopback, although one request can crash it.
        arguments: More of tritonserver's command line, e.g. ("--grpc-use-ssl=true", ...); of a flag that is
            given twice the later one counts. Whoever may list processes can read it.
        max_image_pixels: Images of more are refused; None: of more than SAPIENS_MAX_IMAGE_PIXELS says, and
            without that than 2**26.
    """

    model_control: ModelControl = "none"
    startup_timeout_s: float = 120.0
    expose_bundled: bool = False
    arguments: tuple[str, ...] = ()
    max_image_pixels: int | None = None


_DEFAULTS = ServerOptions()


class RunningServer:
    """A tritonserver that is ready; `serve` starts it, `stop` or the end of its `with` block ends it.

    Attributes:
        grpc_url: Address of the gRPC service, "host:port".
        http_url: Address of the HTTP service, or None.
        metrics_url: Address of the metrics, or None.
        models: Names of the models that it loaded at start; none in model control "explicit", and none from
            object storage, which only the server reads.
        pid: Process id of tritonserver, which is also that of its process group.
    """

    def __init__(
        self,
        process: subprocess.Popen[str],
        claim: Claim,
        addresses: Addresses,
        models: tuple[str, ...],
        on_log: OnLog | None,
    ) -> None:
        self.grpc_url = addresses.grpc
        self.http_url = addresses.http
        self.metrics_url = addresses.metrics
        self.models = models
        self.pid = process.pid
        self._process = process
        self._claim = claim
        self._log = ServerLog(process.stdout or io.StringIO(), on_log)
        self._stubs = StubWatch(process.pid)
        self._stop_requested = threading.Event()
        self._ending = threading.RLock()

    def log(self) -> str:
        """Return what the server has written, at most its last 2,000 lines."""
        return "\n".join(self._log.lines())

    def stop(self) -> None:
        """Let the server finish its requests and end, about three seconds; then remove what it leaves.

        An exception meanwhile, such as that of a Ctrl-C, kills it at once. Stopping again does nothing.
        """
        self._stop_requested.set()
        with self._ending:
            try:
                if not self._has_ended():
                    os.kill(self.pid, signal.SIGTERM)
                deadline = time.monotonic() + _EXIT_TIMEOUT_S + _KILLED_TIMEOUT_S
                while not self._has_ended() and time.monotonic() < deadline:
                    time.sleep(_POLL_S)
            finally:
                self._end()

    def kill(self) -> None:
        """End the server at once, with all requests that it has; remove what it leaves."""
        self._stop_requested.set()
        self._end()

    def look(self) -> set[str]:
        """Return the model files of Python models whose processes have died; the server does not mention it.

        Raises:
            ServerDiedError: The server ended by itself.
        """
        if self._has_ended():
            self._end()
            raise ServerDiedError(
                f"tritonserver must run until it is stopped, but ended with {self._exit_status()}; "
                f"start it again; its last lines:\n{self._last_lines()}"
            )
        return self._stubs.dead_models()

    def hide_regions(self) -> None:
        """Let no other user read its shared memory; models that were loaded later have new regions."""
        hide_regions(self._claim.prefix)

    def wait(self) -> None:
        """Block until another thread stops the server.

        Puts a line into the log when a Python model's process dies.

        Raises:
            ServerDiedError: The server ended by itself.
        """
        reported: set[str] = set()
        while not self._stop_requested.wait(_POLL_S):
            for model in self.look() - reported:
                reported.add(model)
                self._log.add(
                    f"error: the process of {model} has died, its requests fail; start the server again"
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def _wait_until_ready(self, addresses: Addresses, options: ServerOptions) -> None:
        timeout_s = options.startup_timeout_s
        loading = Loading(self.pid, timeout_s)
        while not self._is_ready(addresses, is_guarded=bool(options.arguments)):
            if self._has_ended():
                self._end()
                raise self._start_error(f", but ended with {self._exit_status()}")
            if dead := self._stubs.dead_models():
                raise self._start_error(f", but waits for processes that died, of {', '.join(sorted(dead))}")
            if loading.has_stalled(self._log.num_lines):
                raise self._start_error(
                    f", but made no progress for {timeout_s:g} s; allow more with --startup-timeout"
                )
            time.sleep(_POLL_S)

    def _is_ready(self, addresses: Addresses, *, is_guarded: bool) -> bool:
        """Ask the server, or read its log where it may want certificates or tokens of whoever asks."""
        if is_guarded:
            return any(_LISTENING in line for line in self._log.lines())
        return addresses.are_ready(self._claim.prefix)

    def _start_error(self, what: str) -> ServerStartError:
        reasons = "; ".join(failure_reasons(self._log.lines()))
        advice = next(
            (advice for text, advice in _ADVICE.items() if text in reasons), "correct what is named there"
        )
        why = f": {reasons}; {advice}" if reasons else f"; its last lines:\n{self._last_lines()}"
        return ServerStartError(f"tritonserver must become ready{what}{why}")

    def _has_ended(self) -> bool:
        """Look without collecting the process: until then no other process can get its id."""
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            return True

    def _end(self) -> None:
        """Kill whatever lives in the process group and remove what the server leaves."""
        with self._ending:
            if self._process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(self.pid, signal.SIGKILL)
                self._process.wait()
            self._log.finish(timeout_s=_KILLED_TIMEOUT_S)
            remove_when_dead(self._claim, timeout_s=_KILLED_TIMEOUT_S)

    def _exit_status(self) -> str:
        code = self._process.returncode
        return f"exit status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

    def _last_lines(self) -> str:
        return "\n".join(self._log.lines()[-_LAST_LINES:])


def serve(
    repository: str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    grpc_port: int = 8001,
    http_port: int | None = None,
    metrics_port: int | None = None,
    on_log: OnLog | None = None,
    options: ServerOptions = _DEFAULTS,
) -> RunningServer:
    """Start tritonserver on a model repository and return once all models answer.

    The server ends with the thread that calls this, so call it from one that lives as long as it shall.

    Args:
        repository: Folder of models, as `sapiens export` writes it, or address of its copy in object storage
            (s3://, gs://, as://), for which tritonserver finds credentials in the environment.
        host: IPv4 address or name to listen on. The bundled server refuses all but loopback.
        grpc_port: Port of the gRPC service; 0: any free one, here and below.
        http_port: Port of the HTTP service; None: no HTTP.
        metrics_port: Port of the Prometheus metrics; None: no metrics.
        on_log: Called with each line of the server's output, on another thread; should return soon.
        options: The rarer choices.

    Returns:
        The server; a context manager that stops it.

    Raises:
        RepositoryError: The folder does not exist or holds no model.
        ServerNotFoundError: No tritonserver, or it cannot run here.
        EngineError: The server at hand cannot run an engine of the repository.
        AddressError: The address cannot or must not be served; for a taken port it is a PortInUseError.
        ServerStartError: A model failed to load, or loading stood still for too long.
        ValueError: `max_image_pixels` is not from 1 to 2**26.
    """
    max_pixels = _max_pixels(options)
    location, folders = _found(repository, options.model_control)
    installation = find_tritonserver()
    if installation.wheel and not is_loopback(host) and not options.expose_bundled:
        raise AddressError(
            f"the bundled tritonserver must listen on loopback, got host {host!r}: one request can crash it; "
            f"{CONTAINER} to serve other machines, or insist with --expose-bundled"
        )
    unseen: tuple[str, ...] = ()
    if isinstance(location, Path) and options.model_control != "explicit":
        unseen = check_engines(location, folders.models, installation, options.arguments)
    addresses = free_addresses(host, grpc_port, http_port, metrics_port)
    sweep()
    with claimed_name() as claim:
        arguments = [
            f"--model-repository={_argument(location, folders, claim, options.model_control)}",
            f"--model-control-mode={options.model_control}",
            "--disable-auto-complete-config",
            f"--id={claim.prefix}",
            f"--exit-timeout-secs={_EXIT_TIMEOUT_S}",
            f"--backend-config=python,shm-region-prefix-name={claim.prefix}",
            _CONSENT_TO_PINGS,
            _KEEP_NO_MESSAGES,
            *addresses.arguments(),
            *options.arguments,
        ]
        process = launch(installation, arguments, claim, {MAX_PIXELS_VARIABLE: str(max_pixels)})
    loaded = () if options.model_control == "explicit" else folders.models
    server = RunningServer(process, claim, addresses, loaded, on_log)
    try:
        for warning in filter(None, (*unseen, *_warnings(installation, location, folders, max_pixels))):
            server._log.add(warning)
        server._wait_until_ready(addresses, options)
        server.hide_regions()
    except BaseException:
        server._end()
        raise
    return server


def _max_pixels(options: ServerOptions) -> int:
    chosen = options.max_image_pixels
    default = os.environ.get(MAX_PIXELS_VARIABLE, str(LIMITS.max_image_pixels))
    return checked_max_pixels(default if chosen is None else str(chosen))


def _warnings(
    installation: Installation, location: str | Path, folders: ModelFolders, max_pixels: int
) -> Iterator[str]:
    if words := too_old(installation):
        yield f"warning: {words}; {NEWER_CONTAINER}"
    yield left_out(location, folders)
    if isinstance(location, Path):
        yield interrupted(location)
        yield shortage(need_of(location, folders.models), max_pixels)
    if max_pixels < LIMITS.max_image_pixels:
        yield f"note: images of more than {max_pixels} pixels are refused"


def _found(
    repository: str | os.PathLike[str], model_control: ModelControl
) -> tuple[str | Path, ModelFolders]:
    """Return where the models are, and what is there, unless only the server can read it."""
    if isinstance(repository, str) and _STORAGE.match(repository):
        return repository, ModelFolders((), (), ())
    if not str(repository).strip():  # which pathlib takes for the working directory
        raise RepositoryError(
            f"a model repository must have a name, got {str(repository)!r}; is a variable not set?"
        )
    folder = Path(repository).absolute()
    return folder, checked_folders(folder, model_control)


def _argument(
    location: str | Path, folders: ModelFolders, claim: Claim, model_control: ModelControl
) -> str | Path:
    if isinstance(location, str):
        return location
    return shell_safe(models_alone(location, folders, claim.folder, model_control), claim.folder)
