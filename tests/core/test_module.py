"""How a network is run, on the CPU; what a GPU does more, `pytest -m gpu` looks at."""

from __future__ import annotations

import pytest
import torch

from sapiens_core.triton.module import Runner

PIXELS = torch.arange(2 * 4 * 4 * 3, dtype=torch.uint8).reshape(2, 4, 4, 3)


class Means(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[bool, bool, bool]] = []

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cudnn = torch.backends.cudnn
        self.seen.append((cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32))
        return pixels.float().mean((1, 2, 3)), pixels.amax((1, 2, 3))


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("is_exact", [False, True])
def test_batches_of_every_size_are_computed_whether_prepared_or_not(is_exact, device):
    runner = Runner(Means(), device, is_exact=is_exact)
    runner.prepare(torch.zeros(2, 4, 4, 3, dtype=torch.uint8))
    for pixels in (PIXELS, PIXELS[:1], PIXELS.flip(0)):
        means, largest = runner(pixels)
        assert (means.device.type, largest.device.type) == ("cpu", "cpu")
        torch.testing.assert_close(means, pixels.float().mean((1, 2, 3)))
        assert torch.equal(largest, pixels.amax((1, 2, 3)))
    first = runner(PIXELS)[0].clone()
    kept = runner(PIXELS)[0]
    runner(PIXELS.flip(0))
    assert torch.equal(kept, first)  # the next batch does not write over it


@pytest.mark.parametrize("is_exact", [False, True])
def test_comparisons_are_deterministic_and_serving_takes_the_fastest_algorithms(is_exact):
    module = Means()
    before = (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic)
    Runner(module, "cpu", is_exact=is_exact)(PIXELS)
    assert module.seen == [(not is_exact, is_exact, False)]
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == before


def test_a_module_may_return_one_tensor():
    (largest,) = Runner(lambda pixels: pixels.amax((1, 2, 3)), "cpu")(PIXELS)
    assert largest.tolist() == [47, 95]
