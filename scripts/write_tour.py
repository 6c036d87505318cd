"""Run docs/tour.ipynb against the server in SAPIENS_URL, else localhost:8001, and keep what it shows.

`make demo` and `sapiens serve` make that server; further packages: extra `notebook`.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

TOUR = Path(__file__).parents[1] / "docs" / "tour.ipynb"
_LARGEST_SIDE = 400  # pixels


def executed(path: Path) -> nbformat.NotebookNode:
    """Run a notebook in its folder by this Python; a cell that fails raises an error."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": path.parent}}).execute()
    for cell in notebook.cells:
        cell.metadata.clear()  # the times of the run
        for output in cell.get("outputs", ()):
            if "image/png" in output.get("data", {}):
                output.data = {"image/jpeg": _small(output.data["image/png"])}
                output.metadata.clear()
    notebook.metadata.language_info = {"name": "python"}
    return notebook


def _small(png: str) -> str:
    """A picture for the committed notebook: without its legend, whose colours GitHub takes away."""
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return base64.b64encode(buffer.getvalue()).decode()


if __name__ == "__main__":
    nbformat.write(executed(TOUR), TOUR)
