"""What is wrong between documents: results that no run makes, and runs that wait for each other in a circle. Pure."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Any

from posttrain_api.v1alpha1 import training_run
from posttrain_cli.documents import Document
from posttrain_cli.faults import Fault, Path, written

Name = tuple[str, str]
"""Namespace (empty where it is left to kubectl) and name of a TrainingRun."""


@dataclass(frozen=True)
class Reference:
    """Where a document names a run whose result it uses."""

    location: Path
    run: str

    @property
    def path(self) -> str:
        """The place, as people write it."""
        return written(self.location)


def references(content: Any, location: Path = ()) -> Iterator[Reference]:
    """Every run that a document names: at each `fromRun`, and in `merge.runs`."""
    if isinstance(content, list):
        for number, inner in enumerate(content):
            yield from references(inner, (*location, number))
    elif isinstance(content, dict):
        for key, inner in content.items():
            here = (*location, key)
            if key == "fromRun" or here[:3] == ("spec", "merge", "runs"):
                yield from _named(inner, here)
            else:
                yield from references(inner, here)


def _named(value: Any, location: Path) -> Iterator[Reference]:
    for number, inner in enumerate(value if isinstance(value, list) else [value]):
        place = (*location, number) if isinstance(value, list) else location
        if isinstance(inner, dict) and inner.get("name"):
            yield Reference((*place, "name"), str(inner["name"]))


def faults(documents: Sequence[Document], *, known: Collection[str] = ()) -> dict[int, list[Fault]]:
    """Index of a document -> what is wrong between it and the others, whatever their order.

    A run counts as there where it is among the documents or among the known names.
    """
    runs = {_name(document): index for index, document in enumerate(documents) if _is_run(document)}
    found: dict[int, list[Fault]] = {}
    for index, document in enumerate(documents):
        if document.is_ours:
            own = [*_missing(document, runs, known), *_twice(document, index, documents)]
            found |= {index: own} if own else {}
    for name, fault in _cycle(documents, runs):
        found.setdefault(runs[name], []).append(fault)
    return found


def _missing(document: Document, runs: Mapping[Name, int], known: Collection[str]) -> Iterator[Fault]:
    for reference in references(document.content):
        if (document.namespace, reference.run) not in runs and reference.run not in known:
            message = f"no TrainingRun {reference.run} here: add it, or say --known {reference.run} where it exists"
            yield Fault(reference.path, message)


def _twice(document: Document, index: int, documents: Sequence[Document]) -> Iterator[Fault]:
    """kubectl would let the later one of the same name win."""
    for other in documents[:index]:
        if document.name and (other.kind, _name(other)) == (document.kind, _name(document)):
            yield Fault("metadata.name", f"{other.place} has the same name: choose another")
            return


def _cycle(documents: Sequence[Document], runs: Mapping[Name, int]) -> Iterator[tuple[Name, Fault]]:
    """The runs of a circle, each with the reference that continues it; where there are several circles, of one."""
    needed = {name: list(references(documents[index].content)) for name, index in runs.items()}
    graph = {name: {(name[0], reference.run) for reference in found} for name, found in needed.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # From each node to one that needs it.
        circle: list[Name] = list(reversed(error.args[1]))
        around = " → ".join(name for _, name in circle)
        for name, following in pairwise(circle):
            place = next(reference.path for reference in needed[name] if reference.run == following[1])
            yield name, Fault(place, f"the runs wait for each other for ever ({around}): name a run before them")


def _is_run(document: Document) -> bool:
    return document.is_ours and document.kind == training_run.KIND


def _name(document: Document) -> Name:
    return document.namespace, document.name
