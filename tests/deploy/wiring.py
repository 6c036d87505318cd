"""What must fit together in a manifest and no schema sees."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Object = Mapping[str, Any]

_VOLUMES = {"configMap", "emptyDir", "image", "persistentVolumeClaim", "secret"}


def problems(objects: Sequence[Object]) -> Iterator[str]:
    """Yield what is wrong with the objects of a release."""
    names = [(one["apiVersion"], one["kind"], one["metadata"]["name"]) for one in objects]
    yield from (f"twice: {name}" for name in {*names} if names.count(name) > 1)
    for one in objects:
        where = f"{one['kind']} {one['metadata']['name']}"
        for pod in _pods(one):
            yield from (f"{where}: {each}" for each in (*_unmatched(pod), *_unsafe(pod)))
        yield from (f"{where}: {each}" for each in _strays(one, objects))


def _pods(one: Object) -> Iterator[Object]:
    if one["kind"] == "Pod":
        yield one["spec"]
    elif one["kind"] == "Deployment":
        yield one["spec"]["template"]["spec"]


def containers(pod: Object) -> list[Object]:
    """Return all containers of a pod."""
    return [*pod.get("initContainers", ()), *pod["containers"]]


def _unmatched(pod: Object) -> Iterator[str]:
    volumes = [volume["name"] for volume in pod.get("volumes", ())]
    claims = {claim["name"] for claim in pod.get("resourceClaims", ())}
    used: set[str] = set()
    for container in containers(pod):
        mounts = container.get("volumeMounts", ())
        used |= {mount["name"] for mount in mounts}
        ports = {port["name"] for port in container.get("ports", ())}
        probes = [probe for name, probe in container.items() if name.endswith("Probe")]
        yield from (
            f"no port {probe['httpGet']['port']}" for probe in probes if probe["httpGet"]["port"] not in ports
        )
        for key, entries in (("name", container.get("env", ())), ("mountPath", mounts)):
            seen = [entry[key] for entry in entries]
            yield from (f"{key} {each} twice" for each in {*seen} if seen.count(each) > 1)
        wanted = {claim["name"] for claim in container.get("resources", {}).get("claims", ())}
        yield from (f"no resource claim {each}" for each in wanted - claims)
    yield from (f"no volume {each}" for each in used - {*volumes})
    yield from (f"unused volume {each}" for each in {*volumes} - used)


def _unsafe(pod: Object) -> Iterator[str]:
    """Yield what the Pod Security Standard "restricted" refuses, and what this project wants beyond it."""
    if pod.get("automountServiceAccountToken") is not False:
        yield "has a service account's token"
    if pod.get("enableServiceLinks") is not False:
        yield "gets variables from Services"
    if {"hostNetwork", "hostPID", "hostIPC"} & pod.keys():
        yield "shares the node's namespaces"
    for volume in pod.get("volumes", ()):
        if not volume.keys() - {"name"} <= _VOLUMES:
            yield f"volume {volume['name']} is of a forbidden kind"
    for container in containers(pod):
        context = {**pod.get("securityContext", {}), **container.get("securityContext", {})}
        wanted = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        found = {name: context.get(name) for name in wanted}
        if found != wanted or not context.get("runAsUser"):
            yield f"container {container['name']} is not restricted: {found}"


def _strays(one: Object, objects: Sequence[Object]) -> Iterator[str]:
    """Yield references of an object to others that are not there."""
    spec = one.get("spec", {})
    deployments = {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "Deployment"}
    pods = [each["template"] for each in deployments.values()]
    selector = {
        "Deployment": lambda: spec["selector"]["matchLabels"],
        "NetworkPolicy": lambda: spec["podSelector"]["matchLabels"],
        "PodDisruptionBudget": lambda: spec["selector"]["matchLabels"],
        "PodMonitor": lambda: spec["selector"]["matchLabels"],
        "Service": lambda: spec["selector"],
    }.get(one["kind"], dict)()
    selected = [pod for pod in pods if selector.items() <= pod["metadata"]["labels"].items()]
    if selector and len(selected) != 1:
        yield f"selects {len(selected)} kinds of pods"
    known = {port["name"] for pod in selected for each in containers(pod["spec"]) for port in each["ports"]}
    ports = [port.get("targetPort", port.get("port")) for port in spec.get("ports", ())]
    ports += [port["port"] for rule in spec.get("ingress", ()) for port in rule["ports"]]
    ports += [endpoint["port"] for endpoint in spec.get("podMetricsEndpoints", ())]
    yield from (f"no port {port}" for port in ports if port not in known)
    if "scaleTargetRef" in spec:
        target = deployments.get(spec["scaleTargetRef"]["name"])
        if target is None or "replicas" in target:
            yield "scales nothing, or what has a number of replicas of its own"
    services = {each["metadata"]["name"] for each in objects if each["kind"] == "Service"}
    backends = [backend for rule in spec.get("rules", ()) for backend in rule.get("backendRefs", ())]
    yield from (f"no Service {each['name']}" for each in backends if each["name"] not in services)
    templates = {each["metadata"]["name"] for each in objects if each["kind"] == "ResourceClaimTemplate"}
    accounts = {each["metadata"]["name"] for each in objects if each["kind"] == "ServiceAccount"}
    for pod in _pods(one):
        claimed = [claim["resourceClaimTemplateName"] for claim in pod.get("resourceClaims", ())]
        yield from (f"no ResourceClaimTemplate {each}" for each in claimed if each not in templates)
        if accounts and pod.get("serviceAccountName", "") not in {*accounts, ""}:
            yield f"no ServiceAccount {pod['serviceAccountName']}"
