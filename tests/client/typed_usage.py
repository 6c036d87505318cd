"""What a type checker knows about results; checked, not run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from sapiens_client import (
    DepthResult,
    DetectionResult,
    FeatureResult,
    NormalResult,
    PoseResult,
    Result,
    SapiensClient,
    SapiensError,
    SegmentationResult,
)


def map_knows_the_result_of_every_task(client: SapiensClient, paths: list[Path], task: str) -> None:
    assert_type(next(client.map("depth", paths)).result, DepthResult)
    assert_type(next(client.map("normal", paths)).result, NormalResult)
    assert_type(next(client.map("seg", paths, ordered=False)).result, SegmentationResult)
    assert_type(next(client.map("features", paths)).result, FeatureResult)
    assert_type(next(client.map("detect", paths)).result, DetectionResult)
    assert_type(next(client.map("pose", paths)).result, PoseResult)
    assert_type(next(client.map("people", paths)).result, PoseResult)
    assert_type(next(client.map(task, paths, progress=True)).result, Result)
    assert_type(next(client.map("depth", paths, on_error="yield")).error, SapiensError | None)
