"""What became of the Jobs that merge a finished run's adapters into their base, as its status tells it. Pure.

Who waits for a merge follows this status: each change of the condition Merged wakes it.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from posttrain_api.conditions import Reason, condition
from posttrain_operator import followed_run, merge, pod_waiting
from posttrain_operator.actions import Event, Manifest
from posttrain_operator.jobs import JobSeen
from posttrain_operator.merge import Outcome

MERGED = "Merged"


def outcomes(run: Manifest, seen: Mapping[str, JobSeen], *, now: datetime) -> list[Outcome]:
    """Where each merge of a finished run stands."""
    result = followed_run.accepted(run)
    if result is None or not seen:
        return []
    named = (followed_run.checkpoint(result, digest) for digest in followed_run.checkpoints(run).values())
    adapters = {merge.job_name(run["metadata"]["name"], adapter.digest): adapter for adapter in (result, *named)}
    known = ((seen[name], adapter) for name, adapter in adapters.items() if name in seen)
    return [merge.outcome(job, merge.config(run, adapter), now=now) for job, adapter in known]


def status(run: Manifest, found: Iterable[Outcome], *, now: datetime) -> Manifest:
    """The status of a finished run with what its merges have made, and with what is in the way of others."""
    known = list(found)
    bases = _bases(run, known)
    conditions = _conditions(run, bases, known, now=now)
    return {**run["status"], **({"mergedBases": bases} if bases else {}), "conditions": conditions}


def events(old: Manifest, new: Manifest) -> tuple[Event, ...]:
    """A merge that failed, once."""
    before, after = (pod_waiting.condition({"status": found}, MERGED) for found in (old, new))
    if after.get("status") != "False" or before.get("message") == after["message"]:
        return ()
    return (Event("Warning", Reason.MERGE_FAILED, after["message"]),)


def _bases(run: Manifest, found: Iterable[Outcome]) -> list[dict[str, str]]:
    """The merged models known so far; the pods that reported them may be gone."""
    made = [outcome.merged for outcome in found if outcome.merged]
    by_adapter = {base.artifact_digest: base.to_json() for base in (*followed_run.merged_bases(run), *made)}
    return list(by_adapter.values())


def _conditions(
    run: Manifest, bases: list[dict[str, str]], found: list[Outcome], *, now: datetime
) -> list[dict[str, Any]]:
    others = [known for known in run["status"]["conditions"] if known["type"] != MERGED]
    said = _said(bases, found)
    if said is None:
        return others
    generation = run["metadata"]["generation"]
    new = condition(MERGED, *said, generation=generation, now=now.replace(microsecond=0)).to_json()
    before = pod_waiting.condition(run, MERGED)
    if before.get("status") == new["status"]:
        new["lastTransitionTime"] = before["lastTransitionTime"]
    return [*others, new]


def _said(bases: list[dict[str, str]], found: list[Outcome]) -> tuple[bool | None, Reason, str] | None:
    """Whether everything is merged that somebody has asked for, and why not; None where nobody has."""
    failed = [outcome.message for outcome in found if outcome.state == "Failed"]
    merging = [outcome.message for outcome in found if outcome.state == "Merging"]
    if failed:
        return False, Reason.MERGE_FAILED, "; ".join(failed)
    if merging:
        return None, Reason.MERGING, "; ".join(merging)
    return (True, Reason.SUCCEEDED, f"Merged into its base as {bases[-1]['digest']}.") if bases else None
