"""What is wrong with one document, each fault with its path in the document and what to write instead. Pure."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from posttrain_api import crd
from posttrain_api.v1alpha1 import API_VERSION
from posttrain_api.v1alpha1.adapter_deployment import AdapterDeployment
from posttrain_api.v1alpha1.training_run import TrainingRun
from posttrain_cli.documents import Document

MODELS: Mapping[str, type[TrainingRun] | type[AdapterDeployment]] = {
    resource.kind: resource.model  # type: ignore[misc]
    for resource in crd.RESOURCES
}
"""Kind -> the model that its documents must fit."""
MAX_NAME_LENGTH = 40
_SET_BY_SERVER = ("metadata", "status")

Path = tuple[int | str, ...]


@dataclass(frozen=True)
class Fault:
    """One thing to change."""

    path: str
    """Such as spec.environment.rewards[0].weight."""
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def faults(document: Document) -> list[Fault]:
    """Everything that is wrong with a document of one of our kinds, as far as it can be told from it alone."""
    head = list(_head(document))
    if head:
        return head
    try:
        parsed(document)
    except ValidationError as error:
        return [fault for details in error.errors() for fault in _told(document.kind, details)]
    return list(_repeated(document.content, schema(document.kind), ()))


def _head(document: Document) -> Iterator[Fault]:
    if document.content.get("apiVersion") != API_VERSION:
        yield Fault("apiVersion", f"write {API_VERSION}")
    if document.kind not in MODELS:
        yield Fault("kind", f"{document.kind or 'it'} is none of ours: write {_one_of(MODELS)}")
    if not document.name:
        yield Fault("metadata.name", "is missing: write a name")
    elif len(document.name) > MAX_NAME_LENGTH:
        yield Fault("metadata.name", f"is longer than {MAX_NAME_LENGTH} characters: write a shorter name")


def _told(kind: str, details: ErrorDetails) -> Iterator[Fault]:
    """A validator may name several faults at once, and a patch's fault names the field below it."""
    location = tuple(part for part in details["loc"] if part != "[key]")
    path = written(location) or "document"
    if details["type"] == "value_error":
        for sentence in str(details["ctx"]["error"]).split("; "):
            yield Fault(path, sentence)
        return
    yield Fault(path, _sentence(kind, details, location))


def _sentence(kind: str, details: ErrorDetails, location: Path) -> str:
    match details["type"]:
        case "extra_forbidden":
            return _unknown(str(location[-1]), known_fields(kind, location[:-1]))
        case "missing":
            return "is missing: write it"
        case "literal_error":
            return f"{details['input']!r} is not possible: write {details['ctx']['expected']}"
        case "string_pattern_mismatch":
            return f"{details['input']!r} is not possible: write something of the form {details['ctx']['pattern']}"
    given = details["input"]
    shown = f"{given!r}: " if isinstance(given, str | int | float) else ""
    return f"{shown}{details['msg'][:1].lower()}{details['msg'][1:]}"


def _unknown(name: str, known: Iterable[str]) -> str:
    possible = sorted(known)
    near = get_close_matches(name.lower(), [field.lower() for field in possible], n=1, cutoff=0.6)
    meant = [field for field in possible if field.lower() in near]
    if meant:
        return f"there is no such field: write {meant[0]}"
    return f"there is no such field: write {_one_of(possible)}" if possible else "there is no such field: remove it"


def _one_of(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def written(location: Path) -> str:
    """A path as people write it: `spec.adapters[1].name`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return "".join(parts).removeprefix(".")


@cache
def schema(kind: str) -> Mapping[str, Any]:
    """The structural schema of a kind, as its CustomResourceDefinition has it."""
    resource = next(resource for resource in crd.RESOURCES if resource.kind == kind)
    found: Mapping[str, Any] = crd.definition(resource)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def known_fields(kind: str, location: Path) -> list[str]:
    """The fields that an object at this place may have."""
    found = schema(kind)
    for part in location:
        inner = found.get("items") if isinstance(part, int) else found.get("properties", {}).get(part)
        found = inner or {}
    return list(found.get("properties", {}))


def _repeated(value: Any, schema: Mapping[str, Any], location: Path) -> Iterator[Fault]:
    """Entries that the API server would refuse because an earlier one of their list has the same key."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if not location and name in _SET_BY_SERVER:
                continue
            yield from _repeated(inner, schema.get("properties", {}).get(name, {}), (*location, name))
    elif isinstance(value, list):
        yield from _repeated_entries(value, _identity(schema), location)
        for number, inner in enumerate(value):
            yield from _repeated(inner, schema.get("items", {}), (*location, number))


def _identity(schema: Mapping[str, Any]) -> Callable[[Any], str] | None:
    """How entries of a list are told apart, where they must be."""
    if schema.get("x-kubernetes-list-type") == "set":
        return repr
    keys = schema.get("x-kubernetes-list-map-keys")
    return (lambda entry: ", ".join(str(entry.get(key)) for key in keys)) if keys else None


def _repeated_entries(entries: list[Any], identity: Callable[[Any], str] | None, location: Path) -> Iterator[Fault]:
    seen: set[str] = set()
    for number, entry in enumerate(entries):
        name = identity(entry) if identity else str(number)
        if name in seen:
            yield Fault(written((*location, number)), f"{name} stands in this list already: choose another")
        seen.add(name)


def parsed(document: Document) -> BaseModel:
    """The document as its model. Raises ValidationError, so ask for its faults first."""
    # As strict as the API server: "3" is no number, and a field has no other name than its own.
    return MODELS[document.kind].model_validate_json(document.to_json(), strict=True, by_alias=True, by_name=False)
