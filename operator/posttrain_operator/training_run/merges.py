"""What became of the Jobs that merge a finished run's adapters into their base, as its status tells it. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from posttrain_api.artifact import digest_of
from posttrain_api.conditions import Reason, condition
from posttrain_api.trainer_contract import MergeConfig, Report
from posttrain_api.v1alpha1.training_run import TrainingRun
from posttrain_operator import merge, pod_waiting
from posttrain_operator.actions import Event, Manifest
from posttrain_operator.training_run import outcome, sources
from posttrain_operator.training_run.observe import JobSeen

MERGED = "Merged"


def status(run: Manifest, seen: Iterable[JobSeen], *, now: datetime) -> Manifest:
    """The status of a finished run with what its merges have made, and with what went wrong."""
    old: Manifest = run["status"]
    jobs = {found.job["metadata"]["name"]: found for found in seen if found.job}
    wanted = _wanted(run) if jobs else {}
    reports = {name: _report(jobs[name], config) for name, config in wanted.items() if name in jobs}
    bases = _bases(old, reports.values())
    failures = [text for name, report in reports.items() for text in _failures(name, jobs[name], report)]
    known = {"mergedBases": bases} if bases else {}
    return {**old, **known, "conditions": _conditions(run, bases, failures, now=now)}


def events(old: Manifest, new: Manifest) -> tuple[Event, ...]:
    """A merge that failed, once."""
    before, after = (pod_waiting.condition({"status": found}, MERGED) for found in (old, new))
    if after.get("status") != "False" or before.get("message") == after["message"]:
        return ()
    return (Event("Warning", Reason.MERGE_FAILED, after["message"]),)


def _wanted(run: Manifest) -> dict[str, MergeConfig]:
    """Name of each Job that may merge an adapter of this run -> what it was told."""
    result = sources.accepted(run)
    if result is None:
        return {}
    parsed = TrainingRun.model_validate({"metadata": run["metadata"], "spec": run["spec"]})
    named = (sources.checkpoint(result, run, found["name"]) for found in run["status"].get("checkpoints", []))
    adapters = [result, *filter(None, named)]
    return {merge.job_name(parsed.metadata.name, adapter.digest): merge.config(parsed, adapter) for adapter in adapters}


def _report(seen: JobSeen, config: MergeConfig) -> Report | None:
    """What the newest pod of a merge reported, of this very merge."""
    report = outcome.parsed((seen.container_state.get("terminated") or {}).get("message", ""))
    if report is None or (report.uid, report.recipe_digest) != (config.uid, digest_of(config.to_json())):
        return None
    return report


def _bases(old: Mapping[str, Any], reports: Iterable[Report | None]) -> list[dict[str, str]]:
    """The merged models known so far; the pods that reported them may be gone."""
    known = {found["artifactDigest"]: found for found in old.get("mergedBases", [])}
    made = (report.merged.to_json() for report in reports if report and report.merged)
    return list({**known, **{found["artifactDigest"]: found for found in made}}.values())


def _failures(name: str, seen: JobSeen, report: Report | None) -> Iterator[str]:
    if report and report.merged:
        return
    failed, complete = (pod_waiting.condition(seen.job or {}, type_) for type_ in ("Failed", "Complete"))
    again = "delete the Job to try again"
    if failed.get("status") == "True":
        said = report.failure.message if report and report.failure else failed.get("message") or "its pods failed"
        yield f"Job {name} failed: {said}; {again}"
    elif complete.get("status") == "True":
        yield f"Job {name} ended without a report of the merged model; {again}"


def _conditions(
    run: Manifest, bases: list[dict[str, str]], failures: list[str], *, now: datetime
) -> list[dict[str, Any]]:
    others = [known for known in run["status"]["conditions"] if known["type"] != MERGED]
    if not bases and not failures:
        return others
    holds, reason = not failures, Reason.MERGE_FAILED if failures else Reason.SUCCEEDED
    message = "; ".join(failures) or f"Merged into its base as {bases[-1]['digest']}."
    generation = run["metadata"]["generation"]
    new = condition(MERGED, holds, reason, message, generation=generation, now=now.replace(microsecond=0)).to_json()
    before = pod_waiting.condition(run, MERGED)
    if before.get("status") == new["status"]:
        new["lastTransitionTime"] = before["lastTransitionTime"]
    return [*others, new]
