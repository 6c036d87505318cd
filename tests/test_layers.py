"""Who may import whom."""

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ARRAYS = {"numpy", "cv2"}
COMMAND_LINE = {"typer", "rich"}
FRAMES = {"pandas", "supervision"}  # by name in annotations; loaded when asked for
EXPORT = {"sapiens_core", "sapiens_export"}

# The longest matching row counts. The standard library is free to all, heavy imports stand in one module.
ALLOWED = {
    "core/sapiens_core": {"sapiens_core", *ARRAYS},
    "core/sapiens_core/contract": {"sapiens_core"},
    "core/sapiens_core/finish/in_torch.py": {"sapiens_core", "torch", "numpy"},
    "core/sapiens_core/images": {"sapiens_core", "PIL", *ARRAYS},
    "core/sapiens_core/labels.py": set(),
    "core/sapiens_core/prepare": {"sapiens_core", "PIL", *ARRAYS},
    "core/sapiens_core/recipes": {"sapiens_core"},
    "core/sapiens_core/triton/module.py": {"sapiens_core", "torch"},
    "core/sapiens_core/triton/package.py": {"torch"},
    "core/sapiens_core/triton/engine.py": {"sapiens_core", "triton_python_backend_utils", "torch"},
    "core/sapiens_core/triton/torch_finish.py": {"sapiens_core", "torch", "numpy"},
    "core/sapiens_core/triton/figures.py": {"sapiens_core", "triton_python_backend_utils"},
    "core/sapiens_core/triton/respond.py": {"sapiens_core", "triton_python_backend_utils", *ARRAYS},
    "client/sapiens_client": {"sapiens_client", "sapiens_core", "numpy", "PIL"},
    "client/sapiens_client/bulk/progress.py": {"rich"},
    "client/sapiens_client/cli": {"sapiens_client", "sapiens_core", *COMMAND_LINE},
    "client/sapiens_client/cli/video_files.py": {"sapiens_client", "sapiens_core", "numpy"},
    "client/sapiens_client/cli/video_lines.py": {"sapiens_client", "numpy", "pyarrow"},
    "client/sapiens_client/cli/main.py": {"sapiens_client", *COMMAND_LINE},
    "client/sapiens_client/results": {"sapiens_client", "sapiens_core", "numpy", "PIL", *FRAMES},
    "client/sapiens_client/tasks/conversion.py": {
        "sapiens_core",
        "sapiens_client",
        "numpy",
        "PIL",
        "pillow_heif",
    },
    "client/sapiens_client/testing": {"sapiens_client", "sapiens_core", "numpy", "grpc", "tritonclient"},
    "client/sapiens_client/tracing.py": {"sapiens_client", "opentelemetry"},
    "client/sapiens_client/video": {"sapiens_client", "sapiens_core", "numpy", "PIL", "av"},
    "client/sapiens_client/wire": {"sapiens_client", "sapiens_core", "numpy", "tritonclient", "grpc"},
    "demo/sapiens_demo": {"sapiens_demo", "sapiens_client", "sapiens_core", "numpy", "PIL"},
    "demo/sapiens_demo/command.py": {"sapiens_demo", "sapiens_client", *COMMAND_LINE},
    "demo/sapiens_demo/own_server.py": {"sapiens_client", "sapiens_server"},
    "demo/sapiens_demo/page.py": {"sapiens_demo", "sapiens_client", "sapiens_core", "gradio"},
    "export/sapiens_export": {"sapiens_export", "sapiens_core", "torch", *ARRAYS},
    "export/sapiens_export/commands": {"sapiens_export", "sapiens_core", "huggingface_hub", *COMMAND_LINE},
    "export/sapiens_export/commands/verify.py": {*EXPORT, "sapiens_server", *COMMAND_LINE},
    "export/sapiens_export/commands/up.py": {*EXPORT, "sapiens_server", "platformdirs", *COMMAND_LINE},
    "export/sapiens_export/disk.py": {"sapiens_export", "sapiens_core", "rich", "numpy"},
    "export/sapiens_export/documents.py": {"pydantic", "pydantic_core"},
    "export/sapiens_export/engines/onnx.py": {*EXPORT, "torch", "onnxruntime", *ARRAYS},
    "export/sapiens_export/engines/tensorrt.py": {
        *EXPORT,
        "torch",
        "onnx",
        "tensorrt",
        "polygraphy",
        "platformdirs",
        *ARRAYS,
    },
    "export/sapiens_export/networks/detectors.py": {*EXPORT, "torch", "transformers"},
    "export/sapiens_export/networks/sapiens2.py": {*EXPORT, "torch", "transformers"},
    "export/sapiens_export/repository": {*EXPORT, "tritonclient", "google", "yaml"},
    "export/sapiens_export/weights": {*EXPORT, "torch", "safetensors", "huggingface_hub"},
    "export/sapiens_export/weights/licences.py": {*EXPORT, "platformdirs"},
    "export/sapiens_export/weights/detectors.py": {
        *EXPORT,
        "torch",
        "transformers",
        "huggingface_hub",
        "yaml",
    },
    "server/sapiens_server": {"sapiens_server", "sapiens_core", "grpc"},
    "server/sapiens_server/cli.py": {"sapiens_server", "sapiens_core", *COMMAND_LINE},
    "server/sapiens_server/options.py": {"sapiens_server", "sapiens_core", *COMMAND_LINE},
    "server/sapiens_server/doctor/command.py": {"sapiens_server", "sapiens_core", *COMMAND_LINE},
    "model_repository": {"sapiens_core"},
    "training": {"training", *EXPORT, "torch", *ARRAYS},
    "training/figures.py": {"sapiens_core", "anny", "roma", "torch", "numpy"},
    "training/judges.py": {"training", *ARRAYS},
    "training/raster.py": {"numba", "numpy"},
    "training/train.py": {"training", *EXPORT, "torch", "safetensors", *ARRAYS},
    "training/write_networks.py": {"training", *EXPORT, "torch", "safetensors", "numpy"},
}

# Which rooms of a package may import which: nothing imports upwards.
_CORE = (
    *("option_groups", "processors", "labels", "contract", "recipes", "images", "prepare", "finish"),
    *("surfaces", "motion", "pictures", "people", "triton"),
)
_CLIENT = (
    *("errors", "version", "deadline", "background", "steps", "tracing"),
    *("results", "connection", "wire", "shared", "servers", "tasks", "bulk", "video"),
    *(
        "client_base",
        "client_maps",
        "client_video",
        "client",
        "async_client",
        "public",
        "__init__",
        "tensors",
        "cli",
        "testing",
    ),
)
_DEMO = ("figures", "reliefs", "answers", "clips", "page", "own_server", "command")
ROOMS = {
    "core/sapiens_core": {room: set(_CORE[:floor]) for floor, room in enumerate(_CORE)},
    "client/sapiens_client": {room: set(_CLIENT[:floor]) for floor, room in enumerate(_CLIENT)},
    "demo/sapiens_demo": {room: set(_DEMO[:floor]) for floor, room in enumerate(_DEMO)},
    "export/sapiens_export": {
        "disk": set(),
        "documents": set(),
        "networks": {"documents"},
        "weights": {"disk", "networks"},
        "engines": {"networks"},
        "repository": {"documents", "networks"},
        "parity": {"networks", "weights", "engines", "repository"},
        "candidates": {"engines", "repository", "parity"},
        "exporter": {"disk", "networks", "weights", "engines", "repository", "candidates", "parity"},
        "engine_store": {"repository"},
        "capacity": {"networks", "engines"},
        "commands": {
            "capacity",
            *("disk", "networks", "weights", "engines", "repository", "parity", "exporter", "engine_store"),
        },
    },
}


PACKAGES = (*ROOMS, "server/sapiens_server")


def sources():
    folders = ("core", "client", "demo", "export", "server", "model_repository", "training")
    return [path.relative_to(ROOT) for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imported_modules(path):
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module


def imported_packages(path):
    return {name.split(".")[0] for name in imported_modules(path)}


@pytest.mark.parametrize("path", sources(), ids=str)
def test_imports_keep_to_the_layers(path):
    row = max((row for row in ALLOWED if str(path).startswith(row)), key=len)
    foreign = imported_packages(path) - ALLOWED[row] - set(sys.stdlib_module_names)
    assert not foreign, f"{path} imports {sorted(foreign)}; row {row!r} of ALLOWED does not list it"


@pytest.mark.parametrize("path", sorted((ROOT / "model_repository").glob("*/1/*.py")), ids=str)
def test_adapters_are_thin(path):
    assert len(path.read_text().splitlines()) <= 5


def in_rooms():
    return [(path, package) for path in sources() for package in ROOMS if path.is_relative_to(package)]


@pytest.mark.parametrize(("path", "package"), in_rooms(), ids=str)
def test_no_room_imports_from_one_above_it(path, package):
    room, name = path.with_suffix("").parts[2], Path(package).name
    modules = [module.split(".") for module in imported_modules(path)]
    above = {parts[1] for parts in modules if parts[0] == name} - ROOMS[package].get(room, set()) - {room}
    assert not above, f"{path} imports {sorted(above)}; ROOMS of {package} does not list it for {room!r}"


def module_names():
    """Return path -> dotted name of all modules but the models', which only Triton loads."""
    modules = {path for path in sources() if path.parts[0] != "model_repository"}
    dotted = {path: ".".join(path.with_suffix("").parts) for path in modules}
    return {
        path: re.sub(r"^(core|client|demo|export|server)\.", "", name).removesuffix(".__init__")
        for path, name in dotted.items()
    }


def test_modules_import_each_other_in_no_circle():
    names = module_names()

    def imported(path):
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            if isinstance(node, ast.ImportFrom):
                yield from (node.module, *(f"{node.module}.{each.name}" for each in node.names))
            elif isinstance(node, ast.Import):
                yield from (each.name for each in node.names)

    known = set(names.values())
    graph = {name: known.intersection(imported(path)) - {name} for path, name in names.items()}
    assert {name.split(".")[0] for name in graph} == {*(Path(each).name for each in PACKAGES), "training"}
    assert sum(map(len, graph.values())) > len(graph)
    TopologicalSorter(graph).prepare()
