"""What is written about each frame of a video, as JSON and as a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sapiens_client.errors import InvalidInputError, SapiensError
from sapiens_client.results.detections import DetectionResult
from sapiens_client.results.people import PoseResult

if TYPE_CHECKING:
    from sapiens_client.results.base import Result
    from sapiens_client.video.frames import VideoFrame


def line(frame: VideoFrame, answer: Result | SapiensError) -> dict[str, Any]:
    """Return what a line says of a frame: COCO results, with `track_id` where persons have one."""
    about: dict[str, Any] = {"frame": frame.index, "time_s": round(frame.time_s, 6)}
    if isinstance(answer, SapiensError):
        return {**about, "error": str(answer)}
    found = [dict(each) for each in answer.to_coco(image_id=frame.index)]  # type: ignore[attr-defined]
    ids = frame.track_ids
    if isinstance(answer, PoseResult):
        for each, bbox in zip(found, answer.bboxes, strict=True):
            each["bbox"] = np.concatenate([bbox[:2], bbox[2:] - bbox[:2]]).tolist()
    if isinstance(answer, PoseResult | DetectionResult) and ids is not None and len(ids) == len(found):
        for each, track_id in zip(found, ids.tolist(), strict=True):
            each["track_id"] = track_id
    return {**about, "results": found}


def write_parquet(lines: Path, path: Path) -> None:
    """Make a table of lines, with a row per result: frame, time_s, and the fields of the result.

    Raises:
        InvalidInputError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InvalidInputError(
            f"Parquet needs pyarrow, which is not installed; the lines are kept in {str(lines)!r}: "
            "pip install pyarrow, or say --format json"
        ) from error
    draft, writer = path.with_name(f".{path.name}"), None
    with lines.open("rb") as file:
        while batch := file.readlines(1 << 22):
            rows = [
                {"frame": each["frame"], "time_s": each["time_s"], **result}
                for each in map(json.loads, batch)
                for result in each.get("results", ())
            ]
            if rows:
                table = pyarrow.Table.from_pylist(rows, schema=writer.schema if writer else None)
                writer = writer or parquet.ParquetWriter(draft, table.schema)
                writer.write_table(table)
    if writer is None:
        parquet.write_table(pyarrow.table({"frame": [], "time_s": []}), draft)
    else:
        writer.close()
    draft.replace(path)
