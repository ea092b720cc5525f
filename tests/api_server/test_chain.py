"""The operator against a real API server: runs that build on runs, and results that are judged."""

from typing import Any

import pytest
from tests.api_server import kubelet
from tests.live import Namespace, condition, has_condition

pytestmark = pytest.mark.usefixtures("operator")

GATE = {"metrics": ["loss"], "gates": [{"metric": "loss", "max": 0.5}]}
GOOD = {"before": {"loss": 3.0}, "after": {"loss": 0.25}, "rows": 8}
BAD = {"before": {"loss": 3.0}, "after": {"loss": 2.0}, "rows": 8}
BASE_DIGEST = "sha256:" + "b" * 64
MERGED_URI = "pvc://posttrain-artifacts/sft/base-sha256-" + "b" * 64


def run(name: str, *, base: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "posttrain.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": name},
        "spec": {
            "method": "sft",
            "baseModel": base or {"uri": "file:///models/tiny"},
            "environment": {"dataset": {"configMap": {"name": "data", "key": "rows"}}},
            "preflight": "Skip",
            **spec,
        },
    }


def on(name: str) -> dict[str, Any]:
    return {"fromRun": {"name": name}}


def train(namespace: Namespace, name: str, *, round: int = 0, evaluation: dict[str, Any] | None = None) -> None:
    """The run's training ends with this measurement."""
    pod = kubelet.pod_of(namespace, name, "training", job=f"{name}-{round}-0")
    report = kubelet.training_report(evaluation=evaluation or GOOD)
    kubelet.end_pod(namespace, pod, message=kubelet.report(namespace, name, round=round, training=report))


def merge(namespace: Namespace, name: str) -> None:
    """The Job that merges the run's adapter ends well."""
    pod = kubelet.pod_of(namespace, name, "merge")
    made = {"artifactDigest": kubelet.DIGEST, "uri": MERGED_URI, "digest": BASE_DIGEST}
    kubelet.end_pod(namespace, pod, message=kubelet.merge_report(pod, merged=made))


def reads(namespace: Namespace, name: str, status: str, reason: str) -> dict[str, Any]:
    return namespace.wait_for("TrainingRun", name, has_condition("Ready", status, reason), within=10, what=reason)


def test_a_chain_goes_through_in_whatever_order_it_is_applied(namespace: Namespace):
    for name, base in (("kto", on("dpo")), ("dpo", on("sft")), ("sft", None)):
        method = {"method": name} if base else {}
        namespace.apply(run(name, base=base, **method))
    waiting = reads(namespace, "kto", "False", "WaitingForRun")
    assert waiting["status"]["phase"] == "Waiting"
    assert namespace.get("ConfigMap", "dpo-0-recipe") is None

    train(namespace, "sft")
    reads(namespace, "sft", "True", "Ready")
    merging = reads(namespace, "dpo", "False", "Merging")
    assert merging["status"]["phase"] == "Merging"
    merge(namespace, "sft")
    train(namespace, "dpo")

    done = reads(namespace, "dpo", "True", "Ready")
    assert done["status"]["lineage"]["parents"] == {"baseModel": kubelet.DIGEST}
    reads(namespace, "kto", "False", "Merging")
    parent = namespace.get("TrainingRun", "sft")
    assert parent is not None
    assert parent["status"]["mergedBases"][0]["uri"] == MERGED_URI
    (job,) = (job for job in namespace.list("Job") if job["metadata"]["name"].startswith("sft-merge-"))
    assert job["metadata"]["ownerReferences"][0]["uid"] == parent["metadata"]["uid"]


def test_a_failed_gate_stops_what_builds_on_it_until_the_run_is_replaced(namespace: Namespace):
    namespace.apply(run("dpo", base=on("sft"), method="dpo"))
    namespace.apply(run("sft", evaluation=GATE))
    train(namespace, "sft", evaluation=BAD)

    rejected = reads(namespace, "sft", "False", "GateFailed")
    assert rejected["status"]["phase"] == "Rejected"
    assert rejected["status"]["display"]["gate"] == "0/1"
    accepted = condition(rejected, "Accepted")
    assert accepted is not None
    assert (accepted["status"], "loss is 2" in accepted["message"]) == ("False", True)
    stuck = reads(namespace, "dpo", "False", "RunFailed")
    assert "loss is 2, the gate wants it at most 0.5" in condition(stuck, "Stalled")["message"]

    namespace.delete("TrainingRun", "sft")
    namespace.apply(run("sft", evaluation=GATE))
    reads(namespace, "dpo", "False", "WaitingForRun")


def test_a_cycle_is_said(namespace: Namespace):
    namespace.apply(run("a", base=on("b")))
    namespace.apply(run("b", base=on("a")))

    for name, way in (("a", "a -> b -> a"), ("b", "b -> a -> b")):
        stuck = namespace.wait_for(
            "TrainingRun", name, has_condition("Stalled", "True", "ReferenceCycle"), within=10, what="ReferenceCycle"
        )
        assert way in condition(stuck, "Stalled")["message"]


def test_a_failed_gate_trains_again_and_the_second_round_is_accepted(namespace: Namespace):
    patch = {"hyperparameters": {"learningRate": 0.001}}
    on_failure = {"action": "Retrain", "maxAttempts": 2, "patch": patch}
    namespace.apply(run("sft", evaluation={**GATE, "onFailure": on_failure}))
    train(namespace, "sft", evaluation=BAD)

    train(namespace, "sft", round=1)

    done = reads(namespace, "sft", "True", "Ready")
    assert condition(done, "Accepted")["reason"] == "GatesPassed"
    assert [entry["gates"][0]["passed"] for entry in done["status"]["rounds"]] == [False, True]
    assert done["status"]["resolved"]["hyperparameters"]["learningRate"] == 0.001
    assert sorted(job["metadata"]["name"] for job in namespace.list("Job")) == ["sft-0-0", "sft-1-0"]
