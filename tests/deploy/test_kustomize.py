"""The plain manifest and its overlay are what Helm makes of the same wishes."""

from __future__ import annotations

import subprocess

import pytest

from scripts.render_chart import objects_of, render
from scripts.write_chart import PLAIN

OVERLAY = {
    "replicas": 3,
    "image": {"repository": "registry.example.org/sapiens-triton"},
    "weights": {"size": "1b", "acceptLicence": True, "tasks": ["depth"]},
}


def built(folder) -> dict[tuple[str, str], dict]:
    words = ["kubectl", "kustomize", folder]
    return by_name(objects_of(subprocess.run(words, capture_output=True, text=True, check=True).stdout))


def by_name(objects) -> dict[tuple[str, str], dict]:
    for one in objects:
        if one["kind"] == "Deployment":  # a patch puts variables in another order
            for container in one["spec"]["template"]["spec"]["containers"]:
                container["env"].sort(key=lambda variable: variable["name"])
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


@pytest.mark.parametrize(("folder", "values"), [("base", {}), ("depth-1b", OVERLAY)])
def test_kustomize_builds_what_helm_renders(folder, values):
    assert built(PLAIN.parents[1] / folder) == by_name(render(values).objects)
