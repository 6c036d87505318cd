"""What every released network takes to run, counted without weights and without taking memory.

    python bench/network_cost.py

"Activations" is the largest sum of tensors that live at the same time, at batch 1 and 4, without the kernels'
workspaces; see `sapiens_export.engines.cost`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sapiens_core.recipes.lookup import FAMILIES
from sapiens_export.engines.cost import network_cost
from sapiens_export.networks.config import released_config, released_sizes

if TYPE_CHECKING:
    from sapiens_export.networks.config import WeightsConfig

PRECISIONS = ("float32", "bfloat16")
BATCH_SIZES = (1, 4)


def row(config: WeightsConfig) -> str:
    """Return one network's line of the table."""
    costs = [
        [network_cost(config, batch_size=size, precision=precision) for size in BATCH_SIZES]
        for precision in PRECISIONS
    ]
    one = costs[0][0]
    cells = [
        config.task + (f" {config.num_outputs}" if config.labels else ""),
        config.size,
        f"{one.num_parameters:,}",
        f"{one.macs / 1e12:.3f}",
        *(f"{of_batches[0].weight_bytes / 2**30:.2f}" for of_batches in costs),
        *(" / ".join(f"{cost.activation_bytes / 2**30:.2f}" for cost in of_batches) for of_batches in costs),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print one Markdown table, sizes in GiB."""
    print(
        "| network | size | parameters | TMAC per image | weights, float32 | bfloat16 "
        "| activations, float32 | bfloat16 |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for family, facts in FAMILIES.items():
        for task in facts.recipes:
            for size in released_sizes(task, family):
                print(row(released_config(task, size, family)))


if __name__ == "__main__":
    main()
