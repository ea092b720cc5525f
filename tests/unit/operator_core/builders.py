"""Objects and stand-ins for the tests of the operator's core."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from posttrain_api import labels
from posttrain_operator.actions import Manifest
from posttrain_operator.queue import Timer
from posttrain_operator.store import Key


def run(name: str = "dates", *, version: int = 1, uid: str = "", **more: Any) -> Manifest:
    """A TrainingRun as a watch tells of it."""
    metadata = {"name": name, "namespace": "team", "uid": uid or f"uid-of-{name}", "resourceVersion": str(version)}
    return {"apiVersion": "posttrain.dev/v1alpha1", "kind": "TrainingRun", "metadata": metadata, **more}


def pod(name: str = "dates-0-0-x", *, version: int = 1, owner: str = "dates", **status: Any) -> Manifest:
    """A pod of a run as a watch tells of it."""
    metadata = {
        "name": name,
        "namespace": "team",
        "uid": f"uid-of-{name}",
        "resourceVersion": str(version),
        "labels": {labels.TRAINING_RUN: owner},
        "managedFields": [{"manager": "kubelet"}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
    }
    spec = {"nodeName": "node", "containers": [{"name": "trainer"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status}


def key(name: str = "dates", kind: str = "TrainingRun") -> Key:
    """The key of an object of the tests' namespace."""
    return Key(kind, "team", name)


@dataclass
class Alarm:
    """A timer that rings when the test says so."""

    seconds: float
    ring: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        """Call it off."""
        self.is_cancelled = True


@dataclass
class Alarms:
    """A clock that stands still: what was to happen later is kept in order."""

    set: list[Alarm] = field(default_factory=list)

    def call_later(self, seconds: float, ring: Callable[[], None]) -> Timer:
        """Keep it."""
        self.set.append(Alarm(seconds, ring))
        return self.set[-1]

    @property
    def due(self) -> list[float]:
        """After how many seconds each alarm rings that was not called off."""
        return [alarm.seconds for alarm in self.set if not alarm.is_cancelled]

    def ring(self) -> None:
        """Ring all."""
        alarms, self.set = self.set, []
        for alarm in alarms:
            if not alarm.is_cancelled:
                alarm.ring()
