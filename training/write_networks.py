"""Take the demo networks out of a training: `python -m training.write_networks run.pt assets/demo_networks`.

The features' backbone has a class token that the other tasks' has not. A short distillation teaches it to
give the same features with it.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional

from sapiens_core.recipes.recipe import Task
from sapiens_export.networks.sapiens import SapiensNetwork
from training.dataset import Shards, random_batch
from training.network import INPUT_HW, SERVED_TASKS, DemoNetworks, demo_config, normalized

if TYPE_CHECKING:
    from torch import Tensor


def load_average(state: Path) -> DemoNetworks:
    """Return the averaged networks of a training's state file, ready to be asked."""
    weights = torch.load(state, map_location="cpu", weights_only=True)["average"]
    networks = DemoNetworks()
    networks.load_state_dict(
        {name.removeprefix("module."): value for name, value in weights.items() if name.startswith("module.")}
    )
    return networks.eval()


def write_network(task: Task, weights: dict[str, Tensor], folder: Path) -> None:
    """Write weights, whose shape stays, in float16 and the description beside them."""
    halves = {name: value.half().contiguous() for name, value in weights.items()}
    path = folder / f"{task.value}.safetensors"
    save_file(halves, path)
    path.chmod(0o644)
    facts = asdict(demo_config(task)) | {"task": task.value}
    (folder / f"{task.value}.json").write_text(json.dumps(facts, indent=2) + "\n")


def distilled_features(networks: DemoNetworks, shards: Shards, steps: int) -> dict[str, Tensor]:
    """Return the weights of a backbone with a class token, of shape (1, 1, C), that changes no features.

    Args:
        networks: The trained networks.
        shards: Images to look at.
        steps: How long to learn.
    """
    student = SapiensNetwork(demo_config(Task.FEATURES))
    weights = dict(networks.task_weights(Task.FEATURES))
    positions = weights["backbone.pos_embed"]
    token = {"backbone.cls_token": torch.zeros(1, 1, positions.shape[2])}
    weights["backbone.pos_embed"] = torch.cat([positions[:, :1] * 0, positions], dim=1)
    student.load_state_dict(weights | token)
    optimizer = torch.optim.Adam(student.parameters(), lr=2e-4)
    for step in range(steps):
        images = random_batch(shards, 16, INPUT_HW, np.random.default_rng((1, step))).images
        inputs = normalized(images)
        with torch.no_grad():
            wanted = networks.backbone(inputs)
        optimizer.param_groups[0]["lr"] = 2e-4 * (1 - step / steps)
        loss = functional.mse_loss(student(inputs), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0 or step == steps - 1:
            print(
                f"features, step {step} of {steps}: mean square difference {loss:.4f} of {wanted.var():.3f}",
                flush=True,
            )
    return student.state_dict()


def main() -> None:
    """Write the networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("state", type=Path, help="what `training.train --state` wrote")
    parser.add_argument("output", type=Path)
    parser.add_argument(
        "--shards", type=Path, help="images to distil the features' backbone from; none: leave it out"
    )
    parser.add_argument("--steps", type=int, default=200, help="of distillation")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    networks = load_average(options.state)
    for task in SERVED_TASKS:
        write_network(task, networks.task_weights(task), options.output)
    if options.shards:
        weights = distilled_features(networks, Shards(options.shards), options.steps)
        write_network(Task.FEATURES, weights, options.output)


if __name__ == "__main__":
    main()
