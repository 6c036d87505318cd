"""How far each runtime and precision is from float32 on trained networks: the table in docs/export.md.

The demo networks are exported in every way that a CPU can run, and compared as every export is, with the
limits of trained networks.
"""

import tempfile
from pathlib import Path

from sapiens_core.contract.engines import Precision, Runtime
from sapiens_core.recipes.recipe import Task
from sapiens_export.candidates import ParityError
from sapiens_export.exporter import EngineOptions, export_engine
from sapiens_export.networks.config import DEMO_NETWORKS, demo_network
from sapiens_export.weights.sources import source_from_checkpoint

TASKS = (Task.DEPTH, Task.NORMAL, Task.SEG, Task.POSE, Task.FEATURES)
ENGINES: tuple[tuple[Runtime, Precision], ...] = (
    ("python", "float32"),
    ("python", "float16"),
    ("python", "bfloat16"),
    ("torchscript", "float32"),
    ("torchscript", "float16"),
    ("torchscript", "bfloat16"),
    ("onnx", "float32"),
    ("onnx", "float16"),
)


def measured(task: Task, runtime: Runtime, precision: Precision) -> str:
    """Export one network one way and return what the comparison said."""
    source = source_from_checkpoint(task, DEMO_NETWORKS / f"{task}.safetensors", demo_network(task))
    with tempfile.TemporaryDirectory() as folder:
        try:
            export = export_engine(source, Path(folder) / "models", EngineOptions(runtime, precision))
        except ParityError as error:
            return f"**refused**: {error}"
    measures = export.parity.measures if export.parity else ()
    return ", ".join(f"{each.name.replace('_', ' ')} {each.value:.2g}" for each in measures)


def main() -> None:
    """Print the table."""
    print("| engine | " + " | ".join(TASKS) + " |")
    print("|---" * (len(TASKS) + 1) + "|")
    for runtime, precision in ENGINES:
        cells = (measured(task, runtime, precision) for task in TASKS)
        print(f"| {runtime}, {precision} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
