"""Objects as the API server shows them, for the tests of the CLI."""

import re
from typing import Any

from kubernetes import client
from tests.unit.cli.api_stand_in import ApiStandIn

Object = dict[str, Any]
TIME = "2026-11-21T12:00:00Z"


def condition(type_: str, reason: str, message: str = "", *, status: str = "True") -> Object:
    """A condition that holds, unless said otherwise."""
    return {"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": TIME}


def waiting(reason: str, message: str = "") -> list[Object]:
    """Conditions of an object that is not there yet."""
    return [condition("Ready", reason, message, status="False"), condition("Reconciling", reason, message)]


def stalled(reason: str, message: str = "") -> list[Object]:
    """Conditions of an object that stays as it is."""
    return [condition("Ready", reason, message, status="False"), condition("Stalled", reason, message)]


def ready() -> list[Object]:
    """Conditions of an object that is as it should be."""
    return [condition("Ready", "Succeeded", "all is well")]


def run(name: str = "dates", *, generation: int = 1, **status: Any) -> Object:
    """A TrainingRun; without a status it is as the API server has just stored it."""
    seen = {"observedGeneration": 1, **status} if status else {"observedGeneration": -1}
    return {"metadata": {"name": name, "namespace": "team", "generation": generation}, "spec": {}, "status": seen}


def training(name: str = "dates", *, step: int, stage: str = "Training") -> Object:
    """A TrainingRun of 500 steps in training."""
    return run(
        name,
        phase="Training",
        conditions=waiting("Training", "The trainer works."),
        progress={"stage": stage, "step": step, "totalSteps": 500, "percent": step // 5, "etaSeconds": 840.0},
        display={"progress": f"{step // 5}%", "step": f"{step}/500", "metric": "loss 1.31", "eta": "14m"},
        metrics={"loss": 1.31},
    )


def succeeded(name: str = "dates", **status: Any) -> Object:
    """A TrainingRun with an accepted result."""
    done = {
        "phase": "Succeeded",
        "conditions": ready(),
        "progress": {"stage": "Done", "step": 500, "totalSteps": 500, "percent": 100, "etaSeconds": 0.0},
        "display": {"progress": "100%", "step": "500/500", "metric": "exactMatch 0.95", "eta": ""},
        "evaluation": {"before": {"exactMatch": 0.0}, "after": {"exactMatch": 0.95}, "rows": 60},
    }
    return run(name, **{**done, **status})


def failed(name: str = "numbers", message: str = "row 3 has no answer") -> Object:
    """A TrainingRun whose data were refused."""
    return run(name, phase="Failed", conditions=stalled("DatasetInvalid", message))


def adapter(name: str, state: str, reason: str | None = None) -> Object:
    """What a status says of an adapter."""
    return {"name": name, "state": state, **({"reason": reason} if reason else {})}


def deployment(name: str = "assistants", *, generation: int = 1, replicas: int = 1, **status: Any) -> Object:
    """An AdapterDeployment of two adapters; without a status it is as the API server has just stored it."""
    seen = {"observedGeneration": 1, **status} if status else {"observedGeneration": -1}
    spec = {"replicas": replicas, "adapters": [{"name": "dates"}, {"name": "numbers"}]}
    return {"metadata": {"name": name, "namespace": "team", "generation": generation}, "spec": spec, "status": seen}


def serving(*adapters: Object, conditions: list[Object], phase: str = "Loading") -> Object:
    """An AdapterDeployment whose one replica takes requests."""
    return deployment(phase=phase, conditions=conditions, adapters=list(adapters), readyReplicas=1)


def api_client(server: ApiStandIn) -> client.ApiClient:
    """A client of the stand-in."""
    return client.ApiClient(client.Configuration(host=server.url))


def seen_lines(text: str) -> list[str]:
    """The lines of what a terminal was sent, without its control sequences."""
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()]
