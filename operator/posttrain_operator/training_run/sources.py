"""The other runs that a recipe names, and what is used of them: found, waited for, or refused. Pure.

Documents may be applied in any order, and a run that failed may be replaced by one of the same name: nothing here is
final. What was resolved once is frozen in the recipe's ConfigMap, and nothing upstream changes it afterwards.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from posttrain_api import uri
from posttrain_api.artifact import ArtifactSummary, folder_name
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import Source
from posttrain_operator import merge
from posttrain_operator.actions import Manifest
from posttrain_operator.pod_waiting import condition

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


@dataclass(frozen=True)
class Upstream:
    """What there is of the runs that a run builds on."""

    runs: Mapping[str, Manifest] = field(default_factory=dict)
    """By name: those that it names itself, and those that they wait for."""
    merges: frozenset[str] = frozenset()
    """Names of the Jobs that merge their adapters."""


@dataclass(frozen=True)
class Blocked:
    """Why a run cannot begin, or not yet."""

    reason: Reason
    message: str
    is_stalled: bool = False
    """Waiting does not help; another run must change."""
    recheck_at: datetime | None = None
    to_merge: tuple[Manifest, ArtifactSummary] | None = None
    """The run, and the adapter of it, that no Job merges yet."""


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


def accepted(run: Manifest) -> ArtifactSummary | None:
    """The result of a run, where it may be used."""
    status = run.get("status") or {}
    if condition(run, "Accepted").get("status") != "True" or "artifact" not in status:
        return None
    return ArtifactSummary.model_validate(status["artifact"])


def resolve(
    name: str, wanted: Iterable[Reference], upstream: Upstream, *, created: datetime | None, now: datetime
) -> dict[str, Source] | Blocked:
    """What a run uses of others, by place; or the first thing that is in the way, the hopeless before the waiting."""
    references = list(wanted)
    circle = _cycle(name, references, upstream.runs)
    if circle:
        message = f"{' -> '.join(circle)}: each waits for the next; delete one and create it anew without its fromRun"
        return Blocked(Reason.REFERENCE_CYCLE, message, is_stalled=True)
    patience = (created or now) + PATIENCE
    found = {reference.path: _resolved(reference, upstream, patience=patience, now=now) for reference in references}
    blocked = [one for one in found.values() if isinstance(one, Blocked)]
    if blocked:
        return next((one for one in blocked if one.is_stalled), blocked[0])
    return {path: one for path, one in found.items() if isinstance(one, Source)}


def _cycle(name: str, wanted: Iterable[Reference], runs: Mapping[str, Manifest]) -> list[str]:
    """The shortest way from a run back to itself, over runs that are not accepted yet; empty where there is none."""
    ways = deque([name, reference.name] for reference in wanted)
    seen = set[str]()
    while ways:
        way = ways.popleft()
        last = way[-1]
        if last == name:
            return way
        if last not in seen and last in runs and accepted(runs[last]) is None:
            ways.extend([*way, reference.name] for reference in references(runs[last]["spec"]))
        seen.add(last)
    return []


def _resolved(reference: Reference, upstream: Upstream, *, patience: datetime, now: datetime) -> Source | Blocked:
    run, what = upstream.runs.get(reference.name), f"{reference.path}: TrainingRun {reference.name}"
    if run is None:
        return _absent(what, patience=patience, now=now)
    artifact = accepted(run)
    if artifact is None:
        return _unaccepted(what, run)
    chosen = checkpoint(artifact, run, reference.checkpoint)
    if chosen is None:
        return _without_checkpoint(what, run, reference.checkpoint)
    kinds, called = SUITABLE[reference.use]
    if chosen.kind not in kinds:
        message = f"{what} made an artifact of kind {chosen.kind}: name a run that made {called}"
        return Blocked(Reason.RUN_UNSUITABLE, message, is_stalled=True)
    if chosen.kind == "lora" and reference.use in ("base", "teacher"):
        return _merged(what, run, chosen, upstream)
    return Source(run=reference.name, uri=chosen.uri, digest=chosen.digest, kind=chosen.kind)


def _absent(what: str, *, patience: datetime, now: datetime) -> Blocked:
    if now < patience:
        return Blocked(Reason.WAITING_FOR_RUN, f"{what} does not exist yet", recheck_at=patience)
    return Blocked(Reason.RUN_NOT_FOUND, f"{what} does not exist: create it", is_stalled=True)


def _unaccepted(what: str, run: Manifest) -> Blocked:
    stalled = condition(run, "Stalled")
    if stalled.get("status") == "True":
        message = f"{what} failed: {stalled['reason']}: {stalled['message']}"
        return Blocked(Reason.RUN_FAILED, message, is_stalled=True)
    phase = (run.get("status") or {}).get("phase") or "Pending"
    return Blocked(Reason.WAITING_FOR_RUN, f"{what} is not accepted yet: {phase}")


def checkpoint(artifact: ArtifactSummary, run: Manifest, name: str | None) -> ArtifactSummary | None:
    """The result, or its named checkpoint; of a checkpoint only uri, digest, kind and base are its own."""
    if name is None:
        return artifact
    named = {found["name"]: found["digest"] for found in run["status"].get("checkpoints", [])}
    if name not in named:
        return None
    beside = artifact.uri.rstrip("/").rpartition("/")[0]
    return artifact.replace(uri=uri.child(beside, folder_name(named[name])), digest=named[name])


def _without_checkpoint(what: str, run: Manifest, name: str | None) -> Blocked:
    known = ", ".join(found["name"] for found in run["status"].get("checkpoints", [])) or "none"
    message = f"{what} has no checkpoint {name}: it has {known}; leave checkpoint out for the result itself"
    return Blocked(Reason.RUN_UNSUITABLE, message, is_stalled=True)


def _merged(what: str, run: Manifest, adapter: ArtifactSummary, upstream: Upstream) -> Source | Blocked:
    """The adapter's base with it merged in, which whoever needs it first has made."""
    name = run["metadata"]["name"]
    made = next((found for found in _merged_bases(run) if found["artifactDigest"] == adapter.digest), None)
    if made:
        return Source(run=name, uri=made["uri"], digest=adapter.digest, base_digest=made["digest"], kind=adapter.kind)
    job, failure = merge.job_name(name, adapter.digest), condition(run, "Merged")
    is_there = job in upstream.merges
    if is_there and failure.get("status") == "False" and f"Job {job} " in failure["message"]:
        return Blocked(Reason.MERGE_FAILED, f"{what}: {failure['message']}", is_stalled=True)
    message = f"{what}: Job {job} merges its adapter into its base"
    return Blocked(Reason.MERGING, message, to_merge=None if is_there else (run, adapter))


def _merged_bases(run: Manifest) -> list[dict[str, str]]:
    found: list[dict[str, str]] = run["status"].get("mergedBases", [])
    return found
