"""A Job of ours and its newest pod, as the watches show them. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import CONTAINER, Report
from posttrain_operator import pod_waiting
from posttrain_operator.actions import Manifest
from posttrain_operator.pod_waiting import Waiting

ENDS = frozenset({"Complete", "Failed", "SuccessCriteriaMet", "FailureTarget"})
"""Conditions of a Job that is over, or whose controller is ending it."""
POD_PATIENCE = timedelta(seconds=10)
"""How long a Job may be without a pod before that is worth a word."""
VOLUME_PATIENCE = timedelta(minutes=1)
"""How long a node may get a pod ready before that is worth a word."""


@dataclass(frozen=True)
class JobSeen:
    """A Job and its newest pod, as far as they exist."""

    job: Manifest | None = None
    pod: Manifest | None = None

    @property
    def container_status(self) -> dict[str, Any]:
        """What the node says of the trainer container."""
        statuses = (self.pod or {}).get("status", {}).get("containerStatuses") or []
        return next((status for status in statuses if status["name"] == CONTAINER), {})

    @property
    def container_state(self) -> dict[str, Any]:
        """State of the trainer container: waiting, running or terminated."""
        return self.container_status.get("state") or {}

    @property
    def is_running(self) -> bool:
        """The trainer container runs."""
        return "running" in self.container_state

    @property
    def has_ended(self) -> bool:
        """Nothing of it will run any more."""
        conditions = ((self.job or {}).get("status") or {}).get("conditions") or []
        is_over = any(found["type"] in ENDS and found["status"] == "True" for found in conditions)
        return self.job is None or is_over or "terminated" in self.container_state

    def condition(self, type_: str) -> dict[str, Any]:
        """One condition of the Job, empty where it has none."""
        return pod_waiting.condition(self.job or {}, type_)


NOTHING = JobSeen()
"""No Job."""


def controller(child: Manifest) -> dict[str, Any]:
    """The owner reference of what controls an object, empty where nothing does."""
    references = child["metadata"].get("ownerReferences") or []
    return next((reference for reference in references if reference.get("controller")), {})


def is_owned(child: Manifest, uid: str) -> bool:
    """Whether the object with this UID controls a child: a label alone could be anybody's."""
    return controller(child).get("uid") == uid


def seen(job: Manifest | None, children: Iterable[Manifest]) -> JobSeen:
    """The Job with its newest pod among these children."""
    if job is None:
        return NOTHING
    uid = job["metadata"]["uid"]
    pods = [child for child in children if child["kind"] == "Pod" and is_owned(child, uid)]
    return JobSeen(job, max(pods, key=lambda pod: pod["metadata"]["creationTimestamp"], default=None))


def report(message: str) -> Report | None:
    """The report in a termination message, None where it is none."""
    try:
        return Report.model_validate_json(message)
    except ValidationError:
        return None


def waiting(found: JobSeen, *, now: datetime) -> Waiting:
    """What a Job waits for whose container does not run."""
    if found.pod is None:
        return _for_a_pod(found.job or {}, now=now)
    return next(_for_sidecars(found.pod), None) or _in_words(pod_waiting.waiting(found.pod), found.pod, now=now)


def _for_sidecars(pod: Manifest) -> Iterator[Waiting]:
    """What must run before the trainer, and ends instead: of a Job's containers only such are started again."""
    for container in pod["status"].get("initContainerStatuses", []):
        state, name = container.get("state") or {}, container["name"]
        ended = (container.get("lastState") or {}).get("terminated")
        if ended and "running" not in state:
            why = f"exit code {ended.get('exitCode')}, {ended.get('reason') or 'no reason given'}"
            message = f"container {name} ends as soon as it runs ({why}): `kubectl logs -c {name}` says why"
            yield Waiting(Reason.POD_REFUSED, message, pod_waiting.started_at(pod) + pod_waiting.PATIENCE)


def _in_words(said: Waiting, pod: Manifest, *, now: datetime) -> Waiting:
    """The kubelet waits in silence for a ConfigMap or a Secret that is not there: after a while it is said so."""
    if said.message != pod_waiting.GETTING_READY:
        return said
    wondering_at = pod_waiting.started_at(pod) + VOLUME_PATIENCE
    if now < wondering_at:
        return replace(said, recheck_at=wondering_at)
    name = pod["metadata"]["name"]
    more = f"`kubectl describe pod {name}` says why it takes long, such as a ConfigMap or a Secret that is missing."
    return replace(said, message=f"{said.message} {more}")


def _for_a_pod(job: Manifest, *, now: datetime) -> Waiting:
    """A pod comes within a second, or something does not let the Job controller make it, such as a quota."""
    wondering_at = datetime.fromisoformat(job["metadata"]["creationTimestamp"]) + POD_PATIENCE
    if now < wondering_at:
        return Waiting(Reason.PENDING, pod_waiting.WAITING_FOR_A_NODE, recheck_at=wondering_at)
    name = job["metadata"]["name"]
    return Waiting(Reason.PENDING, f"The Job has no pod yet: `kubectl describe job {name}` says why.")
