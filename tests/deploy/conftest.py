"""One `sapiens serve` with real models, and a Prometheus that scrapes it and its server."""

from __future__ import annotations

import shutil
import sysconfig
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from containers import FOLDER, product_image, run, unable
from live import Prometheus, Served, scraping, serving
from programs import lacking

from sapiens_export.exporter import EngineOptions, export_engine
from sapiens_export.weights.sources import built_in_detector, source_from_seed

NOT_RUN = pytest.StashKey[dict[str, str]]()


def _kubectl() -> str:
    """Debian's is too old to know what the files use."""
    return "" if shutil.which("kubectl") else "kubectl is not on PATH"


_HEADERS = ("/usr/include/grpcpp/grpcpp.h", "/usr/include/google/protobuf/message.h")
_GRPC_DEV = ("protobuf-compiler-grpc", "libgrpc++-dev", "libprotobuf-dev")
_languages = partial(
    lacking,
    ("node", "chromium", "g++", "make", "pkg-config", "protoc", "grpc_cpp_plugin", *_HEADERS),
    ("nodejs", "chromium", "g++", "make", "pkg-config", *_GRPC_DEV),
)
_prometheus = partial(lacking, ("prometheus", "promtool"), ("prometheus",))
_LIBRARIES = Path("/usr/lib", sysconfig.get_config_var("MULTIARCH") or "")
_camera = partial(
    lacking,
    (
        "/usr/lib/python3/dist-packages/gi/__init__.py",
        f"{_LIBRARIES}/girepository-1.0/GstRtspServer-1.0.typelib",
        f"{_LIBRARIES}/gstreamer-1.0/libgstapp.so",
        f"{_LIBRARIES}/gstreamer-1.0/libgstrtp.so",
    ),
    ("python3-gi", "gir1.2-gst-rtsp-server-1.0", "gstreamer1.0-plugins-base", "gstreamer1.0-plugins-good"),
)

# What files need of the machine: a function that says what it lacks.
NEEDS = {
    "test_aoti": partial(lacking, ("g++",), ("g++",)),
    "test_balancers": partial(lacking, ("haproxy",), ("haproxy",)),
    "test_compose_run": unable,
    "test_dashboard": _prometheus,
    "test_fleet": partial(lacking, ("haproxy",), ("haproxy",)),
    "test_image": unable,
    "test_kustomize": _kubectl,
    "test_load_signal": _prometheus,
    "test_other_languages": _languages,
    "test_page": partial(lacking, ("chromium",), ("chromium",)),
    "test_rtsp": _camera,
    "test_rules": _prometheus,
}


def pytest_collection_modifyitems(config, items):
    """Leave out what this machine cannot run: it is told at the end, and the run has failed."""
    asked = {item.path.stem for item in items} & {*NEEDS}
    config.stash[NOT_RUN] = {name: why for name in sorted(asked) if (why := NEEDS[name]())}
    left_out = [item for item in items if item.path.stem in config.stash[NOT_RUN]]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in left_out]


def pytest_terminal_summary(terminalreporter, config):
    for name, why in config.stash.get(NOT_RUN, {}).items():
        terminalreporter.write_line(f"NOT RUN, as this machine cannot: {name}: {why}", red=True, bold=True)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    if exitstatus == pytest.ExitCode.OK and session.config.stash.get(NOT_RUN, {}):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def image() -> str:
    """The product's image, on a stand-in for NVIDIA's."""
    return product_image()


@pytest.fixture
def volume(image) -> Iterator[str]:
    name = f"sapiens-cache-{FOLDER.stat().st_ino}"
    yield name
    run("podman", "volume", "rm", "--force", name)


@pytest.fixture(scope="session")
def repository(golden_networks, tmp_path_factory) -> Path:
    """Untrained tiny networks for depth and pose, and the detector: so there is `people_pose`, too."""
    folder = tmp_path_factory.mktemp("deploy") / "models"
    for name in ("depth", "pose17"):
        export_engine(source_from_seed(golden_networks[name], 0), folder, EngineOptions())
    export_engine(built_in_detector(), folder)
    return folder


@pytest.fixture(scope="session")
def served(repository, tmp_path_factory) -> Iterator[Served]:
    with serving(repository, tmp_path_factory.mktemp("log")) as one:
        yield one


@pytest.fixture(scope="session")
def prometheus(served, tmp_path_factory) -> Iterator[Prometheus]:
    with scraping(served, tmp_path_factory.mktemp("prometheus")) as running:
        yield running
