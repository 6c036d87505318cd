"""Containers without a daemon: buildah builds, podman runs, a folder of this project keeps all."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from socket import create_server

from programs import lacking, say
from real_servers import becomes_true

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "out" / "deploy"
BASE = Path(__file__).parent / "base"
PACKAGES = ("buildah", "podman", "runc", "mmdebstrap")  # of Debian, each with a program of its name
DEBIAN, PYTHON = "bookworm", (3, 11)
DEBIAN_PACKAGES = "python3,python3-pip,libpython3.11"
SHARED_MEMORY = Path("/dev/shm")
PATIENCE_S = 300.0
_LIMIT_S = 900.0  # for one command, on a machine with much else to do
IMAGE = "localhost/sapiens-triton:test"
_DEBIAN_IMAGE = "localhost/debian:test"

# Limits that nobody may raise, a runtime that knows both kinds of cgroups, and no file outside of the folder.
# With a static_dir of its own podman 4.3 waits 20 s for the end of every container.
_CONFIGS = {
    "containers.conf": """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
tmp_dir = "{folder}/tmp"
volume_path = "{folder}/volumes"
""",
    "storage.conf": """
[storage]
driver = "{driver}"
runroot = "{folder}/run"
graphroot = "{folder}/graph"
[storage.options]
skip_mount_home = "true"
""",
    "registries.conf": 'unqualified-search-registries = []\nshort-name-mode = "disabled"\n',
    "policy.json": '{{"default": [{{"type": "insecureAcceptAnything"}}]}}\n',
}


class CommandError(RuntimeError):
    """A command has failed; the message has its last words."""


def run(*words: str | Path, **options: object) -> str:
    """Run a command to its end and return what it says on its standard output."""
    try:
        done = subprocess.run(
            words, env=environment(), capture_output=True, text=True, check=False, timeout=_LIMIT_S, **options
        )
    except subprocess.TimeoutExpired as error:
        raise CommandError(f"{' '.join(map(str, words[:3]))} was not over after {_LIMIT_S:g} s") from error
    if done.returncode:
        told = (done.stderr.strip() or done.stdout.strip() or "nothing said").splitlines()[-12:]
        raise CommandError(f"{words[0]} ended with {done.returncode}: " + "\n".join(told))
    return done.stdout.strip()


@functools.cache
def environment() -> dict[str, str]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    driver = "overlay" if "overlay" in Path("/proc/filesystems").read_text() else "vfs"
    for name, text in _CONFIGS.items():
        (FOLDER / name).write_text(text.format(folder=FOLDER, driver=driver))
    return {
        **os.environ,
        "CONTAINERS_CONF": str(FOLDER / "containers.conf"),
        "CONTAINERS_STORAGE_CONF": str(FOLDER / "storage.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(FOLDER / "registries.conf"),
    }


@functools.cache
def unable() -> str:
    """Say why this machine cannot run containers at all, ours or others'; empty: it can."""
    if os.geteuid() != 0:
        return "buildah and podman are run by root here"
    if sys.version_info[:2] != PYTHON:
        return f"wheels for Debian's Python {PYTHON} are wanted, this is {sys.version.split()[0]}"
    try:
        if why := lacking(PACKAGES, PACKAGES):
            return why
        if not _exists(_DEBIAN_IMAGE):
            say(f"making an image of Debian {DEBIAN}")
            _make_debian()
        run("podman", "run", "--rm", "--network=host", _DEBIAN_IMAGE, "true")
    except (CommandError, OSError) as error:
        return str(error)
    return ""


def _exists(image: str) -> bool:
    return bool(run("buildah", "images", "--all", "--format", "{{.ID}}", "--filter", f"reference={image}"))


def _make_debian() -> None:
    is_roomy = SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > 2**31
    fast = SHARED_MEMORY if is_roomy else None  # where each file that dpkg writes need not reach a disk
    with tempfile.TemporaryDirectory(dir=fast) as folder:
        Path(folder).chmod(0o755)
        words = ("mmdebstrap", "--quiet", "--variant=minbase", f"--include={DEBIAN_PACKAGES}", DEBIAN)
        run("env", f"TMPDIR={folder}", *words, Path(folder, "debian.tar"))
        Path(folder, "Dockerfile").write_text("FROM scratch\nADD debian.tar /\n")
        build(Path(folder), Path(folder, "Dockerfile"), _DEBIAN_IMAGE)


def build(context: Path, dockerfile: Path, tag: str, *more: str) -> None:
    options = ("--isolation", "chroot", "--format", "docker", "--network", "host", *more)
    run("buildah", "build", *options, "--file", dockerfile, "--tag", tag, context)


def wheels() -> Path:
    """Return a folder with what the image installs, so that its build needs no network."""
    wanted = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    folder = FOLDER / f"wheels-{hashlib.sha256(b''.join(wanted)).hexdigest()[:12]}"
    if not folder.is_dir():
        say("fetching wheels")
        words = (sys.executable, "-m", "pip", "wheel", "--quiet", "--constraint", ROOT / "constraints.txt")
        with tempfile.TemporaryDirectory(dir=FOLDER) as work:
            run(*words, "--wheel-dir", f"{work}/wheels", f"{ROOT}[opencv,export]", "hatchling>=1.26")
            for own in Path(work, "wheels").glob("sapiens_triton-*"):
                own.unlink()
            Path(work, "wheels").rename(folder)
    return folder


def base_image() -> str:
    """Return the stand-in for NVIDIA's image, built unless it is there."""
    files = [path.read_bytes() for path in sorted(BASE.iterdir())]
    release = version("nvidia-pytriton")
    digest = hashlib.sha256(b"".join([*files, release.encode()])).hexdigest()[:12]
    tag = f"localhost/triton-stand-in:{digest}"
    if not _exists(tag):
        say("building the stand-in for NVIDIA's image")
        with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
            context = Path(folder)
            shutil.copytree(BASE, context, dirs_exist_ok=True)
            (context / "wheels").mkdir()
            for wheel in wheels().glob("numpy-*"):
                shutil.copy2(wheel, context / "wheels")
            _copy_server(context / "tritonserver")
            build(context, context / "Dockerfile", tag, "--build-arg", f"DEBIAN={_DEBIAN_IMAGE}")
    return tag


def _copy_server(target: Path) -> None:
    """Put the server of the wheel where NVIDIA's images have theirs."""
    spec = find_spec("pytriton")
    assert spec is not None
    assert spec.origin is not None
    source = Path(spec.origin).parent / "tritonserver"
    backend = target / "backends" / "python"
    shutil.copytree(source / "bin", target / "bin")
    shutil.copytree(source.parents[1] / "nvidia_pytriton.libs", target / "lib")
    shutil.copytree(source / "backends" / "python", backend)
    shutil.copy2(
        source / "python_backend_stubs" / ".".join(map(str, PYTHON)) / "triton_python_backend_stub", backend
    )
    (target / "TRITON_VERSION").write_text("2.51.0\n")


def product_image() -> str:
    """Build the product's image on the stand-in."""
    base, folder = base_image(), wheels()
    say("building the image")
    arguments = {"BASE": base, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/wheelhouse", "REVISION": "test"}
    given = [word for name, value in arguments.items() for word in ("--build-arg", f"{name}={value}")]
    build(ROOT, ROOT / "docker" / "Dockerfile", IMAGE, "--volume", f"{folder}:/wheelhouse:ro", *given)
    return IMAGE


@dataclass(frozen=True)
class Container:
    """One that runs."""

    name: str
    grpc_url: str

    def python(self, code: str) -> str:
        return run("podman", "exec", self.name, "python3", "-c", code)

    def is_healthy(self) -> bool:
        """Ask what HEALTHCHECK asks, whose own clock wants systemd."""
        try:
            run("podman", "healthcheck", "run", self.name)
        except CommandError:
            return False
        return True

    def logs(self) -> str:
        words = ("podman", "logs", self.name)
        done = subprocess.run(words, env=environment(), capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    def stopped(self) -> tuple[float, int]:
        """Stop it as orchestrators do; return how many seconds it took, and its exit status."""
        start = time.monotonic()
        run("podman", "stop", "--time", "50", self.name)
        return time.monotonic() - start, int(self.inspected("{{.State.ExitCode}}"))

    def namespace(self) -> Path:
        """Return what tells its processes from all others."""
        return Path(f"/proc/{self.inspected('{{.State.Pid}}')}/ns/pid").readlink()

    def inspected(self, template: str) -> str:
        return run("podman", "inspect", "--format", template, self.name)


def num_processes_in(namespace: Path) -> int:
    found = 0
    for link in Path("/proc").glob("[0-9]*/ns/pid"):
        try:
            found += link.readlink() == namespace
        except OSError:
            continue
    return found


def free_ports() -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(create_server(("127.0.0.1", 0))) for _ in range(3)]
        return [each.getsockname()[1] for each in sockets]


def loopback(ports: list[int]) -> dict[str, str]:
    """Where a container that shares the machine's network listens."""
    names = ("SAPIENS_GRPC_PORT", "SAPIENS_METRICS_PORT", "SAPIENS_HEALTH_PORT")
    hosts = {"SAPIENS_HOST": "127.0.0.1", "SAPIENS_HEALTH_HOST": "127.0.0.1"}
    return {**hosts, **dict(zip(names, map(str, ports), strict=True))}


@contextmanager
def container(image: str, *words: str, volume: str) -> Iterator[Container]:
    """Run an image as it is told to be run: no privileges, nothing to write to but the volume and /tmp."""
    ports, name = free_ports(), f"sapiens-{os.getpid()}"
    variables = [word for item in loopback(ports).items() for word in ("--env", "=".join(item))]
    hardened = ("--read-only", "--read-only-tmpfs=false", "--tmpfs=/tmp", "--cap-drop=all")
    no_clock = "--health-interval=disable"  # which takes 20 s to find that there is no systemd
    place = (
        "--network=host",
        "--shm-size=1g",
        f"--volume={volume}:/cache",
        "--security-opt=no-new-privileges",
    )
    run("podman", "run", "--detach", f"--name={name}", no_clock, *hardened, *place, *variables, image, *words)
    try:
        running = Container(name, f"127.0.0.1:{ports[0]}")
        assert becomes_true(running.is_healthy, PATIENCE_S), running.logs()
        yield running
    finally:
        run("podman", "rm", "--force", "--time", "0", name)


def image_config(image: str) -> dict[str, object]:
    (facts,) = json.loads(run("podman", "inspect", image))
    return {**facts["Config"], "HealthCheck": facts.get("Healthcheck")}
