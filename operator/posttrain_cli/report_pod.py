"""The short-lived pod that reads a run's preflight.json from the output's claim, and what becomes of it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from posttrain_api import labels
from posttrain_api.trainer_contract import CONTAINER
from posttrain_api.uri import CLAIMS_ROOT, child, claim_of, local_path
from posttrain_cli.failure import Failure, one_line

REPORT_FILE = "preflight.json"
CONTAINER_NAME = "report"
LIFE_SECONDS = 600
"""Ends the pod where the command could not delete it."""
_COPIED = frozenset(
    {
        "affinity",
        "imagePullSecrets",
        "nodeSelector",
        "priorityClassName",
        "runtimeClassName",
        "securityContext",
        "serviceAccountName",
        "tolerations",
    }
)
"""What the pod has in common with that of the run's preflight: where it may run, and with which rights."""

Object = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """How a pod ended."""

    is_good: bool
    why: str
    """Its last words, where it is not."""


def pod(run: Mapping[str, Any], job: Mapping[str, Any]) -> Object:
    """The pod: the image and place of the run's preflight Job, the output's claim read-only, no token, one `cat`."""
    metadata, uri = run["metadata"], run["spec"]["output"]["uri"]
    template = job["spec"]["template"]["spec"]
    trainer = next(container for container in template["containers"] if container["name"] == CONTAINER)
    mount = _output_mount(trainer, uri)
    path = local_path(child(uri, metadata["name"], metadata["uid"], REPORT_FILE))
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": f"{metadata['name']}-report-",
            # The run's NetworkPolicy holds for it too; without the label of the operator's own it is not the run's.
            "labels": {labels.TRAINING_RUN: metadata["name"], labels.COMPONENT: "report"},
        },
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": LIFE_SECONDS,
            "terminationGracePeriodSeconds": 0,
            "containers": [_container(trainer, mount, str(path))],
            "volumes": [volume for volume in template["volumes"] if volume["name"] == mount["name"]],
            **{key: value for key, value in template.items() if key in _COPIED},
        },
    }


def _output_mount(trainer: Mapping[str, Any], uri: str) -> Object:
    wanted = str(CLAIMS_ROOT / str(claim_of(uri)))
    found = next(mount for mount in trainer["volumeMounts"] if mount["mountPath"] == wanted)
    return {"name": found["name"], "mountPath": wanted, "readOnly": True}


def _container(trainer: Mapping[str, Any], mount: Object, path: str) -> Object:
    return {
        "name": CONTAINER_NAME,
        "image": trainer["image"],
        "imagePullPolicy": trainer["imagePullPolicy"],
        "command": ["cat", path],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        "securityContext": trainer["securityContext"],
        "volumeMounts": [mount],
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def newest(jobs: list[Object], run: str) -> Object:
    """The last of a run's preflight Jobs; Failure where there is none."""
    if not jobs:
        raise Failure(f"trun/{run} has no preflight Job: preflight was skipped, or has not begun")
    return max(jobs, key=lambda job: str(job["metadata"]["creationTimestamp"]))


def check_validated(run: Mapping[str, Any]) -> None:
    """Failure where preflight is not done, or refused the run: then there is no report."""
    name, conditions = run["metadata"]["name"], (run.get("status") or {}).get("conditions") or []
    found = next((condition for condition in conditions if condition["type"] == "Validated"), None)
    if found is None:
        raise Failure(f"trun/{name}: preflight has not begun")
    if found["status"] != "True":
        raise Failure(f"trun/{name} has no report: {found['reason']}: {one_line(found.get('message') or '')}")


def verdict(pod: Mapping[str, Any]) -> Verdict | None:
    """How the pod ended; None while it has not."""
    status = pod.get("status") or {}
    if status.get("phase") == "Succeeded":
        return Verdict(True, "")
    if status.get("phase") != "Failed":
        return None
    ends = [(state.get("state") or {}).get("terminated") or {} for state in status.get("containerStatuses") or []]
    said = next((end["message"] for end in ends if end.get("message")), status.get("message") or "it failed")
    return Verdict(False, one_line(said))


def waits_for(pod: Mapping[str, Any]) -> str:
    """Why it has not ended, as far as Kubernetes says."""
    status = pod.get("status") or {}
    for state in status.get("containerStatuses") or []:
        waiting = (state.get("state") or {}).get("waiting") or {}
        if waiting:
            return one_line(f"{waiting.get('reason', '')}: {waiting.get('message', '')}").rstrip(": ")
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return one_line(f"{condition.get('reason', '')}: {condition.get('message', '')}").rstrip(": ")
    return str(status.get("phase") or "it has not been seen by a node")
