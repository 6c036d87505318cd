"""Runs in an environment of its own, with Roboflow's `trackers`: boxes to numbers of tracks.

{"rate": ..., "frames": [[[x1, y1, x2, y2, score], ...], ...]} -> {"ByteTrackTracker": [[1, 2], ...], ...}
"""

import json
import sys

import numpy as np
import supervision
import trackers

KINDS = ("SORTTracker", "ByteTrackTracker", "OCSORTTracker")


def main() -> None:
    asked = json.load(sys.stdin)
    numbers = {}
    for kind in KINDS:
        tracker = getattr(trackers, kind)(frame_rate=asked["rate"])
        numbers[kind] = [
            _numbers(tracker, np.array(frame, np.float32).reshape(-1, 5)) for frame in asked["frames"]
        ]
    json.dump(numbers, sys.stdout)


def _numbers(tracker, boxes):
    found = supervision.Detections(
        xyxy=boxes[:, :4], confidence=boxes[:, 4], class_id=np.zeros(len(boxes), int)
    )
    tracked = tracker.update(found)
    if not len(tracked):
        return [-1] * len(boxes)
    nearest = np.abs(tracked.xyxy[None] - boxes[:, None, :4]).sum(axis=2)
    rows, ids = nearest.argmin(axis=1), tracked.tracker_id
    return [int(ids[row]) if nearest[place, row] < 1 else -1 for place, row in enumerate(rows)]


main()
