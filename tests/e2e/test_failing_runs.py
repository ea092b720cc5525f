"""What goes wrong with a run in a real cluster, and what its user reads: never Succeeded, and the right reason soon."""

import time
from typing import Any

import pytest
from tests.live import Namespace, condition, has_condition

GOOD_ROW = '{"prompt": "one", "completion": "1"}'
TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)

SABOTAGE = {
    "exits 0 without a manifest": "import os; os._exit(0)",
    "exits 7": "import os; os._exit(7)",
    "takes too much memory": "hoard = []\nwhile True: hoard.append(b'x' * 10_000_000)",
}
"""Programs that Python runs before the trainer, as a broken image would."""


def run(base_uri: str, rows: str = "rows", **spec: Any) -> dict[str, Any]:
    """A run on rows of the ConfigMap `data`."""
    return {
        "apiVersion": "posttrain.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": "run"},
        "spec": {
            "method": "sft",
            "baseModel": {"uri": base_uri},
            "environment": {
                "dataset": {"configMap": {"name": "data", "key": rows}},
                "chatTemplate": {"inline": TEMPLATE},
            },
            "hyperparameters": {"maxSteps": 2, "maxLength": 128},
            "resources": {"gpus": 0},
            **spec,
        },
    }


def give_data(namespace: Namespace, **rows: str) -> None:
    config_map = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "data"}, "data": rows}
    namespace.apply(config_map)


SABOTAGED = {
    "env": [{"name": "PYTHONPATH", "value": "/sabotage"}],
    "volumes": [{"name": "sabotage", "configMap": {"name": "sabotage"}}],
    "volumeMounts": [{"name": "sabotage", "mountPath": "/sabotage"}],
}
"""A podTemplate in which Python runs the ConfigMap's program before anything else."""


def give_sabotage(namespace: Namespace, program: str) -> None:
    data = {"sitecustomize.py": program}
    namespace.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "sabotage"}, "data": data})


def terminated(pod: dict[str, Any]) -> dict[str, Any] | None:
    """How the trainer container ended."""
    statuses = pod["status"].get("containerStatuses") or [{}]
    return statuses[0].get("state", {}).get("terminated")


def says_soon(namespace: Namespace, reason: str) -> dict[str, Any]:
    """The run once its Ready condition has this reason: at most 10 s from now, when the cluster knows."""
    return namespace.wait_for("TrainingRun", "run", has_condition("Ready", "False", reason), within=10, what=reason)


@pytest.mark.parametrize(
    ("program", "reason", "said"),
    [
        pytest.param("exits 0 without a manifest", "ArtifactMissing", "", id="exit 0 without a manifest"),
        pytest.param("exits 7", "TrainerFailed", "7", id="exit 7"),
        pytest.param("takes too much memory", "OutOfMemory", "256Mi", id="out of memory"),
    ],
)
def test_a_trainer_that_ends_without_a_report(
    namespace: Namespace, base_uri: str, program: str, reason: str, said: str
):
    give_data(namespace, rows=GOOD_ROW)
    give_sabotage(namespace, SABOTAGE[program])
    resources = {"gpus": 0, "memory": "256Mi"}
    namespace.apply(run(base_uri, preflight="Skip", resources=resources, podTemplate=SABOTAGED))
    namespace.wait_for_any("Pod", lambda pod: bool(terminated(pod)), within=60, what="terminated")
    failed = says_soon(namespace, reason)
    assert said in condition(failed, "Ready")["message"]
    assert condition(failed, "Stalled")["status"] == "True"
    assert condition(failed, "Succeeded")["status"] == "False"
    assert failed["status"]["phase"] == "Failed"


def test_a_trainer_that_fits_no_node(namespace: Namespace, base_uri: str):
    give_data(namespace, rows=GOOD_ROW)
    namespace.apply(run(base_uri, preflight="Skip", resources={"gpus": 1, "gpuResourceName": "example.com/npu"}))
    namespace.wait_for_any("Pod", is_unschedulable, within=60, what="found unschedulable")
    waiting = says_soon(namespace, "Unschedulable")
    assert "Insufficient example.com/npu" in condition(waiting, "Ready")["message"]
    assert condition(waiting, "Reconciling")["status"] == "True"
    assert condition(waiting, "Stalled") is None


def is_unschedulable(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions") or []
    return any(found["type"] == "PodScheduled" and found["status"] == "False" for found in conditions)


def test_an_image_that_cannot_be_pulled(namespace: Namespace, base_uri: str):
    give_data(namespace, rows=GOOD_ROW)
    namespace.apply(run(base_uri, preflight="Skip", podTemplate={"image": "127.0.0.1:1/trainer:1"}))
    namespace.wait_for_any("Pod", is_pull_failed, within=60, what="refused its image")
    waiting = says_soon(namespace, "ImagePullFailed")
    assert "127.0.0.1:1/trainer:1" in condition(waiting, "Ready")["message"]


def is_pull_failed(pod: dict[str, Any]) -> bool:
    statuses = pod["status"].get("containerStatuses") or [{}]
    return statuses[0].get("state", {}).get("waiting", {}).get("reason") in ("ErrImagePull", "ImagePullBackOff")


def test_a_bad_row_ends_the_run_before_any_training_job(namespace: Namespace, base_uri: str):
    give_data(namespace, rows="\n".join([GOOD_ROW] * 3 + ['{"prompt": "no completion"}']))
    namespace.apply(run(base_uri))
    failed = namespace.wait_for(
        "TrainingRun", "run", has_condition("Ready", "False", "DatasetInvalid"), within=90, what="DatasetInvalid"
    )
    assert "row 4" in condition(failed, "Validated")["message"]
    components = [job["metadata"]["labels"]["posttrain.dev/component"] for job in namespace.list("Job")]
    assert components == ["preflight"]


def test_a_base_without_a_chat_template_needs_one(namespace: Namespace, base_uri: str):
    give_data(namespace, rows=GOOD_ROW)
    manifest = run(base_uri)
    del manifest["spec"]["environment"]["chatTemplate"]
    namespace.apply(manifest)
    failed = namespace.wait_for(
        "TrainingRun", "run", has_condition("Ready", "False", "ChatTemplateMissing"), within=90, what="refused"
    )
    assert "environment.chatTemplate" in condition(failed, "Ready")["message"]


def test_a_run_deleted_while_it_trains_takes_its_pods_along(namespace: Namespace, base_uri: str):
    give_data(namespace, rows="\n".join(GOOD_ROW.replace("one", f"one of {number}") for number in range(64)))
    steps = {"maxSteps": 100_000, "maxLength": 128}
    namespace.apply(run(base_uri, preflight="Skip", hyperparameters=steps))
    training = namespace.wait_for("TrainingRun", "run", lambda item: step_of(item) > 0, within=120, what="training")
    assert training["status"]["display"]["metric"].startswith("loss ")
    pod = next(iter(namespace.list("Pod", "posttrain.dev/training-run=run")))
    grace = pod["spec"]["terminationGracePeriodSeconds"]
    start = time.monotonic()
    namespace.delete("TrainingRun", "run")
    namespace.wait_gone("Pod", pod["metadata"]["name"], within=grace + 5)
    assert time.monotonic() - start <= grace + 5


def step_of(item: dict[str, Any]) -> int:
    progress = item["status"].get("progress") or {}
    return int(progress.get("step", 0))
