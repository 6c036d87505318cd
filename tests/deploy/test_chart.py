"""The Helm chart: rendered by Helm's engine, against the schemas of every Kubernetes that it is for."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import typer
import yaml
from helm_sdkpy import HelmError
from real_servers import becomes_true
from schemas import VERSIONS, errors
from wiring import problems

from sapiens_export.commands.up import up_command
from sapiens_server.cli import serve_command
from sapiens_server.shared_memory import need_of
from scripts import write_chart
from scripts.render_chart import CHART, objects_of, render

ROOT = Path(__file__).parents[2]
DIGEST = f"registry/models@sha256:{'0' * 64}"
SOURCES = {
    "build": {"size": "1b", "acceptLicence": True, "tasks": ["depth", "pose"], "cache": {"create": True}},
    "pvc": {"pvc": {"claim": "models", "subPath": "v1"}},
    "objectStore": {"objectStore": {"url": "s3://bucket/models", "secret": "bucket"}},
    "image": {"image": {"reference": DIGEST}},
}
SCALERS, GPUS = ("none", "keda", "hpa"), ("devicePlugin", "dra", "none")
# What does not depend on the rest goes along in turn.
BESIDES = (
    {},
    {"tls": {"secret": "tls"}, "monitoring": {"podMonitor": True, "rules": "prometheusRule"}},
    {
        "tls": {"secret": "tls", "clientCA": True, "testSecret": "me"},
        "adminKeySecret": "key",
        "logFormat": "text",
    },
    {
        "route": {
            "parentRefs": [{"name": "gateway", "namespace": "infra"}],
            "hostnames": ["sapiens.example.org"],
        },
        "trace": {"url": "http://collector:4318/v1/traces", "every": 100},
        "networkPolicy": {"egress": [{"ports": [{"port": 4318}]}]},
    },
    {
        "image": {"digest": f"sha256:{'1' * 64}", "pullSecrets": ["registry"]},
        "extraEnv": [{"name": "OMP_NUM_THREADS", "value": "1"}],
        "extraArgs": ["--verbose"],
        "podAnnotations": {"a": "b"},
        "nodeSelector": {"gpu": "yes"},
        "priorityClass": "high",
        "gpu": {"runtimeClass": "nvidia"},
        "serviceAccount": {"name": "own"},
        "disruptionBudget": False,
    },
)


def combinations() -> dict[str, dict]:
    found = {}
    besides = itertools.cycle(BESIDES)
    for source, scaler, gpu in itertools.product(SOURCES, SCALERS, GPUS):
        more = next(besides)
        values = {"weights": {"source": source, **SOURCES[source]}, "autoscaling": {"kind": scaler}}
        found[f"{source}-{scaler}-{gpu}"] = {**more, **values, "gpu": {**more.get("gpu", {}), "kind": gpu}}
    for gpu, more in itertools.product(("devicePlugin", "none"), BESIDES):
        found[f"kserve-{gpu}-{BESIDES.index(more)}"] = {**more, "kserve": True, "gpu": {"kind": gpu}}
    return {"own values": {}, **found}


COMBINATIONS = combinations()


@pytest.fixture(scope="module")
def renders(tmp_path_factory):
    """All at once: Helm waits more than it works. Of a copy without links, each of which it tells about."""
    one = partial(render, chart=shutil.copytree(CHART, tmp_path_factory.mktemp("charts") / CHART.name))
    with ThreadPoolExecutor(8) as threads:
        return dict(zip(COMBINATIONS, threads.map(one, COMBINATIONS.values()), strict=True))


def test_helm_follows_the_links_to_rules_and_dashboard(renders):
    assert len([path for path in (CHART / "files").iterdir() if path.is_symlink()]) == 3
    assert render().manifest == renders["own values"].manifest


def findings(rendered, versions=VERSIONS) -> list[str]:
    objects = [*rendered.objects, *rendered.hooks]
    return [*problems(objects), *(each for v in versions for one in objects for each in errors(one, v))]


@pytest.mark.parametrize("name", COMBINATIONS)
def test_every_combination_is_valid_in_every_kubernetes(name, renders):
    versions = VERSIONS[2:] if name.endswith("-dra") else VERSIONS  # before, there was none
    assert findings(renders[name], versions) == []


def test_all_kinds_are_among_them(renders):
    kinds = {one["kind"] for each in renders.values() for one in (*each.objects, *each.hooks)}
    assert {"GRPCRoute", "HorizontalPodAutoscaler", "PodMonitor", "ScaledObject", "ServingRuntime"} <= kinds
    assert {"PersistentVolumeClaim", "PrometheusRule", "ResourceClaimTemplate", "Pod"} <= kinds


@pytest.mark.parametrize("version", [VERSIONS[0], "1.40.0"])
def test_every_kubernetes_gets_the_same(version, renders):
    assert render(kubernetes=version).manifest == renders["own values"].manifest


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"replica": 2}, "replica"),
        ({"replicas": 0}, "replicas"),
        ({"weights": {"source": "s3"}}, "source"),
        ({"weights": {"source": "image", "image": {"reference": "registry/models:latest"}}}, "reference"),
        ({"weights": {"size": "1b"}}, "weights.acceptLicence must be true"),
        ({"weights": {"source": "pvc"}}, "weights.pvc.claim must name a claim"),
        ({"weights": {"source": "objectStore"}}, "weights.objectStore.url must name a repository"),
        ({"weights": {"source": "image"}}, "weights.image.reference must be"),
        ({"autoscaling": {"minReplicas": 9}}, "minReplicas must be at most maxReplicas, got 9 and 4"),
        ({"tls": {"clientCA": True}}, "tls.clientCA must come with tls.secret"),
        ({"kserve": True, "gpu": {"kind": "dra"}}, "got dra"),
        ({"extraEnv": [{"name": "SAPIENS_SIZE", "value": "2b"}]}, "got SAPIENS_SIZE"),
        ({"extraEnv": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}, "each name once"),
    ],
)
def test_wrong_values_are_refused_in_a_sentence(values, message):
    with pytest.raises(HelmError, match=message):
        render(values)


@pytest.mark.parametrize(("kubernetes", "values"), [("1.31.9", {}), ("1.33.0", {"gpu": {"kind": "dra"}})])
def test_a_kubernetes_that_is_too_old_is_refused(kubernetes, values):
    with pytest.raises(HelmError, match=r"1\.3[13]"):
        render(values, kubernetes=kubernetes)


EVERYTHING = {
    **BESIDES[1],
    "autoscaling": {"kind": "keda"},
    "route": {"parentRefs": [{"name": "gateway"}]},
}


@pytest.mark.parametrize(
    ("file", "right", "wrong", "message"),
    [
        ("_container.tpl", "containerPort: 8001", "containerport: 8001", "containerport"),
        ("_container.tpl", "periodSeconds: 5", "periodSeconds: five", "five"),
        ("_container.tpl", "mountPath: /cache}", "mountPath: /tmp}", "mountPath /tmp twice"),
        ("_container.tpl", "- {name: shm, mountPath", "- {name: shn, mountPath", "no volume shn"),
        ("_container.tpl", "{name: health, containerPort", "{name: healthy, containerPort", "no port health"),
        ("_container.tpl", "readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false", "not restricted"),
        ("_container.tpl", 'define "sapiens.volumes"', 'define "sapiens.volume"', "sapiens.volumes"),
        (
            "deployment.yaml",
            "enableServiceLinks: false",
            "enableServiceLinks: true",
            "variables from Services",
        ),
        ("deployment.yaml", 'eq .Values.autoscaling.kind "none"', "true", "replicas of its own"),
        ("deployment.yaml", "maxSurge: 1}", "maxsurge: 1}", "maxsurge"),
        ("deployment.yaml", "{{- end }}\n", "", "unexpected EOF"),
        ("services.yaml", "targetPort: grpc", "targetPort: gprc", "no port gprc"),
        ("_names.tpl", "component: server", "component: servers", "selects 0"),
        ("autoscaling.yaml", "maxReplicaCount", "maxReplicas", "maxReplicas"),
        ("monitoring.yaml", "podMetricsEndpoints:", "podMetricEndpoints:", "podMetricEndpoints"),
        ("route.yaml", "backendRefs: [{name", "backendRef: [{name", "backendRef"),
        ("network.yaml", "policyTypes:", "policyType:", "policyType"),
        ("disruption.yaml", "maxUnavailable: 1", "maxUnavailabe: 1", "maxUnavailabe"),
    ],
)
def test_a_planted_mistake_is_noticed(file, right, wrong, message, tmp_path):
    chart = shutil.copytree(CHART, tmp_path / "chart")
    path = chart / "templates" / file
    assert right in path.read_text()
    path.write_text(path.read_text().replace(right, wrong))
    try:
        noticed = "\n".join(findings(render(EVERYTHING, chart=chart), VERSIONS[-1:]))
    except HelmError as error:
        noticed = str(error)
    assert message in noticed


def test_a_mistake_in_kserves_objects_is_noticed(tmp_path):
    chart = shutil.copytree(CHART, tmp_path / "chart")
    path = chart / "templates/kserve.yaml"
    path.write_text(path.read_text().replace("supportedModelFormats", "supportedModels"))
    assert any("supportedModels" in each for each in findings(render({"kserve": True}, chart=chart)))
    service = (ROOT / "docker/kserve/inference-service.yaml").read_text()
    assert [*errors(yaml.safe_load(service), VERSIONS[-1])] == []
    mistaken = yaml.safe_load(service.replace("storageUri", "storageURI"))
    assert any("storageURI" in each for each in errors(mistaken, VERSIONS[-1]))


def deployment(rendered) -> dict:
    (found,) = [one for one in rendered.objects if one["kind"] == "Deployment"]
    return found["spec"]


def test_a_server_has_time_to_drain_and_to_start(renders):
    pod = deployment(renders["build-none-devicePlugin"])["template"]["spec"]
    (container,) = pod["containers"]
    args = container["args"]
    assert pod["terminationGracePeriodSeconds"] == float(args[args.index("--drain-seconds") + 1]) + 30
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] == 900 + 2 * 1200
    assert deployment(renders["build-none-devicePlugin"])["progressDeadlineSeconds"] > 900 + 2 * 1200


@pytest.mark.parametrize("scaler", SCALERS)
def test_who_decides_about_replicas_is_alone(scaler, renders):
    assert ("replicas" in deployment(renders[f"pvc-{scaler}-none"])) is (scaler == "none")


def test_shared_memory_is_what_the_models_can_take():
    pixels = 4_000_000
    rendered = render({"weights": {"tasks": ["depth", "normal"]}, "maxImagePixels": pixels})
    pod = deployment(rendered)["template"]["spec"]
    (shm,) = [volume["emptyDir"] for volume in pod["volumes"] if volume["name"] == "shm"]
    steps = ("preprocess", "engine", "postprocess")
    models = {"dense_preprocess", *(f"{task}_{step}" for task in ("depth", "normal") for step in steps[1:])}
    needed = need_of(ROOT / "model_repository", sorted(models)).num_bytes(pixels)
    assert shm["medium"] == "Memory"
    assert needed <= int(shm["sizeLimit"].removesuffix("Mi")) * 2**20 < 1.5 * needed
    memory = pod["containers"][0]["resources"]["limits"]["memory"]
    assert int(memory.removesuffix("Mi")) == 16384 + int(shm["sizeLimit"].removesuffix("Mi"))


@pytest.mark.parametrize(
    "name", [name for name in COMBINATIONS if "none-none" in name or "kserve-none" in name]
)
def test_the_launcher_takes_the_options(name, renders, tmp_path):
    (container,) = next(
        one["spec"]["template"]["spec"] if one["kind"] == "Deployment" else one["spec"]
        for one in renders[name].objects
        if one["kind"] in {"Deployment", "ServingRuntime"}
    )["containers"]
    command, *words = container["args"]
    some_file = tmp_path / "file"
    some_file.write_text("")
    words = [str(some_file) if word.startswith(("/tls", "/admin-key")) else word for word in words]
    app = typer.Typer()
    settings = {"ignore_unknown_options": True, "allow_extra_args": True} if command == "up" else {}
    app.command(context_settings=settings)({"up": up_command, "serve": serve_command}[command])
    with typer.main.get_command(app).make_context(command, words) as context:
        rest = list(context.args)
    if command == "up":  # which hands what it does not know on
        app = typer.Typer()
        app.command()(serve_command)
        typer.main.get_command(app).make_context("serve", rest).close()
    else:
        assert rest == []


def test_the_test_pod_has_its_result_from_a_server(renders, served):
    (pod,) = renders["own values"].hooks
    (container,) = pod["spec"]["containers"]
    assert [each["name"] for each in container["env"]] == ["SAPIENS_URL"]
    command = [sys.executable, *container["command"][1:], *container["args"]]
    done = subprocess.run(
        command, env={"SAPIENS_URL": served.grpc_url}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("depth: ")
    compile_only = [
        pod["spec"]["containers"][0]["args"][0] for each in renders.values() for pod in each.hooks
    ]
    assert all(compile(script, "pod", "exec") for script in compile_only)


def is_answered(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status == 200
    except OSError:
        return False


@pytest.mark.parametrize("probe", ["startupProbe", "readinessProbe", "livenessProbe"])
def test_probes_are_answered_by_a_server(probe, renders, served):
    (container,) = deployment(renders["own values"])["template"]["spec"]["containers"]
    path = container[probe]["httpGet"]["path"]
    assert becomes_true(lambda: is_answered(f"http://{served.health_url}{path}"))


def test_rules_and_dashboard_are_those_of_prometheus_and_grafana(renders):
    maps = {one["metadata"]["name"]: one.get("data") for one in renders["own values"].objects}
    observability = ROOT / "docker/observability"
    for name in ("rules.yml", "alerts.yml"):
        assert maps["sapiens-rules"][name] == (observability / name).read_text()
    board = (observability / "grafana/dashboards/sapiens.json").read_text()
    assert json.loads(maps["sapiens-dashboard"]["sapiens.json"]) == json.loads(board)
    (rules,) = [one for one in renders["build-none-dra"].objects if one["kind"] == "PrometheusRule"]
    groups = [
        yaml.safe_load((observability / name).read_text())["groups"] for name in ("rules.yml", "alerts.yml")
    ]
    assert rules["spec"]["groups"] == [group for each in groups for group in each]


def test_what_is_written_by_the_command_is_up_to_date(renders):
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert (CHART / "values.yaml").read_text() == write_chart.values_file(schema)
    readme = (CHART / "README.md").read_text()
    assert write_chart.readme(readme, write_chart.values_table(schema)) == readme
    facts = json.loads((CHART / "files/shared_memory.json").read_text())
    assert facts == write_chart.shared_memory()
    assert objects_of(write_chart.PLAIN.read_text()) == renders["own values"].objects
