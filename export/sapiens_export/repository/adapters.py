"""The code that Triton's Python backend loads for a model: one line, which names the kind of its step."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from sapiens_core.contract.steps import StepSpec

_FILE = "model.py"
_TEXT = '''"""Written by `sapiens export`; what it does is in config.pbtxt."""

from sapiens_core.triton.{kind} import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def write_adapter(version_folder: Path, step: StepSpec) -> None:
    """Write the code of a step into the folder of its model's version."""
    (version_folder / _FILE).write_text(_TEXT.format(kind=step.kind))
