"""The heap of a model's process, in a process of its own: its settings cannot be taken back."""

from __future__ import annotations

import subprocess
import sys

# What a model does with arrays of 12 megapixels: it takes, fills and frees them.
SCRIPT = """
import resource
import numpy as np
from sapiens_core.triton import heap

def num_faults(num_calls):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(num_calls):
        arrays = [bytearray(48_000_000) for _ in range(4)]
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = num_faults(5)
kept = heap.Heap()
kept.look()
level = kept._num_bytes()
num_faults(1)
print(before, num_faults(5), kept._num_bytes() - level > heap._SPARE_BYTES, end=" ")
heap._DELAY_S = 0.0
kept.look()
while kept._num_bytes() > level + heap._SPARE_BYTES:
    pass
print("given back")
"""


def test_large_arrays_cost_no_page_faults_and_their_memory_goes_back() -> None:
    told = subprocess.check_output([sys.executable, "-c", SCRIPT], text=True, timeout=60).split()
    before, after, is_kept, *words = told
    assert int(before) > 200_000
    assert int(after) < 1_000
    assert is_kept == "True"
    assert words == ["given", "back"]
