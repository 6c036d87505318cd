"""JSON schemas of what the chart makes, Kubernetes' kinds and others': what they do not know is refused."""

from __future__ import annotations

import ast
import functools
import json
import re
import site
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

VERSIONS = ("1.32.0", "1.33.0", "1.34.0", "1.35.0", "1.36.0", "1.37.0")
_PACKAGES = Path(site.getsitepackages()[0])
_CORE = "_definitions.json#/$defs/io.k8s.api.core.v1."
_WORDS = {"str": "string", "int": "integer", "bool": "boolean", "float": "number", "dict": "object"}
# Kinds whose packages describe them as Python classes: where.
_CLOUDCOIL = {
    "ScaledObject": "keda/v1alpha1.py",
    "PodMonitor": "prometheus_operator/v1.py",
    "PrometheusRule": "prometheus_operator/v1.py",
}
_KSERVE = {"ServingRuntime": "V1alpha1ServingRuntimeSpec", "InferenceService": "V1beta1InferenceServiceSpec"}
# No package describes what this one must not have: what the chart may use of it, by the Gateway API 1.4.
_GRPC_ROUTE = {
    "parentRefs": {
        "items": {"name": {}, "namespace": {}, "sectionName": {}, "port": {}, "group": {}, "kind": {}}
    },
    "hostnames": {"items": "string"},
    "rules": {
        "items": {
            "name": {},
            "matches": {"items": {"method": {"type": "string", "service": "string", "method": "string"}}},
            "backendRefs": {"items": {"name": "string", "port": "integer", "namespace": {}, "weight": {}}},
        }
    },
}


def errors(one: Mapping[str, Any], version: str) -> Iterator[str]:
    """Yield what a schema has against an object.

    Raises:
        LookupError: No schema is about it.
    """
    for error in _validator(one["apiVersion"], one["kind"], version).iter_errors(one):
        place = ".".join(map(str, error.absolute_path))
        yield f"{one['kind']} {one['metadata']['name']}: {place}: {error.message[:200]}"


@functools.cache
def _validator(api_version: str, kind: str, version: str) -> Draft202012Validator:
    folder = _kubernetes(version)
    registry = _definitions(version)
    group, _, name = api_version.rpartition("/")
    path = folder / f"{kind.lower()}-{'-'.join(filter(None, (group.partition('.')[0], name)))}.json"
    if path.is_file():
        return Draft202012Validator(json.loads(path.read_text()), registry=registry)
    spec = _custom_spec(kind)
    properties = {"apiVersion": {}, "kind": {}, "metadata": {"type": "object"}, "spec": spec}
    return Draft202012Validator(_strict(properties, required=["metadata", "spec"]), registry=registry)


def _kubernetes(version: str) -> Path:
    return Path(str(files("kubernetes_validate"))) / f"kubernetes-json-schema/v{version}-local-strict"


@functools.cache
def _definitions(version: str) -> Registry[Any]:
    told = json.loads((_kubernetes(version) / "_definitions.json").read_text())
    registry: Registry[Any] = Registry().with_resource("_definitions.json", DRAFT202012.create_resource(told))
    return registry.crawl()


def _custom_spec(kind: str) -> Mapping[str, Any]:
    if kind in _CLOUDCOIL:
        return _of_pydantic(_PACKAGES / "cloudcoil/models" / _CLOUDCOIL[kind], f"{kind}Spec")
    if kind in _KSERVE:
        return _of_openapi(_KSERVE[kind])
    if kind == "GRPCRoute":
        return _of_outline(_GRPC_ROUTE)
    raise LookupError(f"a schema must be known for every kind, got {kind}")


def _strict(properties: Mapping[str, Any], required: list[str]) -> Mapping[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _of_outline(outline: Any) -> Mapping[str, Any]:
    if isinstance(outline, str):
        return {"type": outline}
    if "items" in outline:
        return {"type": "array", "items": _of_outline(outline["items"])}
    return _strict({name: _of_outline(one) for name, one in outline.items()}, []) if outline else {}


@functools.cache
def _of_pydantic(path: Path, name: str) -> Mapping[str, Any]:
    """Return the schema of a class that a package of cloudcoil has; it is read, not run."""
    (found,) = ast.parse(_classes(path)[name]).body
    assert isinstance(found, ast.ClassDef)
    properties, required = {}, []
    for field in found.body:
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            annotation, own_name = field.annotation, field.target.id
            limits: dict[str, Any] = {}
            if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated":
                assert isinstance(annotation.slice, ast.Tuple)
                limits = _limits(annotation.slice.elts[1])
                annotation = annotation.slice.elts[0]
            json_name = limits.pop("alias", own_name)
            properties[json_name] = _of_annotation(path, annotation) | limits
            if field.value is None:
                required.append(json_name)
    assert properties, f"{name} in {path}"
    return _strict(properties, required)


@functools.cache
def _classes(path: Path) -> Mapping[str, str]:
    """Return the text of each class of a module, which is too large to be parsed as a whole."""
    blocks = re.split(r"^class (?=\w)", path.read_text(), flags=re.MULTILINE)[1:]
    return {re.match(r"\w+", block)[0]: f"class {block}" for block in blocks}  # type: ignore[index]


def _limits(call: ast.expr) -> dict[str, Any]:
    words = {"alias": "alias", "ge": "minimum", "le": "maximum", "pattern": "pattern"}
    assert isinstance(call, ast.Call)
    return {words[each.arg]: ast.literal_eval(each.value) for each in call.keywords if each.arg in words}


def _of_annotation(path: Path, node: ast.expr) -> dict[str, Any]:
    text = ast.unparse(node)
    if isinstance(node, ast.BinOp):  # X | Y
        either = [
            _of_annotation(path, side) for side in (node.left, node.right) if ast.unparse(side) != "None"
        ]
        return either[0] if len(either) == 1 else {"anyOf": either}
    if text in _WORDS:
        return {"type": _WORDS[text]}
    if isinstance(node, ast.Subscript):
        outer = ast.unparse(node.value)
        if outer == "Literal":
            return {"enum": [ast.literal_eval(each) for each in getattr(node.slice, "elts", [node.slice])]}
        if outer == "list":
            return {"type": "array", "items": _of_annotation(path, node.slice)}
        if outer == "Annotated":
            assert isinstance(node.slice, ast.Tuple)
            return _of_annotation(path, node.slice.elts[0])
        assert outer == "dict", text
        assert isinstance(node.slice, ast.Tuple)
        return {"type": "object", "additionalProperties": _of_annotation(path, node.slice.elts[1])}
    assert isinstance(node, ast.Name), text
    return {} if text in {"Any", "AwareDatetime"} else dict(_of_pydantic(path, text))


@functools.cache
def _of_openapi(name: str) -> Mapping[str, Any]:
    """Return the schema of a class of KServe's client, which is read, not run."""
    file = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    path = _PACKAGES / f"kserve/models/{file}.py"
    if not path.is_file():
        return {"not": {}}  # what the package does not describe, nobody may use
    text = path.read_text()
    tables = dict(re.findall(r"^    (openapi_types|attribute_map) = (\{[^}]*\})", text, re.MULTILINE))
    types, names = (ast.literal_eval(tables[table]) for table in ("openapi_types", "attribute_map"))
    return _strict({names[each]: _of_openapi_type(word) for each, word in types.items()}, [])


def _of_openapi_type(word: str) -> Mapping[str, Any]:
    if word in _WORDS:
        return {"type": _WORDS[word]}
    if found := re.fullmatch(r"list\[(.+)\]", word):
        return {"type": "array", "items": _of_openapi_type(found[1])}
    if found := re.fullmatch(r"dict\(str, (.+)\)", word):
        return {"type": "object", "additionalProperties": _of_openapi_type(found[1])}
    if word.startswith(("V1alpha1", "V1beta1")):
        return _of_openapi(word)
    if found := re.fullmatch(r"V1([A-Z]\w+)", word):
        return {"$ref": f"{_CORE}{found[1]}"}
    return {}
