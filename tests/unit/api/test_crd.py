"""The generator makes legal, documented schemas; what only an API server can judge is judged in tests/api_server."""

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from posttrain_api import crd
from posttrain_api.v1alpha1.training_run import TrainingRunSpec

DEFINITIONS = {resource.kind: crd.definition(resource) for resource in crd.RESOURCES}


def root(kind: str) -> dict[str, Any]:
    return DEFINITIONS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def walk(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from walk(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from walk(schema[key], f"{path}[]")


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_every_field_is_described_and_typed(kind: str):
    ours = {"apiVersion", "kind", "metadata"}
    fields = [item for item in walk(root(kind), "") if item[0] and item[0][1:] not in ours]
    assert [path for path, schema in fields if "type" not in schema] == []
    assert [path for path, schema in fields if not path.endswith("[]") and "description" not in schema] == []


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_no_key_is_left_that_a_structural_schema_refuses(kind: str):
    refused = {"$ref", "$defs", "title", "anyOf", "oneOf", "const", "discriminator"}
    found = [(path, key) for path, schema in walk(root(kind), "") for key in schema if key in refused]
    found += [(path, "false") for path, schema in walk(root(kind), "") if schema.get("additionalProperties") is False]
    assert found == []


def test_a_new_object_has_not_been_observed():
    assert root("TrainingRun")["properties"]["status"]["default"] == {"observedGeneration": -1}


def test_every_field_of_the_recipe_is_immutable():
    rules = root("TrainingRun")["properties"]["spec"]["x-kubernetes-validations"]
    messages = {rule["message"].split()[0] for rule in rules if "oldSelf" in rule["rule"]}
    operations = {"checkpoints", "resources", "podTemplate", "deadlineSeconds", "ttlSecondsAfterFinished"}
    fields = {field.alias for field in TrainingRunSpec.model_fields.values()}
    assert messages == fields - operations


@pytest.mark.parametrize(
    "value",
    [
        pytest.param({"a": {"b": [], "c": {}}}, id="empty list and map"),
        pytest.param({"a": [{"b": 1, "c": [1, 2]}, "yes", None, 1.5]}, id="lists of maps"),
        pytest.param({"a": [[1], [{"b": "x: y # z"}]]}, id="lists of lists"),
        pytest.param(DEFINITIONS["TrainingRun"], id="a whole definition"),
    ],
)
def test_yaml_says_what_was_meant(value: Any):
    assert yaml.safe_load(crd.to_yaml(value)) == value
