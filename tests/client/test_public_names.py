from __future__ import annotations

import inspect
import subprocess
import sys
from importlib.metadata import version

import pytest

import sapiens_client
from sapiens_client import SapiensError, errors

ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if kind is not SapiensError]


def test_public_names_exist():
    assert all(hasattr(sapiens_client, name) for name in sapiens_client.__all__)


def test_types_that_callers_write_down_are_public():
    results = ("CocoDetection", "CocoKeypoints", "CocoSegmentation", "Rle", "ClassSet", "KeypointSet")
    arguments = (
        "Boxes",
        "Compression",
        "ImageId",
        "ImageLike",
        "MapOptions",
        "Output",
        "Pem",
        "TaskName",
        "Token",
    )
    assert {*results, *arguments} <= {*sapiens_client.__all__}


def test_the_package_tells_its_version_and_no_name_that_there_is_not():
    assert sapiens_client.__version__ == version("sapiens-triton")
    with pytest.raises(AttributeError, match="no attribute 'SapiensClent'"):
        _ = sapiens_client.SapiensClent


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_is_public_and_also_a_builtin_one(kind):
    assert kind.__name__ in sapiens_client.__all__
    assert issubclass(kind, SapiensError)
    builtin = (ValueError, OSError, LookupError, RuntimeError)
    assert issubclass(kind, builtin)


@pytest.mark.parametrize("kind", ERRORS)
def test_the_tree_in_the_docstring_names_every_error_with_its_builtin(kind):
    line = next(line for line in errors.__doc__.splitlines() if f" {kind.__name__} " in line)
    builtin = __builtins__[line.split(kind.__name__)[1].split()[0]]
    assert issubclass(kind, builtin)


def test_importing_the_clients_loads_neither_grpc_nor_image_libraries_nor_http():
    program = (
        "import sys; from sapiens_client import AsyncSapiensClient, SapiensClient; "
        "print(*{'grpc', 'tritonclient', 'PIL', 'cv2', 'av', 'http.client'} & set(sys.modules))"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []
