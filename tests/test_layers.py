"""Who may import whom."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ARRAYS = {"numpy", "cv2"}
COMMAND_LINE = {"typer", "rich"}

# The longest matching row counts. The standard library is free to all, heavy imports stand in one module.
ALLOWED = {
    "core/sapiens_core": {"sapiens_core", *ARRAYS},
    "core/sapiens_core/families.py": set(),
    "core/sapiens_core/model_folders.py": set(),
    "core/sapiens_core/tasks.py": set(),
    "core/sapiens_core/limits.py": set(),
    "core/sapiens_core/labels.py": set(),
    "core/sapiens_core/tolerances.py": {"sapiens_core"},
    "core/sapiens_core/model_info.py": {"sapiens_core"},
    "core/sapiens_core/step_settings.py": {"sapiens_core"},
    "core/sapiens_core/preprocess.py": {"sapiens_core", "PIL", *ARRAYS},
    "core/sapiens_core/image_header.py": {"sapiens_core", "PIL", "numpy"},
    "core/sapiens_core/pil_pixels.py": {"sapiens_core", "PIL", "numpy"},
    "core/sapiens_core/tiff.py": {"sapiens_core", "PIL", "numpy"},
    "core/sapiens_core/triton_backend.py": {"sapiens_core", "triton_python_backend_utils", *ARRAYS},
    "core/sapiens_core/torchscript_engine.py": {"sapiens_core", "triton_python_backend_utils", "torch"},
    "client/sapiens_client": {"sapiens_client", "sapiens_core", "numpy", "PIL"},
    "client/sapiens_client/conversion.py": {"sapiens_client", "sapiens_core", "numpy", "PIL", "pillow_heif"},
    "client/sapiens_client/transport": {"sapiens_client", "sapiens_core", "numpy", "tritonclient", "grpc"},
    "client/sapiens_client/progress.py": {"rich"},
    "client/sapiens_client/cli_connection.py": {"sapiens_client", "typer"},
    "client/sapiens_client/cli_models.py": {"sapiens_client", *COMMAND_LINE},
    "client/sapiens_client/cli_streams.py": {"typer"},
    "client/sapiens_client/cli_run.py": {"sapiens_client", "sapiens_core", "typer"},
    "client/sapiens_client/testing": {"sapiens_client", "sapiens_core", "numpy"},
    "client/sapiens_client/testing/checks.py": {"sapiens_client", "sapiens_core", "numpy", "tritonclient"},
    "client/sapiens_client/testing/faults.py": {"sapiens_core", "grpc"},
    "client/sapiens_client/testing/messages.py": {"sapiens_client", "sapiens_core", "numpy", "tritonclient"},
    "client/sapiens_client/testing/models.py": {"sapiens_core"},
    "client/sapiens_client/testing/server.py": {"sapiens_client", "sapiens_core", "grpc"},
    "client/sapiens_client/testing/service.py": {"sapiens_client", "grpc", "tritonclient"},
    "client/sapiens_client/testing/traffic.py": {"sapiens_client", "grpc"},
    "client/sapiens_client/cli.py": {
        "sapiens_client",
        "sapiens_core",
        "sapiens_export",
        "sapiens_server",
        *COMMAND_LINE,
    },
    "export/sapiens_export": {"sapiens_export", "sapiens_core", "torch", *ARRAYS},
    "export/sapiens_export/networks/detectors.py": {
        "sapiens_export",
        "sapiens_core",
        "torch",
        "transformers",
    },
    "export/sapiens_export/cli_weights.py": {"sapiens_export", "sapiens_core", *COMMAND_LINE},
    "export/sapiens_export/disk.py": {"sapiens_export", "sapiens_core", "rich", "numpy"},
    "export/sapiens_export/plan.py": {"sapiens_export", "sapiens_core", "rich"},
    "export/sapiens_export/cli_ends.py": COMMAND_LINE,
    "export/sapiens_export/cli_verify.py": {"sapiens_export", "sapiens_core", *COMMAND_LINE},
    "export/sapiens_export/cli.py": {"sapiens_export", "sapiens_core", *COMMAND_LINE},
    "export/sapiens_export/to_onnx.py": {"sapiens_export", "sapiens_core", "torch", "onnxruntime", *ARRAYS},
    "export/sapiens_export/to_tensorrt.py": {
        "sapiens_export",
        "sapiens_core",
        "torch",
        "onnx",
        "tensorrt",
        *ARRAYS,
    },
    "export/sapiens_export/cli_zoo.py": {"sapiens_export", "sapiens_core", "huggingface_hub", *COMMAND_LINE},
    "export/sapiens_export/zoo.py": {"sapiens_core"},
    "export/sapiens_export/licences.py": set(),
    "export/sapiens_export/hub.py": {"sapiens_export", "huggingface_hub"},
    "export/sapiens_export/official.py": {"sapiens_export", "sapiens_core"},
    "export/sapiens_export/checkpoints.py": {"sapiens_export", "sapiens_core", "torch", "safetensors"},
    "export/sapiens_export/model_config.py": {"sapiens_export", "sapiens_core", "tritonclient", "google"},
    "export/sapiens_export/serving.py": {"yaml"},
    "server/sapiens_server": {"sapiens_server", "sapiens_core", "grpc"},
    "server/sapiens_server/cli.py": {"sapiens_server", *COMMAND_LINE},
    "model_repository": {"sapiens_core", "numpy"},
    "training": {"training", "sapiens_core", "sapiens_export", "torch", *ARRAYS},
    "training/figures.py": {"sapiens_core", "anny", "roma", "torch", "numpy"},
    "training/judges.py": {"training", *ARRAYS},
    "training/raster.py": {"numba", "numpy"},
    "training/write_networks.py": {
        "training",
        "sapiens_core",
        "sapiens_export",
        "torch",
        "safetensors",
        "numpy",
    },
}


def sources():
    folders = ("core", "client", "export", "server", "model_repository", "training")
    return [path.relative_to(ROOT) for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def imported_packages(path):
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", sources(), ids=str)
def test_imports_keep_to_the_layers(path):
    row = max((row for row in ALLOWED if str(path).startswith(row)), key=len)
    foreign = set(imported_packages(path)) - ALLOWED[row] - set(sys.stdlib_module_names)
    assert not foreign, f"{path} imports {sorted(foreign)}; row {row!r} of ALLOWED does not list it"


@pytest.mark.parametrize("path", sorted((ROOT / "model_repository").glob("*/1/*.py")), ids=str)
def test_adapters_are_thin(path):
    assert len(path.read_text().splitlines()) <= 30
