"""Why a pod does not run yet: for the scheduler, for an image, or because the kubelet refuses its container. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from posttrain_api.conditions import Reason
from posttrain_operator.actions import Manifest

PATIENCE = timedelta(minutes=10)
"""How long a pod that cannot be made may recover by itself, as after a registry's outage."""
PULL_FAILURES = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "RegistryUnavailable", "SignatureValidationFailed", "ImageInspectError"}
)
IMPOSSIBLE_IMAGES = frozenset({"InvalidImageName", "ErrImageNeverPull"})
"""Waiting does not help."""
REFUSALS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})

WAITING_FOR_A_NODE = "Waits for its pod to be placed on a node."
"""Said from the making of a Job until more is known, so that it is written once."""
GETTING_READY = "The node pulls the image and mounts the volumes."
ORDINARY = frozenset({WAITING_FOR_A_NODE, GETTING_READY})
"""A matter of seconds, as a rule."""


@dataclass(frozen=True)
class Waiting:
    """What a pod waits for."""

    reason: Reason
    message: str
    gives_up_at: datetime | None = None
    """From when on it is a failure; None where it may wait for ever."""
    recheck_at: datetime | None = None
    """When there is more to say by the passing of time alone."""

    def is_final(self, now: datetime) -> bool:
        """Whether waiting longer makes no sense."""
        return self.gives_up_at is not None and now >= self.gives_up_at


def waiting(pod: Manifest) -> Waiting:
    """What a pod waits for whose main container does not run."""
    return _for_a_node(pod) or next(_for_containers(pod), None) or _for_the_kubelet(pod)


def condition(pod: Manifest, type_: str) -> dict[str, Any]:
    """One condition of a pod or a Job, empty where it has none."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return next((found for found in conditions if found["type"] == type_), {})


def started_at(pod: Manifest) -> datetime:
    """When the kubelet took the pod, or else when it was created."""
    text = pod["status"].get("startTime") or pod["metadata"]["creationTimestamp"]
    return datetime.fromisoformat(text)


def _for_a_node(pod: Manifest) -> Waiting | None:
    scheduled = condition(pod, "PodScheduled")
    if scheduled.get("status") == "True" or (pod.get("spec") or {}).get("nodeName"):
        return None
    if scheduled.get("reason") == "Unschedulable":
        return Waiting(Reason.UNSCHEDULABLE, scheduled.get("message") or "No node takes the pod.")
    return None


def _for_containers(pod: Manifest) -> Iterator[Waiting]:
    status = pod["status"]
    for container in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        found = container.get("state", {}).get("waiting", {})
        why, patience = found.get("reason", ""), started_at(pod) + PATIENCE
        if why in PULL_FAILURES:
            yield Waiting(Reason.IMAGE_PULL_FAILED, _pull_message(container, found), patience)
        elif why in IMPOSSIBLE_IMAGES:
            yield Waiting(Reason.IMAGE_PULL_FAILED, _pull_message(container, found), started_at(pod))
        elif why in REFUSALS:
            yield Waiting(Reason.POD_REFUSED, f"{why}: {found.get('message', '')}", patience)


def _pull_message(container: Manifest, found: Manifest) -> str:
    # "Back-off ..." and "ErrImagePull" take turns; what both say is the same, and is written once.
    said = found.get("message", "").rsplit("ErrImagePull: ", 1)[-1]
    return f"image {container['image']} cannot be pulled: {said or found['reason']}"


def _for_the_kubelet(pod: Manifest) -> Waiting:
    if condition(pod, "PodScheduled").get("status") == "True":
        return Waiting(Reason.PULLING_IMAGE, GETTING_READY)
    return Waiting(Reason.PENDING, WAITING_FOR_A_NODE)
