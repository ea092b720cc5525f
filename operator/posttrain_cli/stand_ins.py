"""What stands in, before anything is trained, for the results of other runs that a run names. Pure.

A result has the shapes, tokenizer and template of the model that its chain begins with, which is all that preflight
reads of a model. Rows that a run is to make, adapters and rewards have no such stand-in.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from posttrain_api.v1alpha1.methods import TRAINING
from posttrain_cli import between
from posttrain_cli.documents import Document
from posttrain_cli.failure import Failure

Object = dict[str, Any]
LIKE_THEIR_BASE = (TRAINING - {"reward"}) | {"merge"}
"""Methods whose result is a language model of their base's shapes."""


def standing_in(run: Document, runs: Mapping[str, Document]) -> Document:
    """The run without a `fromRun`; runs: name -> document. Failure names a result that nothing can stand in for."""
    content = deepcopy(run.content)
    spec = content["spec"]
    if "fromRun" in spec["baseModel"]:
        root, template = _root(run, "spec.baseModel.fromRun", spec["baseModel"], runs)
        spec["baseModel"] = {"uri": root, "tuned": True}
        if template:
            spec["environment"].setdefault("chatTemplate", template)
    teacher = spec.get("distill", {}).get("teacher", {})
    if "fromRun" in teacher:
        spec["distill"]["teacher"] = {"uri": _root(run, "spec.distill.teacher.fromRun", teacher, runs)[0]}
    for reference in between.references(content):
        raise Failure(
            f"{run.label}: {reference.path}: what {reference.run} makes is not here before it has run: see the "
            "estimate of the cluster's preflight by `kubectl posttrain preflight`"
        )
    return Document(run.place, content)


def _root(run: Document, path: str, named: Object, runs: Mapping[str, Document]) -> tuple[str, Object | None]:
    """URI of the model that a chain begins with, and the chat template that was given last on the way from there."""
    template: Object | None = None
    seen = {run.name}
    while "uri" not in named:
        name = named["fromRun"]["name"]
        if name in seen or name not in runs or runs[name].content["spec"]["method"] not in LIKE_THEIR_BASE:
            raise Failure(
                f"{run.label}: {path}: the model that {name} makes is not known here: add that run to the file, or "
                "write baseModel.uri for the estimate"
            )
        seen.add(name)
        spec = runs[name].content["spec"]
        template = template or spec["environment"].get("chatTemplate")
        named = spec["baseModel"]
    return named["uri"], template
