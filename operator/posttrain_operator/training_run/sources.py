"""The other runs that a recipe names, and what is used of them: found, waited for, or refused. Pure.

Documents may be applied in any order, and a run that failed may be replaced by one of the same name: nothing here is
final. What was resolved once is frozen in the recipe's ConfigMap, and nothing upstream changes it afterwards.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from posttrain_api.artifact import ArtifactSummary
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import Source
from posttrain_operator import followed_run
from posttrain_operator.followed_run import FollowedRun, Missing

Use = Literal["base", "teacher", "dataset", "reward", "adapter"]

PLACES: Mapping[str, Use] = {
    "baseModel": "base",
    "distill.teacher": "teacher",
    "environment.dataset": "dataset",
    "evaluation.dataset": "dataset",
    "evaluation.retention.dataset": "dataset",
}
"""Where in a recipe a run may be named by fromRun -> what for; rewards and merges come on top."""
SUITABLE: Mapping[Use, tuple[frozenset[str], str]] = {
    "base": (frozenset({"lora", "model"}), "a model to start from, of a method such as sft"),
    "teacher": (frozenset({"lora", "model"}), "a model to learn from, of a method such as sft"),
    "dataset": (frozenset({"dataset"}), "a dataset, of method bestOf"),
    "reward": (frozenset({"reward-model"}), "a reward model, of method reward"),
    "adapter": (frozenset({"lora"}), "an adapter, of tuning.lora"),
}
"""Use -> kinds of artifacts, and how people call them."""
PATIENCE = timedelta(minutes=10)
"""How long after its creation a run waits in silence for one that does not exist."""


@dataclass(frozen=True)
class Reference:
    """A place of a recipe where another run is named."""

    path: str
    """As the keys of RunConfig.sources have it."""
    name: str
    checkpoint: str | None
    use: Use


def references(spec: Mapping[str, Any]) -> list[Reference]:
    """The places of a spec, or of a recipe, that name another run; of an invalid one, those that can be read."""
    named = [(path, _at(spec, f"{path}.fromRun"), use) for path, use in PLACES.items()]
    rewards = enumerate(_at(spec, "environment").get("rewards") or [])
    named += [(f"environment.rewards.{index}", _at(entry, "model.fromRun"), "reward") for index, entry in rewards]
    merged = enumerate(_at(spec, "merge").get("runs") or [])
    named += [(f"merge.runs.{index}", entry, "adapter") for index, entry in merged]
    return [Reference(path, run["name"], run.get("checkpoint"), use) for path, run, use in named if "name" in run]


def _at(value: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    for key in path.split("."):
        value = value.get(key) or {}
    return value


def resolve(
    name: str,
    wanted: Iterable[Reference],
    upstream: Mapping[str, FollowedRun],
    *,
    created: datetime | None,
    now: datetime,
) -> dict[str, Source] | Missing:
    """What a run uses of others, by place; or the first thing that is in the way, the hopeless before the waiting.

    `upstream` holds by name the runs that it names, and those that they wait for.
    """
    references = list(wanted)
    circle = _cycle(name, references, upstream)
    if circle:
        message = f"{' -> '.join(circle)}: each waits for the next; delete one and create it anew without its fromRun"
        return Missing(Reason.REFERENCE_CYCLE, message, is_failed=True)
    patience = (created or now) + PATIENCE
    found = {one.path: _resolved(one, upstream.get(one.name), patience=patience, now=now) for one in references}
    missing = [
        replace(one, message=f"{path}: {one.message}") for path, one in found.items() if isinstance(one, Missing)
    ]
    if missing:
        return next((one for one in missing if one.is_failed), missing[0])
    return {path: one for path, one in found.items() if isinstance(one, Source)}


def _cycle(name: str, wanted: Iterable[Reference], runs: Mapping[str, FollowedRun]) -> list[str]:
    """The shortest way from a run back to itself, over runs that are not accepted yet; empty where there is none."""
    ways = deque([name, reference.name] for reference in wanted)
    seen = set[str]()
    while ways:
        way = ways.popleft()
        last = way[-1]
        if last == name:
            return way
        if last not in seen and last in runs and followed_run.accepted(runs[last].manifest) is None:
            ways.extend([*way, reference.name] for reference in references(runs[last].manifest["spec"]))
        seen.add(last)
    return []


def _resolved(reference: Reference, run: FollowedRun | None, *, patience: datetime, now: datetime) -> Source | Missing:
    chosen = followed_run.result(reference.name, reference.checkpoint, run)
    if isinstance(chosen, Missing):
        return _patient(chosen, patience=patience, now=now)
    assert run is not None
    kinds, called = SUITABLE[reference.use]
    if chosen.kind not in kinds:
        message = f"TrainingRun {run.name} made an artifact of kind {chosen.kind}: name a run that made {called}"
        return Missing(Reason.RUN_UNSUITABLE, message, is_failed=True)
    if chosen.kind == "lora" and reference.use in ("base", "teacher"):
        return _on_merged(run, chosen, now=now)
    return Source(run=run.name, uri=chosen.uri, digest=chosen.digest, kind=chosen.kind)


def _patient(missing: Missing, *, patience: datetime, now: datetime) -> Missing:
    """A run that is not there may come, in whatever order the documents are applied; after a while it is missed."""
    if missing.reason is not Reason.RUN_NOT_FOUND:
        return missing
    if now < patience:
        message = f"{missing.message} yet"
        return replace(missing, reason=Reason.WAITING_FOR_RUN, message=message, recheck_at=patience)
    return replace(missing, message=f"{missing.message}: create it", is_failed=True)


def _on_merged(run: FollowedRun, adapter: ArtifactSummary, *, now: datetime) -> Source | Missing:
    """The adapter's base with it merged in."""
    made = followed_run.merged(run, adapter, now=now)
    if isinstance(made, Missing):
        return made
    return Source(run=run.name, uri=made.uri, digest=adapter.digest, base_digest=made.digest, kind=adapter.kind)
