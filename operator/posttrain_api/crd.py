"""CustomResourceDefinitions and their reference, generated from the models by `python -m posttrain_api.crd`.

`--check` writes nothing and fails where a file is not current.
Pydantic's JSON schema is not legal in a CRD: references are inlined, titles and additionalProperties: false dropped, an
optional field is absent or typed, exclusive bounds take their boolean form.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from posttrain_api import reference
from posttrain_api.model import Model
from posttrain_api.v1alpha1 import GROUP, VERSION, adapter_deployment, training_run

Schema = dict[str, Any]


class Column(NamedTuple):
    """A column of `kubectl get`; priority 1 is shown with `-o wide`."""

    name: str
    json_path: str
    type: str = "string"
    priority: int = 0


class Resource(NamedTuple):
    """One kind and how it is shown."""

    model: type[Model]
    kind: str
    plural: str
    short_name: str
    columns: tuple[Column, ...]
    scale: dict[str, str] | None = None


AGE = Column("Age", ".metadata.creationTimestamp", "date")

RESOURCES = (
    Resource(
        training_run.TrainingRun,
        training_run.KIND,
        training_run.PLURAL,
        "trun",
        (
            Column("Method", ".spec.method"),
            Column("Phase", ".status.phase"),
            Column("Progress", ".status.display.progress"),
            Column("Metric", ".status.display.metric"),
            Column("ETA", ".status.display.eta"),
            AGE,
            Column("Step", ".status.display.step", priority=1),
            Column("Gate", ".status.display.gate", priority=1),
            Column("Artifact", ".status.artifact.digest", priority=1),
            Column("Reason", ".status.display.reason", priority=1),
        ),
    ),
    Resource(
        adapter_deployment.AdapterDeployment,
        adapter_deployment.KIND,
        adapter_deployment.PLURAL,
        "adep",
        (
            Column("Base", ".status.display.base"),
            Column("Adapters", ".status.display.adapters"),
            Column("Replicas", ".status.display.replicas"),
            Column("Ready", ".status.display.ready"),
            Column("Reason", ".status.display.reason"),
            AGE,
        ),
        {
            "specReplicasPath": ".spec.replicas",
            "statusReplicasPath": ".status.replicas",
            "labelSelectorPath": ".status.selector",
        },
    ),
)


def structural(schema: Schema, definitions: Schema) -> Schema:
    """A JSON schema of pydantic as a structural schema of Kubernetes."""
    schema = _resolved(schema, definitions)
    found: Schema = {}
    for key, value in schema.items():
        if key == "properties":
            found[key] = {name: structural(inner, definitions) for name, inner in value.items()}
        elif key in ("items", "additionalProperties"):
            if isinstance(value, dict):
                found[key] = structural(value, definitions)
        elif key in ("exclusiveMinimum", "exclusiveMaximum"):
            found[key.removeprefix("exclusive").lower()] = value
            found[key] = True
        elif key == "const":
            found["enum"] = [value]
        elif key == "description":
            found[key] = " ".join(value.split())
        elif key == "default":
            if value is not None:
                found[key] = _given(value)
        elif key not in ("title", "$defs"):
            found[key] = value
    return _typed(found)


def _resolved(schema: Schema, definitions: Schema) -> Schema:
    """The schema with its reference and its `or null` taken away; what the field says wins over what its type says."""
    outer = {key: value for key, value in schema.items() if key not in ("$ref", "anyOf")}
    if "$ref" in schema:
        return _resolved({**definitions[schema["$ref"].rsplit("/", 1)[1]], **outer}, definitions)
    if "anyOf" not in schema:
        return schema
    choices = [choice for choice in schema["anyOf"] if choice != {"type": "null"}]
    assert len(choices) == 1, f"a structural schema has no unions: {schema}"
    # A map's values have no field of their own that could be absent.
    nullable = {} if "default" in outer else {"nullable": True}
    return _resolved({**choices[0], **outer, **nullable}, definitions)


def _given(value: Any) -> Any:
    """A default without its absent fields. It is written in full: the API server judges it before it fills it."""
    if isinstance(value, dict):
        return {key: _given(inner) for key, inner in value.items() if inner is not None}
    return value


def _typed(schema: Schema) -> Schema:
    if schema.get("type") == "integer":
        return {**schema, "format": "int64"}
    if schema.get("type") == "object" and "properties" not in schema and "additionalProperties" not in schema:
        return {**schema, "x-kubernetes-preserve-unknown-fields": True}
    return schema


def definition(resource: Resource) -> dict[str, Any]:
    """The CustomResourceDefinition of one kind."""
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _root_schema(resource.model)},
        "subresources": {"status": {}, **({"scale": resource.scale} if resource.scale else {})},
        "additionalPrinterColumns": [_column(column) for column in resource.columns],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{resource.plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": resource.kind,
                "listKind": f"{resource.kind}List",
                "plural": resource.plural,
                "singular": resource.kind.lower(),
                "shortNames": [resource.short_name],
                "categories": ["posttrain"],
            },
            "versions": [version],
        },
    }


def _root_schema(model: type[Model]) -> Schema:
    raw = model.model_json_schema(by_alias=True)
    schema = structural(raw, raw.get("$defs", {}))
    properties = schema["properties"]
    # The API server owns metadata; a new object's status must not look as if it had been observed (kstatus).
    properties["metadata"] = {"type": "object"}
    properties["status"] = {**_without_defaults(properties["status"]), "default": {"observedGeneration": -1}}
    head = {name: {"type": "string"} for name in ("apiVersion", "kind")}
    return {**schema, "properties": {**head, **properties}, "required": ["spec"]}


def _without_defaults(schema: Any) -> Any:
    """A status is what was written, nothing else."""
    if isinstance(schema, dict):
        return {key: _without_defaults(inner) for key, inner in schema.items() if key != "default"}
    return schema


def _column(column: Column) -> dict[str, Any]:
    shown = {"name": column.name, "jsonPath": column.json_path, "type": column.type}
    return {**shown, "priority": column.priority} if column.priority else shown


def to_yaml(value: Any) -> str:
    """A JSON value as block YAML: keys plain, strings quoted as in JSON, so that no parser can take them otherwise."""
    return "# GENERATED by `make generate` from operator/posttrain_api. Do not edit.\n" + "".join(_lines(value, ""))


def _lines(value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _entry(f"{indent}{key}:", inner, indent + "  ")
        return
    for inner in value:
        if not _is_nested(inner):
            yield f"{indent}- {json.dumps(inner, ensure_ascii=False)}\n"
            continue
        first, *rest = _lines(inner, indent + "  ")
        yield f"{indent}- {first.lstrip()}"
        yield from rest


def _entry(head: str, value: Any, indent: str) -> Iterator[str]:
    if _is_nested(value):
        yield f"{head}\n"
        yield from _lines(value, indent)
    else:
        yield f"{head} {json.dumps(value, ensure_ascii=False)}\n"


def _is_nested(value: Any) -> bool:
    return isinstance(value, dict | list) and bool(value)


def generated(root: Path) -> dict[Path, str]:
    """Every generated file below the project's root, with its text."""
    texts = {f"{resource.plural}.yaml": to_yaml(definition(resource)) for resource in RESOURCES}
    folders = (root / "crds", root / "charts" / "posttrain" / "files" / "crds")
    manifests = {folder / name: text for folder in folders for name, text in texts.items()}
    pages = {root / "docs" / "api" / f"{r.kind.lower()}.md": reference.page(definition(r)) for r in RESOURCES}
    return manifests | pages


def main() -> int:
    """Write the files, or compare them; 1 where one is not current."""
    parser = argparse.ArgumentParser(prog="python -m posttrain_api.crd", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is not current")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the project's root")
    arguments = parser.parse_args()
    files = generated(arguments.root)
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    if arguments.check:
        for path in stale:
            print(f"{path} is not current: run `make generate`", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files[path])
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
