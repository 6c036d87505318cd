"""Train the demo networks: `python -m training.train --shards shards --held-out held_out --state run.pt ...`.

Goes on from `--state` where it exists. The learning rate is constant until the last fifth of all steps, so
more steps may be asked for at any time before.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import cv2
import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from training.dataset import Batch, Shards, plain_batch, random_batch
from training.light import LightNetworks
from training.losses import losses
from training.measures import Measures
from training.network import INPUT_HW, SERVED_TASKS, DemoNetworks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from sapiens_core.recipes.recipe import Task

_WARM_UP_STEPS = 200
_DECAY_SHARE = 0.2
_AVERAGE_DECAY = 0.998
_WEIGHT_DECAY = 0.05
_EVALUATED = 256
_AHEAD = 4  # batches that wait for the networks
_HEIGHT_UNIT = 64  # with it the input's width, three quarters of its height, is whole patches too


@dataclass(frozen=True)
class Stage:
    """A part of a training.

    Attributes:
        height: Of the networks' input, pixels.
        until: The number of steps at its end, counted from the start of the training.
    """

    height: int
    until: int


def stage(text: str) -> Stage:
    """Read a stage from a height, a colon and a step, as in "128:1000"."""
    height, _, until = text.partition(":")
    if not (height.isdecimal() and until.isdecimal()) or int(height) % _HEIGHT_UNIT or not int(height):
        raise argparse.ArgumentTypeError(
            f"must be a multiple of {_HEIGHT_UNIT}, a colon and a step, as in 128:1000, got {text!r}"
        )
    return Stage(int(height), int(until))


def input_hw(stages: Sequence[Stage], step: int) -> tuple[int, int]:
    """Return the height and width of the input at a step before the last stage's end."""
    height = next(stage.height for stage in stages if step < stage.until)
    return height, height * INPUT_HW[1] // INPUT_HW[0]


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
        networks: What learns; on that device afterwards.
    """

    def __init__(self, device: str, peak_rate: float, networks: DemoNetworks | LightNetworks) -> None:
        self._device = torch.device(device)
        self.networks = networks.to(self._device)
        self.networks.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = torch.optim.swa_utils.AveragedModel(
            self.networks, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(_AVERAGE_DECAY)
        )
        self.optimizers = _optimizers(self.networks)
        self.peak_rate, self.step = peak_rate, 0

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

    def begin_with(self, folder: Path | None, backbone: Path | None) -> None:
        """Take weights that there are.

        Args:
            folder: Networks that `training.write_networks` wrote. Light networks take their backbone.
            backbone: State of another training, light or not, whose averaged backbone is taken.
        """
        if folder:
            written = DemoNetworks()
            written.load_task_weights(
                {task: load_file(folder / f"{task.value}.safetensors") for task in SERVED_TASKS}
            )
            if isinstance(self.networks, DemoNetworks):
                self.networks.load_state_dict(written.state_dict())
            self.networks.backbone.load_state_dict(written.backbone.state_dict())
        if backbone:
            self.networks.backbone.load_state_dict(averaged_backbone(backbone))
        self.average.module.load_state_dict(self.networks.state_dict())

    def learn(self, batch: Batch, num_steps: int) -> dict[str, float]:
        """Take one step and return the losses of the tasks."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(self.step, num_steps, self.peak_rate)
            optimizer.zero_grad(set_to_none=True)
        batch = self.networks.labels(batch.to(self._device))
        by_task = losses(self._outputs(self.networks, batch.images), batch)
        torch.stack(list(by_task.values())).sum().backward()
        nn.utils.clip_grad_norm_(self.networks.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.average.update_parameters(self.networks)
        self.step += 1
        return {task.value: float(loss.detach()) for task, loss in by_task.items()}

    @torch.no_grad()
    def evaluate(self, shards: Shards, input_hw: tuple[int, int]) -> dict[str, float]:
        """Return the figures of the averaged networks on held-out samples."""
        measures, size = Measures(), 32
        count = min(_EVALUATED, len(shards))
        for start in range(0, count, size):
            batch = self.networks.labels(
                plain_batch(shards, range(start, min(start + size, count)), input_hw)
            )
            outputs = self._outputs(self.average, batch.to(self._device).images)
            measures.add({task: output.cpu() for task, output in outputs.items()}, batch)
        return measures.figures()

    def _outputs(self, networks: nn.Module, images: torch.Tensor) -> dict[Task, torch.Tensor]:
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self._device.type, torch.bfloat16), _quick_attention(self._device):
            outputs: dict[Task, torch.Tensor] = networks(images)
        return outputs


def averaged_backbone(state: Path) -> dict[str, torch.Tensor]:
    """Return the weights of the averaged backbone in a training's state file, each of its official shape."""
    weights = torch.load(state, map_location="cpu", weights_only=True)["average"]
    prefix = "module.backbone."
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _optimizers(networks: DemoNetworks | LightNetworks) -> list[torch.optim.Optimizer]:
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


def _quick_attention(device: torch.device) -> AbstractContextManager[None]:
    """On a CPU, plain matrix products are faster for so few tokens than the fused kernel's backward pass."""
    return sdpa_kernel(SDPBackend.MATH) if device.type == "cpu" else nullcontext()


def batches(
    shards: Shards, size: int, stages: Sequence[Stage], seed: int, first_step: int
) -> Iterator[Batch]:
    """Yield the batches of the steps from `first_step` on, made ahead on a thread of their own.

    Every batch depends on the shards, the seed and its step alone.
    """
    with ThreadPoolExecutor(1) as pool:
        ahead: deque[Future[Batch]] = deque()
        for step in range(first_step, stages[-1].until):
            rng = np.random.default_rng((seed, step))
            ahead.append(pool.submit(random_batch, shards, size, input_hw(stages, step), rng))
            if len(ahead) > _AHEAD:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True, help="file that keeps the training")
    parser.add_argument(
        "--networks", type=Path, help="folder that training.write_networks wrote, to begin with; else chance"
    )
    parser.add_argument(
        "--backbone", type=Path, help="state of another training, whose backbone to begin with"
    )
    parser.add_argument(
        "--light",
        action="store_true",
        help="light heads, which cannot be served: teaches a backbone several times as fast",
    )
    parser.add_argument(
        "--heights",
        type=stage,
        nargs="+",
        required=True,
        metavar="HEIGHT:STEP",
        help="of the input, each until a step; a smaller input learns faster at first, the last step ends it",
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report-every", type=int, default=200, help="steps")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def main() -> None:
    """Train, with a line of progress now and then."""
    parser = _parser()
    options = parser.parse_args()
    stages, num_steps = options.heights, options.heights[-1].until
    if any(later.until <= earlier.until for earlier, later in pairwise(stages)):
        parser.error(f"--heights must have rising steps, got {[one.until for one in stages]}; order them")
    cv2.setNumThreads(1)
    torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp(enabled=True)  # on a CPU, too
    torch.manual_seed(options.seed)
    shards, held_out = Shards(options.shards), Shards(options.held_out)
    if not (len(shards) and len(held_out)):
        parser.error(f"{options.shards} and {options.held_out} must hold renders; run training.render first")
    training = Training(options.device, options.rate, LightNetworks() if options.light else DemoNetworks())
    if options.state.exists():
        training.load(options.state)
    else:
        training.begin_with(options.networks, options.backbone)
    started, first_step = time.monotonic(), training.step
    seen: list[dict[str, float]] = []
    for batch in batches(shards, options.batch, stages, options.seed, first_step):
        seen.append(training.learn(batch, num_steps))
        if training.step % options.report_every and training.step < num_steps:
            continue
        training.save(options.state)
        rate = (training.step - first_step) * options.batch / (time.monotonic() - started)
        report = {"step": training.step, "of": num_steps, "height": batch.images.shape[2], "images/s": rate}
        report |= {f"{task} loss": mean(one[task] for one in seen) for task in seen[0]}
        at_hw = input_hw(stages, training.step - 1) if options.light else INPUT_HW
        report |= training.evaluate(held_out, at_hw)
        print(json.dumps({name: round(value, 4) for name, value in report.items()}), flush=True)
        seen.clear()


if __name__ == "__main__":
    main()
