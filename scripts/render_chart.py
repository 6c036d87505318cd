"""Render the chart by Helm's own engine, without a cluster.

    python -m scripts.render_chart '{"replicas": 3}'

The engine comes in a package of Python (scripts/chart-requirements.txt) that installs charts and cannot only
render them. So it installs into an API server on loopback that agrees to everything, and tells what it made.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[1] / "docker/helm/sapiens-triton"
RELEASE, NAMESPACE = "sapiens", "vision"
KUBERNETES = "1.37.0"
# What the cluster knows: kinds and the plural by which they are posted.
_KINDS = {
    "v1": {
        "ConfigMap": "configmaps",
        "Namespace": "namespaces",
        "PersistentVolumeClaim": "persistentvolumeclaims",
        "Pod": "pods",
        "Secret": "secrets",
        "Service": "services",
        "ServiceAccount": "serviceaccounts",
    },
    "apps/v1": {"Deployment": "deployments"},
    "autoscaling/v2": {"HorizontalPodAutoscaler": "horizontalpodautoscalers"},
    "gateway.networking.k8s.io/v1": {"GRPCRoute": "grpcroutes"},
    "keda.sh/v1alpha1": {"ScaledObject": "scaledobjects"},
    "monitoring.coreos.com/v1": {"PodMonitor": "podmonitors", "PrometheusRule": "prometheusrules"},
    "networking.k8s.io/v1": {"NetworkPolicy": "networkpolicies"},
    "policy/v1": {"PodDisruptionBudget": "poddisruptionbudgets"},
    "resource.k8s.io/v1": {"ResourceClaimTemplate": "resourceclaimtemplates"},
    "serving.kserve.io/v1alpha1": {"ServingRuntime": "servingruntimes"},
}


@dataclass(frozen=True)
class Render:
    """What Helm makes of a chart.

    Attributes:
        manifest: Objects that are installed, as YAML.
        hooks: Objects of hooks, such as of `helm test`.
        notes: What is told to whoever installs it.
    """

    manifest: str
    hooks: list[dict[str, Any]]
    notes: str

    @cached_property
    def objects(self) -> list[dict[str, Any]]:
        """Everything that is installed."""
        return objects_of(self.manifest)


def objects_of(manifest: str) -> list[dict[str, Any]]:
    """Return the objects of a manifest."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where libyaml is
    return [each for each in yaml.load_all(manifest, loader) if each]


def render(
    values: Mapping[str, Any] | None = None, *, chart: Path = CHART, kubernetes: str = KUBERNETES
) -> Render:
    """Install a chart nowhere.

    Args:
        values: Those of the user.
        chart: Its folder.
        kubernetes: Version that the cluster says it has.

    Raises:
        helm_sdkpy.HelmError: Helm refuses the chart or the values; its message says why.
    """
    import helm_sdkpy  # here: only who renders needs it

    with _cluster(kubernetes) as kubeconfig:
        configuration = helm_sdkpy.Configuration(namespace=NAMESPACE, kubeconfig=kubeconfig)
        install = helm_sdkpy.Install(configuration).run(
            RELEASE, str(chart), values=dict(values or {}), wait=False
        )
        done = asyncio.run(install)
    hooks = [yaml.safe_load(hook["manifest"]) for hook in done.get("hooks") or ()]
    return Render(done["manifest"], hooks, done.get("info", {}).get("notes", ""))


@contextmanager
def _cluster(kubernetes: str) -> Iterator[str]:
    """Run a stand-in for an API server; yield how it is reached."""
    handler = type("Handler", (_ApiServer,), {"kubernetes": kubernetes, "kept": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "nobody"}}],
        }
        yield yaml.safe_dump(kubeconfig, sort_keys=False)
    finally:
        server.shutdown()
        server.server_close()


class _ApiServer(BaseHTTPRequestHandler):
    """Says which kinds there are, keeps secrets, which Helm reads again, and agrees to everything else."""

    kubernetes: str
    kept: dict[str, Any]

    def log_message(self, *_words: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Tell what there is."""
        path, status = self.path.partition("?")[0].strip("/"), 200
        answer = self._discovered(path)
        if answer is None and path.endswith("/secrets"):
            answer = {"kind": "SecretList", "apiVersion": "v1", "items": [*self.kept.values()]}
        if answer is None:
            answer = self.kept.get(path.rpartition("/")[2])
        if answer is None:
            answer = {"kind": "Status", "apiVersion": "v1", "reason": "NotFound", "code": 404}
            status = 404
        self._send(json.dumps(answer).encode(), status)

    def do_POST(self) -> None:
        """Agree, and keep secrets."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.headers["Content-Type"]
        if "json" in kind or "yaml" in kind:
            one = yaml.safe_load(body)
            if isinstance(one, dict) and one.get("kind") == "Secret":
                self.kept[one["metadata"]["name"]] = one
            body, kind = json.dumps(one).encode(), "application/json"
        self._send(body, 201 if self.command == "POST" else 200, kind)

    do_PUT = do_POST  # noqa: N815  the name that http.server calls
    do_PATCH = do_POST  # noqa: N815

    def _discovered(self, path: str) -> dict[str, Any] | None:
        if path == "version":
            major, minor, _ = self.kubernetes.split(".")
            return {"major": major, "minor": minor, "gitVersion": f"v{self.kubernetes}"}
        if path == "api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "apis":
            groups = [
                {
                    "name": name.partition("/")[0],
                    "versions": [{"groupVersion": name, "version": name.partition("/")[2]}],
                    "preferredVersion": {"groupVersion": name, "version": name.partition("/")[2]},
                }
                for name in _KINDS
                if "/" in name
            ]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        kinds = _KINDS.get(path.removeprefix("apis/").removeprefix("api/"))
        if kinds is None:
            return None
        resources = [
            {
                "name": plural,
                "singularName": "",
                "namespaced": kind != "Namespace",
                "kind": kind,
                "verbs": ["create", "delete", "get", "list", "patch", "update"],
            }
            for kind, plural in kinds.items()
        ]
        name = path.removeprefix("apis/").removeprefix("api/")
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources}

    def _send(self, body: bytes, status: int = 200, kind: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    sys.stdout.write(render(json.loads(sys.argv[1]) if sys.argv[1:] else {}).manifest)
