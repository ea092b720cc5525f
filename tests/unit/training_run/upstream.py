"""Runs that another run names, and a run that starts from one of them."""

from datetime import timedelta
from typing import Any

from tests.unit.training_run.builders import DIGEST, NOW, Change, World, run, text, training_report

from posttrain_operator.actions import Manifest
from posttrain_operator.followed_run import FollowedRun
from posttrain_operator.jobs import JobSeen

BASE = "sha256:" + "b" * 64
MERGED = {"artifactDigest": DIGEST, "uri": "pvc://posttrain-artifacts/sft/base", "digest": BASE}


def other(name: str = "sft", *, kind: str = "lora", spec: Manifest | None = None, **status: Any) -> Manifest:
    """An accepted run with a result of this kind."""
    artifact = {**training_report()["artifact"], "kind": kind}
    accepted = {"type": "Accepted", "status": "True", "reason": "NoGates", "message": ""}
    metadata = {"name": name, "namespace": "team", "uid": f"uid-of-{name}", "generation": 1}
    known = {"phase": "Succeeded", "conditions": [accepted], "artifact": artifact, **status}
    return {"metadata": metadata, "spec": {**run()["spec"], **(spec or {})}, "status": known}


def unaccepted(name: str = "sft", *, stalled: str = "", from_run: str = "") -> Manifest:
    """A run that is not accepted, or never will be."""
    found = [{"type": "Stalled", "status": "True", "reason": stalled, "message": "so"}] if stalled else []
    spec = {"baseModel": {"fromRun": {"name": from_run}}} if from_run else {}
    manifest = other(name, spec=spec, phase="Training", conditions=found)
    del manifest["status"]["artifact"]
    return manifest


def upstream(*runs: Manifest, merges: dict[str, JobSeen] | None = None) -> Change:
    """These runs are there, with the Jobs that merge their adapters."""
    found = {one["metadata"]["name"]: FollowedRun(one, merges or {}) for one in runs}
    return lambda world: world.see(upstream=found)


def child(*runs: Manifest, base: Manifest | None = None, age: int = 0, name: str = "dates", **spec: Any) -> World:
    """A run that starts from another's result, beside these runs, after its first plan."""
    manifest = run(preflight="Skip", baseModel={"fromRun": base or {"name": "sft"}}, **spec)
    manifest["metadata"] |= {"name": name, "creationTimestamp": text(NOW - timedelta(seconds=age))}
    world = World(manifest)
    world.step(upstream(*runs))
    return world
