"""One server pod as observed: its Kubernetes object and what its agent reports.

Pure. Everything that is read of a pod's JSON is read here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from posttrain_api import labels
from posttrain_api.conditions import Reason
from posttrain_api.server_contract import ENGINE_CONTAINER, AdapterReport, AgentReport, DesiredAdapter
from posttrain_operator import pod_waiting
from posttrain_operator.actions import Manifest

MAX_RESTARTS = 3
"""A container that ended this often without becoming ready does not recover by itself."""
_TROUBLES = frozenset({Reason.UNSCHEDULABLE, Reason.IMAGE_PULL_FAILED, Reason.POD_REFUSED})
"""What a pod may wait for that takes more than a matter of seconds."""


@dataclass(frozen=True)
class Trouble:
    """Why a pod, or a pod that should be there, does not serve."""

    reason: Reason
    message: str
    is_final: bool
    """It will not go away by waiting."""


@dataclass(frozen=True)
class Replica:
    """A server pod and what its agent said in this reconcile; None where it did not answer."""

    pod: Manifest
    report: AgentReport | None = None

    @property
    def name(self) -> str:
        """Name of the pod."""
        return str(self.pod["metadata"]["name"])

    @property
    def uid(self) -> str:
        """UID of the pod."""
        return str(self.pod["metadata"]["uid"])

    @property
    def address(self) -> str | None:
        """Its IP address, once it has one."""
        address: str | None = self._status.get("podIP")
        return address

    @property
    def template_digest(self) -> str | None:
        """Digest of the template that it was made from."""
        digest: str | None = self.pod["metadata"].get("annotations", {}).get(labels.TEMPLATE_DIGEST)
        return digest

    @property
    def is_live(self) -> bool:
        """Neither on its way out nor ended."""
        ended = self._status.get("phase") in ("Succeeded", "Failed")
        return not ended and not self.pod["metadata"].get("deletionTimestamp")

    @property
    def is_ready(self) -> bool:
        """In the Service: the kubelet's probes of engine and agent pass."""
        return self.is_live and pod_waiting.condition(self.pod, "Ready").get("status") == "True"

    @property
    def restart_count(self) -> int:
        """How often its engine was started again."""
        return int(self._engine.get("restartCount", 0))

    @property
    def engine_started_at(self) -> datetime | None:
        """When the engine that runs now was started; None where none runs."""
        running = self._engine.get("state", {}).get("running")
        return datetime.fromisoformat(running["startedAt"]) if running and "startedAt" in running else None

    @property
    def is_healthy(self) -> bool:
        """The agent says that its engine answers."""
        return self.report is not None and self.report.engine.state == "Healthy"

    def works_on(self, desired_digest: str) -> bool:
        """The agent answered, and speaks of this list."""
        return self.report is not None and self.report.desired_digest == desired_digest

    def proofs(self) -> Iterator[AdapterReport]:
        """The adapters that answer on it, proven since its engine was started.

        A proof of an engine that is gone says nothing of the one that took its place.
        """
        started = self.engine_started_at
        if started is None or not self.is_healthy or self.report is None:
            return
        for adapter in self.report.adapters:
            if adapter.serving_digest and adapter.proven_at and adapter.proven_at >= started:
                yield adapter

    def proves(self, desired: DesiredAdapter) -> bool:
        """These very weights answer under this name on it."""
        return any(
            proof.name == desired.name and proof.serving_digest == desired.digest and proof.state == "Loaded"
            for proof in self.proofs()
        )

    def failure(self, desired: DesiredAdapter) -> AdapterReport | None:
        """What the agent says where it gave up on these weights."""
        reported = self.report.adapters if self.report else []
        found = (entry for entry in reported if (entry.name, entry.digest) == (desired.name, desired.digest))
        return next((entry for entry in found if entry.state == "Failed"), None)

    def trouble(self, now: datetime) -> Trouble | None:
        """Why it does not serve, where it is more than a matter of seconds."""
        if self.is_ready:
            return None
        return self._waiting(now) or next(self._ends(), None) or self._engine_trouble()

    @cached_property
    def _status(self) -> dict[str, Any]:
        return dict(self.pod.get("status", {}))

    @cached_property
    def _engine(self) -> dict[str, Any]:
        return next((status for status in self._containers if status["name"] == ENGINE_CONTAINER), {})

    @cached_property
    def _containers(self) -> list[dict[str, Any]]:
        return [*self._status.get("initContainerStatuses", []), *self._status.get("containerStatuses", [])]

    def _waiting(self, now: datetime) -> Trouble | None:
        found = pod_waiting.waiting(self.pod)
        if found.reason not in _TROUBLES:
            return None
        return Trouble(found.reason, f"pod {self.name}: {found.message}", is_final=found.is_final(now))

    def _ends(self) -> Iterator[Trouble]:
        for status in self._containers:
            end = _last_end(status)
            if end and not status.get("ready"):
                yield self._end(status, end)

    def _end(self, status: dict[str, Any], end: dict[str, Any]) -> Trouble:
        restarts = int(status.get("restartCount", 0))
        what, reason = f"ended with exit code {end.get('exitCode')}", Reason.ENGINE_FAILED
        if end.get("reason") == "OOMKilled":
            what, reason = "needed more memory than resources.memory allows", Reason.OUT_OF_MEMORY
        message = f"pod {self.name}: {status['name']} {what} (started again: {restarts})"
        return Trouble(reason, message + _last_words(end), is_final=restarts >= MAX_RESTARTS)

    def _engine_trouble(self) -> Trouble | None:
        if self.report is None or self.report.engine.state != "Failed":
            return None
        engine = self.report.engine
        message = f"pod {self.name}: {engine.message or 'the engine does not answer'}"
        is_final = engine.reason is not None or self.restart_count >= MAX_RESTARTS
        return Trouble(engine.reason or Reason.ENGINE_FAILED, message, is_final=is_final)


@dataclass(frozen=True)
class Fleet:
    """The server pods against what is wanted of them."""

    live: tuple[Replica, ...]
    """Neither on their way out nor ended, sorted by name."""
    total: int
    """How many are wanted."""
    template_digest: str | None
    """Digest of the template that they should be made from; None while there is none."""
    list_digest: str
    """Digest of the list that they should work on."""

    @property
    def current(self) -> tuple[Replica, ...]:
        """Made from the template of now."""
        return tuple(replica for replica in self.live if replica.template_digest == self.template_digest)

    @property
    def informed(self) -> tuple[Replica, ...]:
        """Current, and at work on the list of now."""
        return tuple(replica for replica in self.current if replica.works_on(self.list_digest))

    @property
    def is_complete(self) -> bool:
        """Exactly the wanted replicas are there: none of an old template, each at work on the list of now."""
        return len(self.live) == len(self.informed) >= self.total > 0


def _last_end(status: dict[str, Any]) -> dict[str, Any] | None:
    ends = (status.get("state", {}).get("terminated"), status.get("lastState", {}).get("terminated"))
    return next((end for end in ends if end), None)


def _last_words(end: dict[str, Any]) -> str:
    lines = [line.strip() for line in end.get("message", "").splitlines() if line.strip()]
    return f": {lines[-1][:500]}" if lines else ""
