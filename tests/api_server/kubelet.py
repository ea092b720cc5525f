"""The tests play the kubelet: they write the statuses of real pods that the Job controller made."""

import json
from datetime import UTC, datetime
from typing import Any

from tests.live import Namespace

from posttrain_api import trainer_contract
from posttrain_api.artifact import digest_of

COMPONENT = "posttrain.dev/component"
DIGEST = "sha256:" + "a" * 64


def pod_of(
    namespace: Namespace, run: str, component: str, *, job: str | None = None, is_new: bool = False
) -> dict[str, Any]:
    """The pod of a run's preflight, training or merge Job, once there is one; `is_new`: one that has said nothing yet
    and is not being deleted."""

    def matches(pod: dict[str, Any]) -> bool:
        labels = pod["metadata"].get("labels") or {}
        if is_new and (pod["status"].get("containerStatuses") or "deletionTimestamp" in pod["metadata"]):
            return False
        is_of_job = job is None or labels.get("batch.kubernetes.io/job-name") == job
        return labels.get("posttrain.dev/training-run") == run and labels.get(COMPONENT) == component and is_of_job

    return namespace.wait_for_any("Pod", matches, within=20, what=f"made for {component}")


def run_pod(namespace: Namespace, pod: dict[str, Any]) -> None:
    """The pod's container is running."""
    state = {"running": {"startedAt": _now()}}
    namespace.patch_status("Pod", pod["metadata"]["name"], {"phase": "Running", **_container(pod, state)})


def wait_pod(namespace: Namespace, pod: dict[str, Any], reason: str, message: str) -> None:
    """The pod's container waits, such as for its image."""
    state = {"waiting": {"reason": reason, "message": message}}
    namespace.patch_status("Pod", pod["metadata"]["name"], {"phase": "Pending", **_container(pod, state)})


def end_pod(
    namespace: Namespace, pod: dict[str, Any], *, message: str = "", exit_code: int = 0, reason: str = "", **status: Any
) -> None:
    """The pod's container has ended, with this termination message."""
    ended = {
        "exitCode": exit_code,
        "reason": reason or ("Error" if exit_code else "Completed"),
        "message": message,
        "startedAt": _now(),
        "finishedAt": _now(),
    }
    phase = "Failed" if exit_code else "Succeeded"
    body = {"phase": phase, **_container(pod, {"terminated": ended}), **status}
    namespace.patch_status("Pod", pod["metadata"]["name"], body)


def fail_pod(namespace: Namespace, pod: dict[str, Any], reason: str, message: str, conditions: list[Any]) -> None:
    """The node or the scheduler ended the pod."""
    body = {"phase": "Failed", "reason": reason, "message": message, "conditions": conditions}
    namespace.patch_status("Pod", pod["metadata"]["name"], body)


def unschedulable(namespace: Namespace, pod: dict[str, Any], message: str) -> None:
    """No node takes the pod."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    namespace.patch_status("Pod", pod["metadata"]["name"], {"conditions": [condition]})


def report(namespace: Namespace, run: str, *, round: int = 0, **content: Any) -> str:
    """A termination message that speaks of this run and its frozen recipe."""
    config_map = namespace.get("ConfigMap", f"{run}-{round}-recipe")
    assert config_map is not None
    frozen = json.loads(config_map["data"]["run.json"])
    recipe_digest = trainer_contract.recipe_digest(frozen)
    return json.dumps({"uid": frozen["uid"], "recipeDigest": recipe_digest, **content})


def merge_report(pod: dict[str, Any], **content: Any) -> str:
    """A termination message that speaks of the merge that this pod was told to do."""
    config = json.loads(pod["spec"]["containers"][0]["args"][1])
    return json.dumps({"uid": config["uid"], "recipeDigest": digest_of(config), **content})


MODEL = {"parameters": 1000, "layers": 2, "hiddenSize": 32, "vocabulary": 260, "tunedModules": {"q_proj": 2}}
"""What preflight sees of the base."""


def preflight_report() -> dict[str, Any]:
    """What a preflight finds of 160 good rows."""
    return {
        "estimate": {
            "rows": 160,
            "trainedTokens": 1000,
            "totalTokens": 2000,
            "totalSteps": 30,
            "trainableParameters": 4096,
            "memoryGib": 0.5,
            "memory": {"weights": 0.25, "logits": 0.25},
            "gpu": "NVIDIA-H200",
            "durationSeconds": 3600.0,
            "cost": "3.50",
            "currency": "USD",
        },
        "model": MODEL,
        "data": {"rowsRead": 168, "heldOutRows": 8, "trainedShare": 0.5, "endOfTurn": "<|im_end|>"},
        "mask": "user: one assistant: ⟦1<|im_end|>⟧",
        "warnings": [],
        "datasetDigest": DIGEST,
    }


def training_report(**changes: Any) -> dict[str, Any]:
    """A complete training of 30 steps."""
    artifact = {
        "uri": "pvc://posttrain-artifacts/run/sha256-" + "a" * 64,
        "digest": DIGEST,
        "weightsDigest": DIGEST,
        "sizeBytes": 12345,
        "kind": "lora",
        "rank": 16,
        "targetModules": ["q_proj"],
        "base": {"uri": "file:///models/tiny", "digest": DIGEST},
    }
    return {
        "artifact": artifact,
        "stepsCompleted": 30,
        "stepsPlanned": 30,
        "metrics": {"loss": 0.25},
        "evaluation": {"before": {"loss": 3.0}, "after": {"loss": 0.25}, "rows": 8},
        "datasetDigest": DIGEST,
        "libraries": {"trl": "1.16.0"},
        **changes,
    }


def _container(pod: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    container = pod["spec"]["containers"][0]
    shown = {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0}
    return {"containerStatuses": [{**shown, "ready": "running" in state, "state": state}]}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
