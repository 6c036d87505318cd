"""Train the demo networks: `python -m training.train --shards shards --held-out held_out --state run.pt`.

Goes on from `--state` where it exists. The learning rate is constant until the last fifth of `--steps`, so
more steps may be asked for at any time before.
"""

from __future__ import annotations

import argparse
import json
import queue
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from training.dataset import Batch, Shards, plain_batch, random_batch
from training.losses import losses
from training.measures import Measures
from training.network import INPUT_HW, DemoNetworks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

_WARM_UP_STEPS = 200
_DECAY_SHARE = 0.2
_AVERAGE_DECAY = 0.998
_WEIGHT_DECAY = 0.05
_EVALUATED = 256


def learning_rate(step: int, num_steps: int, peak: float) -> float:
    """Return the rate of one step: a short rise, a plateau, a straight fall to zero."""
    rise = (step + 1) / _WARM_UP_STEPS
    fall = (num_steps - step) / (_DECAY_SHARE * num_steps)
    return peak * max(min(1.0, rise, fall), 0.0)


class Training:
    """Networks, their running average, and the optimisers, as one thing that can be saved.

    Args:
        device: Where to compute, e.g. "cpu" or "cuda".
        peak_rate: Learning rate of the plateau.
    """

    def __init__(self, device: str, peak_rate: float) -> None:
        self.networks = DemoNetworks().to(device, memory_format=torch.channels_last)
        self.average = torch.optim.swa_utils.AveragedModel(
            self.networks, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(_AVERAGE_DECAY)
        )
        self.optimizers = _optimizers(self.networks)
        self.peak_rate, self.step, self._device = peak_rate, 0, device

    def save(self, path: Path) -> None:
        """Write everything, in one move."""
        draft = path.with_suffix(".draft")
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        networks, average = self.networks.state_dict(), self.average.state_dict()
        torch.save(
            {"networks": networks, "average": average, "optimizers": optimizers, "step": self.step}, draft
        )
        draft.replace(path)

    def load(self, path: Path) -> None:
        """Read what `save` wrote."""
        state = torch.load(path, map_location=self._device, weights_only=True)
        self.networks.load_state_dict(state["networks"])
        self.average.load_state_dict(state["average"])
        for optimizer, kept in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self.step = state["step"]

    def learn(self, batch: Batch, num_steps: int) -> dict[str, float]:
        """Take one step and return the losses of the tasks."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.step, num_steps, self.peak_rate)
            optimizer.zero_grad(set_to_none=True)
        by_task = losses(self._outputs(self.networks, batch), batch)
        with _quick_attention():
            torch.stack(list(by_task.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.networks.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update_parameters(self.networks)
        self.step += 1
        return {task.value: float(loss.detach()) for task, loss in by_task.items()}

    @torch.no_grad()
    def evaluate(self, shards: Shards) -> dict[str, float]:
        """Return the figures of the averaged networks on held-out samples, at the input's full size."""
        measures, size = Measures(), 32
        count = min(_EVALUATED, len(shards))
        for start in range(0, count, size):
            batch = plain_batch(shards, range(start, min(start + size, count)), INPUT_HW)
            measures.add({k: v.cpu() for k, v in self._outputs(self.average, batch).items()}, batch)
        return measures.figures()

    def _outputs(self, networks: nn.Module, batch: Batch) -> dict[str, torch.Tensor]:
        images = batch.images.to(self._device, memory_format=torch.channels_last)
        with torch.autocast(self._device, torch.bfloat16), _quick_attention():
            return networks(images)  # type: ignore[no-any-return]


def _optimizers(networks: DemoNetworks) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of the transformer blocks, and AdamW for all else."""
    matrices = [parameter for parameter in networks.backbone.layers.parameters() if parameter.ndim == 2]
    others = [p for p in networks.parameters() if all(p is not matrix for matrix in matrices)]
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": _WEIGHT_DECAY},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [
        torch.optim.Muon(matrices, weight_decay=_WEIGHT_DECAY, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(groups, betas=(0.9, 0.98)),
    ]


def _quick_attention() -> AbstractContextManager[None]:
    """On a CPU, plain matrix products are faster for so few tokens than the fused kernel's backward pass."""
    return nullcontext() if torch.cuda.is_available() else sdpa_kernel(SDPBackend.MATH)


def batches(
    shards: Shards, size: int, input_hw: tuple[int, int], seed: int, first_step: int
) -> Iterator[Batch]:
    """Yield the batches of the steps from `first_step` on, made ahead on a thread of their own."""
    ready: queue.Queue[Batch] = queue.Queue(maxsize=4)

    def make() -> None:
        step = first_step
        while True:
            ready.put(random_batch(shards, size, input_hw, np.random.default_rng((seed, step))))
            step += 1

    threading.Thread(target=make, daemon=True).start()
    while True:
        yield ready.get()


def main() -> None:
    """Train, with a line of progress now and then."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True, help="file that keeps the training")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument(
        "--height", type=int, default=INPUT_HW[0], help="of the input; a smaller one learns faster at first"
    )
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report-every", type=int, default=200, help="steps")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.manual_seed(options.seed)
    shards, held_out = Shards(options.shards), Shards(options.held_out)
    if not (len(shards) and len(held_out)):
        parser.error(f"{options.shards} and {options.held_out} must hold renders; run training.render first")
    training = Training(options.device, options.rate)
    if options.state.exists():
        training.load(options.state)
    started, first_step, means = (
        time.monotonic(),
        training.step,
        dict.fromkeys(("seg", "normal", "depth", "pose"), 0.0),
    )
    input_hw = (options.height, options.height * INPUT_HW[1] // INPUT_HW[0])
    for batch in batches(shards, options.batch, input_hw, options.seed, first_step):
        if training.step >= options.steps:
            break
        for task, loss in training.learn(batch, options.steps).items():
            means[task] += loss / options.report_every
        if training.step % options.report_every and training.step < options.steps:
            continue
        training.save(options.state)
        rate = (training.step - first_step) * options.batch / (time.monotonic() - started)
        report = {"step": training.step, "of": options.steps, "images/s": rate, "renders": len(shards)}
        report |= {f"{task} loss": loss for task, loss in means.items()} | training.evaluate(held_out)
        print(json.dumps({k: round(v, 4) for k, v in report.items()}), flush=True)
        means = dict.fromkeys(means, 0.0)


if __name__ == "__main__":
    main()
