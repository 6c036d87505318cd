"""Network to TorchScript: what the portable engine and Triton's libtorch backend run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from sapiens_core.triton.module import loaded_module
from sapiens_export.engines.engine import engine_from_module

if TYPE_CHECKING:
    from torch import nn

    from sapiens_export.engines.engine import Engine

_SOURCES = ".debug_pkl"  # entries that tell which lines of which files on this machine the code is from
# Copies a pipe to a file, once it has said that it is there. If the file cannot be written, the rest is read
# all the same.
_DRAIN = """
import shutil, sys
print("ready", flush=True)
with open(sys.argv[1], "rb") as pipe:
    try:
        with open(sys.argv[2], "wb") as file:
            shutil.copyfileobj(pipe, file)
    except OSError as error:
        print(error.errno)
        while pipe.read(2**20):
            pass
"""


def torchscript_from_network(network: nn.Module, input_hw: tuple[int, int], path: Path) -> None:
    """Trace a network into a TorchScript file: any batch size, this input size only.

    Args:
        network: Uint8 pixels to an engine's outputs; in evaluation mode.
        input_hw: Height and width of its input.
        path: File to write.

    Raises:
        OSError: It cannot be written.
    """
    pixels = torch.zeros(1, *input_hw, 3, dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        # That the trace freezes the input size is intended.
        warnings.simplefilter("ignore", category=torch.jit.TracerWarning)  # type: ignore[attr-defined]
        # Tracing reads every property of a network, also those that its library is about to remove.
        warnings.simplefilter("ignore", category=FutureWarning)
        traced = torch.jit.trace(network, pixels, check_trace=False)
        frozen = torch.jit.freeze(traced)
    _follow_input(frozen.graph)
    _save(frozen, path)
    _without_sources(path)


def engine_from_torchscript(path: Path, device: str = "cpu") -> Engine:
    """Return a TorchScript file as a function on arrays, like `engine_from_network`."""
    return engine_from_module(loaded_module(path, device), device)


def _save(module: torch.jit.ScriptModule, path: Path) -> None:
    """Save through a pipe: where a disk is full, torch's own writer would end this process."""
    with tempfile.TemporaryDirectory() as folder:
        pipe = Path(folder, path.name)
        os.mkfifo(pipe)
        command = [sys.executable, "-I", "-S", "-c", _DRAIN, str(pipe), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as drain:
            try:
                _check_started(drain)
                module.save(str(pipe))
            except BaseException:  # it may wait for a writer for ever
                drain.kill()
                raise
            failure, _ = drain.communicate()
    if drain.returncode:
        raise OSError(f"{path} must be written by a process of its own, which ended with {drain.returncode}")
    if failure:
        raise OSError(int(failure), os.strerror(int(failure)), str(path))


def _check_started(drain: subprocess.Popen[str]) -> None:
    """Refuse to write where nobody would read, which would never end."""
    if drain.stdout is None or not drain.stdout.readline():
        raise OSError(f"{sys.executable} must run as a process that writes the engine, but does not start")


def _without_sources(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        for entry in [entry for entry in archive.infolist() if entry.filename.endswith(_SOURCES)]:
            archive.infolist().remove(entry)
            _erase(path, entry)
        archive.comment = archive.comment  # has the list of entries written anew


def _erase(path: Path, entry: zipfile.ZipInfo) -> None:
    """Overwrite the content of an entry, which stands behind a header of 30 bytes, its name and extras."""
    with path.open("r+b") as file:
        file.seek(entry.header_offset + 26)
        name_bytes, extra_bytes = (int.from_bytes(file.read(2), "little") for _ in range(2))
        file.seek(name_bytes + extra_bytes, os.SEEK_CUR)
        file.write(bytes(entry.compress_size))


def _follow_input(graph: torch.Graph) -> None:
    """Compute on the device of the input what the trace says to compute on the CPU, where it was made."""
    pixels = list(graph.inputs())[1]
    device = graph.insertNode(graph.create("prim::device", [pixels], 1)).output()
    device.setType(torch.DeviceObjType.get())
    device.node().moveBefore(next(graph.nodes()))
    for constant in graph.findAllNodes("prim::Constant"):  # type: ignore[attr-defined]
        if constant.output().type().kind() == "DeviceObjType":
            constant.output().replaceAllUsesWith(device)
