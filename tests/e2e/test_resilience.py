"""Programs are killed at the wrong moment: everything arrives, nothing is done twice, nothing is lost."""

from collections.abc import Callable
from typing import Any

from tests.e2e.assistants import Assistants, adapter_state
from tests.e2e.conftest import OPERATOR_NAMESPACE
from tests.live import Namespace, has_condition

KILL_THE_ENGINE = """
import os, pathlib, signal
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    if b"VLLM::" in (folder / "cmdline").read_bytes():
        os.kill(int(folder.name), signal.SIGKILL)
"""
"""Ends vLLM's workers; its first process, which no signal from inside the container reaches, then ends by itself."""
OPERATOR = "app.kubernetes.io/component=operator"


def kill_operator(assistants: Assistants) -> Callable[[], None]:
    """Kill the operator's pod at once; returns a function that waits for the next one to be ready."""
    system = Namespace(assistants.namespace.access, OPERATOR_NAMESPACE)
    old = {pod["metadata"]["name"] for pod in system.list("Pod", OPERATOR)}
    for name in old:
        system.delete("Pod", name, grace_period_seconds=0)

    def is_next(pod: dict[str, Any]) -> bool:
        ready = {found["type"]: found["status"] for found in pod["status"].get("conditions") or []}.get("Ready")
        return pod["metadata"]["name"] not in old and ready == "True"

    return lambda: system.wait_for_any("Pod", is_next, within=60, what="ready again") and None


def jobs_of(assistants: Assistants, run: str) -> list[str]:
    return sorted(
        job["metadata"]["uid"] for job in assistants.namespace.list("Job", f"posttrain.dev/training-run={run}")
    )


def is_training(run: dict[str, Any]) -> bool:
    return int((run["status"].get("progress") or {}).get("step", 0)) > 0


def delete_and_see_what_stays(assistants: Assistants, run: dict[str, Any]) -> None:
    """A run that is deleted leaves its artifact, and the adapter that is served from it."""
    name = run["metadata"]["name"]
    assistants.namespace.delete("TrainingRun", name)
    assistants.namespace.wait_gone("Job", f"{name}-0-0", within=60)
    assert assistants.files_on_claim(run["status"]["artifact"]["uri"]) >= {"manifest.json", "adapter_model.safetensors"}
    assert adapter_state(assistants.deployment(), name)["state"] == "Loaded"


def test_the_operator_is_killed_while_a_run_trains_and_while_its_adapter_loads(assistants: Assistants):
    assistants.start_run("orphan", like="numbers", maxSteps=60)
    with assistants.deployed(name="orphan", fromRun={"name": "orphan"}):
        assistants.namespace.wait_for("TrainingRun", "orphan", is_training, within=90, what="training")
        jobs = jobs_of(assistants, "orphan")
        back = kill_operator(assistants)
        back()
        accepted = has_condition("Ready", "True")
        run = assistants.namespace.wait_for("TrainingRun", "orphan", accepted, within=120, what="Ready")
        kill_operator(assistants)
        deployment = assistants.wait_for_adapter("orphan", "Loaded")
        assert jobs_of(assistants, "orphan") == jobs
        assert len(jobs) == 1
        assert run["status"]["progress"]["percent"] == 100
        assert adapter_state(deployment, "orphan")["digest"] == run["status"]["artifact"]["digest"]
        assert assistants.ask("orphan", "hello") is not None
        delete_and_see_what_stays(assistants, run)
        assert assistants.ask("orphan", "hello") is not None


def test_an_engine_that_is_killed_comes_back_with_its_adapters(assistants: Assistants):
    """The status must not call an adapter loaded between the engine's death and the new proof."""
    pod = next(iter(assistants.namespace.list("Pod", "posttrain.dev/adapter-deployment=assistants")))
    name = pod["metadata"]["name"]
    # Its exit code says nothing: it may end with the container.
    assistants.namespace.kubectl("exec", name, "-c", "engine", "--", "python3", "-c", KILL_THE_ENGINE)
    namespace = assistants.namespace
    not_ready, ready = has_condition("Ready", "False"), has_condition("Ready", "True")
    namespace.wait_for("AdapterDeployment", "assistants", not_ready, within=20, what="not Ready")
    deployment = namespace.wait_for("AdapterDeployment", "assistants", ready, within=180, what="Ready again")
    assert deployment["status"]["pods"][0]["restartCount"] == 1
    assert [adapter["state"] for adapter in deployment["status"]["adapters"]] == ["Loaded", "Loaded"]
