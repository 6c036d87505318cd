"""What is chosen where the operator chose nothing."""

import pytest
import torch

from sapiens_export.repository.serving import Serving
from sapiens_export.settled import num_copies, settled

GB = 10**9


@pytest.mark.parametrize(
    ("weight_bytes", "gpu_bytes", "expected"),
    [
        (GB, 16 * GB, 2),
        (GB + 1, 16 * GB, 1),
        (5 * GB, 80 * GB, 2),
        (5 * GB, 24 * GB, 1),
        (GB, 0, 1),
        (0, 0, 1),  # an archive whose weights are constants
    ],
)
def test_two_copies_take_an_eighth_of_a_gpu_at_most(weight_bytes, gpu_bytes, expected):
    assert num_copies(weight_bytes, gpu_bytes) == expected


def test_a_machine_without_a_gpu_gets_one_copy_and_the_cpu_finish(tiny_network, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    chosen = settled(Serving(finish="auto"), tiny_network, weight_bytes=1)
    assert (chosen.instances, chosen.finish) == (1, "cpu")


def test_what_the_operator_said_stays(tiny_network):
    said = Serving(instances=3, finish="gpu", max_batch_size=2, warmup=())
    assert settled(said, tiny_network, weight_bytes=1) == said
