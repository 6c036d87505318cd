"""Write what the chart has from elsewhere: `make chart`.

Its values and the table of them come from `values.schema.json`, the facts by which it sizes /dev/shm from the
models' configs, the plain manifest in docker/kubernetes from Helm.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sapiens_core.contract.folders import CONFIG_FILE
from sapiens_core.recipes.combined import PEOPLE_POSE
from sapiens_core.recipes.lookup import FAMILIES
from sapiens_core.recipes.recipe import Task
from sapiens_export.networks.config import (
    DEMO_SIZE,
    NANODET,
    demo_network,
    released_config,
    released_network,
    released_sizes,
)
from sapiens_export.repository.combined import people_config
from sapiens_export.repository.configs import model_configs
from sapiens_export.repository.serving import Serving
from sapiens_server.shared_memory import Need, need_of
from scripts.render_chart import CHART, RELEASE, render

PLAIN = CHART.parents[1] / "kubernetes/base/sapiens.yaml"
_BEGIN, _END = "<!-- values: from values.schema.json, by `make chart` -->", "<!-- end of values -->"


def values_file(schema: Mapping[str, Any]) -> str:
    """Return the chart's values with what each means."""
    head = "# Written by `make chart` from values.schema.json, which says what may be given.\n"
    return head + "".join(_yaml_lines(schema["properties"], ""))


def _yaml_lines(properties: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, one in properties.items():
        if "properties" in one:
            yield f"{indent}{name}:\n"
            yield from _yaml_lines(one["properties"], indent + "  ")
        else:
            yield f"{indent}# {one['description']}\n"
            yield f"{indent}{name}: {json.dumps(one['default'])}\n"


def values_table(schema: Mapping[str, Any]) -> str:
    """Return the values as a table in Markdown."""
    rows = [
        f"| `{name}` | `{json.dumps(one['default'])}` | {one['description']} |\n"
        for name, one in _leaves(schema["properties"])
    ]
    return "".join(["| value | default | |\n|---|---|---|\n", *rows])


def _leaves(properties: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, one in properties.items():
        if "properties" in one:
            yield from _leaves(one["properties"], f"{before}{name}.")
        else:
            yield before + name, one


def shared_memory() -> dict[str, Any]:
    """Return what is known of families, and what their models can take of /dev/shm at their largest size."""
    pose = released_network(Task.POSE, next(iter(FAMILIES["sapiens"].sizes)))
    people = {PEOPLE_POSE.name: people_config(NANODET, pose, Serving(), parameters={})}
    needs, families = _needs(people), {}
    for name, family in FAMILIES.items():
        networks = [
            released_config(task, size, name)
            for task in family.recipes
            for size in released_sizes(task, name)
        ]
        tasks: dict[str, list[str]] = {}
        for network in (*networks, NANODET):
            found = _needs(model_configs(network, Serving(), parameters={}))
            tasks[network.task] = sorted({*tasks.get(network.task, ()), *found})
            needs |= {model: _larger(need, needs.get(model, need)) for model, need in found.items()}
        demo = [DEMO_SIZE] if name == demo_network(Task.DEPTH).family else []
        families[name] = {"sizes": [*family.sizes, *demo], "tasks": tasks}
    return {
        "families": families,
        "models": {
            name: {"fixedBytes": need.fixed_bytes, "pixelBytes": need.pixel_bytes}
            for name, need in sorted(needs.items())
        },
    }


def _needs(configs: Mapping[str, str]) -> dict[str, Need]:
    """Return what each model can take, those left out that take nothing."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in configs.items():
            Path(folder, name).mkdir()
            Path(folder, name, CONFIG_FILE).write_text(text)
        needs = {name: need_of(Path(folder), [name]) for name in configs}
    return {name: need for name, need in needs.items() if need != Need(0, 0)}


def _larger(one: Need, other: Need) -> Need:
    return Need(max(one.fixed_bytes, other.fixed_bytes), max(one.pixel_bytes, other.pixel_bytes))


def readme(text: str, table: str) -> str:
    """Return the chart's README with another table of values."""
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    return f"{before}{begin}\n{table}{end}{after}"


def plain_manifest() -> str:
    """Return what the chart makes of its own values, for who has no Helm."""
    head = f"# Written by `make chart`: the chart's own values, rendered as release {RELEASE}.\n"
    return head + render().manifest


def main() -> int:
    """Write all of it."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    (CHART / "values.yaml").write_text(values_file(schema))
    path = CHART / "README.md"
    path.write_text(readme(path.read_text(), values_table(schema)))
    facts = json.dumps(shared_memory(), indent=1)
    (CHART / "files/shared_memory.json").write_text(f"{facts}\n")
    PLAIN.write_text(plain_manifest())
    return 0


if __name__ == "__main__":
    sys.exit(main())
