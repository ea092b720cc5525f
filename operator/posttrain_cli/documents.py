"""The YAML documents of files, and which of them are ours."""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from posttrain_api.v1alpha1 import API_VERSION, GROUP, adapter_deployment, training_run
from posttrain_cli.failure import Failure, one_line

STDIN = "-"
SHORT_NAMES = {training_run.KIND: "trun", adapter_deployment.KIND: "adep"}
"""Kind -> its name in messages."""

Object = dict[str, Any]


@dataclass(frozen=True)
class Document:
    """One object of a file."""

    place: str
    """File and number, such as `runs.yaml, document 2`."""
    content: Object

    @property
    def kind(self) -> str:
        """Its kind, empty where it names none."""
        return str(self.content.get("kind") or "")

    @property
    def is_ours(self) -> bool:
        """Whether posttrain answers for it: its API group is ours, or it has one of our kinds and names no group."""
        group = str(self.content.get("apiVersion") or "").partition("/")[0]
        return group == GROUP or (not group and self.kind in SHORT_NAMES)

    @cached_property
    def metadata(self) -> Object:
        """Its metadata, empty where they are none."""
        found = self.content.get("metadata")
        return found if isinstance(found, dict) else {}

    @property
    def name(self) -> str:
        """Its name, empty where it has none."""
        return str(self.metadata.get("name") or "")

    @property
    def namespace(self) -> str:
        """Its namespace, empty where it is left to kubectl."""
        return str(self.metadata.get("namespace") or "")

    @property
    def label(self) -> str:
        """What to call it: `trun/dates`, `ConfigMap/dates`, or its place."""
        return f"{SHORT_NAMES.get(self.kind, self.kind)}/{self.name}" if self.kind and self.name else self.place

    def to_json(self) -> bytes:
        """As JSON, filled up with what the API server sets; a YAML date is the text that it looks like."""
        set_by_server = {"namespace": "default", "uid": "none"}
        content = {"apiVersion": API_VERSION, **self.content, "metadata": {**set_by_server, **self.metadata}}
        return json.dumps(content, default=str).encode()


def read(files: Iterable[str]) -> list[Document]:
    """Every document of these files (`-` is the standard input); Failure where one cannot be read or is no object."""
    return [document for file in files for document in _documents(file)]


def _documents(file: str) -> Iterator[Document]:
    name = "standard input" if file == STDIN else file
    try:
        parsed = list(yaml.safe_load_all(_text(file)))
    except (OSError, UnicodeDecodeError) as problem:
        raise Failure(f"{name}: cannot be read: {getattr(problem, 'strerror', None) or 'it is no text'}") from problem
    except yaml.YAMLError as problem:
        raise Failure(f"{name}: this is no YAML: {one_line(str(problem))}") from problem
    for number, content in enumerate(parsed, 1):
        if content is not None:
            yield from _objects(content, name if len(parsed) == 1 else f"{name}, document {number}")


def _objects(content: Any, place: str) -> Iterator[Document]:
    """The object itself, or those of a List."""
    if not isinstance(content, dict):
        raise Failure(f"{place}: this is no object: write apiVersion, kind, metadata and spec")
    if content.get("kind") == "List" and isinstance(content.get("items"), list):
        for number, item in enumerate(content["items"]):
            yield from _objects(item, f"{place}, items[{number}]")
    else:
        yield Document(place, content)


def _text(file: str) -> str:
    return sys.stdin.read() if file == STDIN else Path(file).read_text()
