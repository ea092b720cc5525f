"""The operator against a real API server: runs that build on runs, and results that are judged."""

from typing import Any

import pytest
from tests.api_server import kubelet
from tests.live import Namespace, condition, has_condition

from posttrain_api.trainer_contract import EXIT_REFUSED

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
    pod = kubelet.pod_of(namespace, name, "merge", is_new=True)
    made = {"artifactDigest": kubelet.DIGEST, "uri": MERGED_URI, "digest": BASE_DIGEST}
    kubelet.end_pod(namespace, pod, message=kubelet.merge_report(pod, merged=made))


def refuse_merge(namespace: Namespace, name: str) -> str:
    """The Job that merges the run's adapter fails with a reason; its name."""
    pod = kubelet.pod_of(namespace, name, "merge", is_new=True)
    failure = {"reason": "BaseMismatch", "message": "another base lies there"}
    kubelet.end_pod(namespace, pod, message=kubelet.merge_report(pod, failure=failure), exit_code=EXIT_REFUSED)
    return str(pod["metadata"]["labels"]["batch.kubernetes.io/job-name"])


def deployment(run: str) -> dict[str, Any]:
    """A deployment that serves the result of this run."""
    return {
        "apiVersion": "posttrain.dev/v1alpha1",
        "kind": "AdapterDeployment",
        "metadata": {"name": "assistants"},
        "spec": {"baseModel": {"fromRun": {"name": run}}},
    }


def reads(namespace: Namespace, name: str, status: str, reason: str, *, kind: str = "TrainingRun") -> dict[str, Any]:
    return namespace.wait_for(kind, name, has_condition("Ready", status, reason), within=10, what=reason)


def columns(namespace: Namespace, name: str) -> list[str]:
    """What `kubectl get` prints of a run, without its age."""
    return namespace.kubectl("get", "trun", name, "--no-headers").stdout.split()[:-1]


def test_a_chain_goes_through_in_whatever_order_it_is_applied(namespace: Namespace):
    for name, base in (("kto", on("dpo")), ("dpo", on("sft")), ("sft", None)):
        method = {"method": name} if base else {}
        namespace.apply(run(name, base=base, **method))
    waiting = reads(namespace, "kto", "False", "WaitingForRun")
    assert waiting["status"]["phase"] == "Waiting"
    assert columns(namespace, "kto") == ["kto", "kto", "Waiting", "for", "dpo"]
    assert namespace.get("ConfigMap", "dpo-0-recipe") is None

    train(namespace, "sft")
    reads(namespace, "sft", "True", "Ready")
    merging = reads(namespace, "dpo", "False", "Merging")
    assert merging["status"]["phase"] == "Merging"
    assert columns(namespace, "dpo") == ["dpo", "dpo", "Merging", "for", "sft"]
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


def test_a_failed_merge_reaches_all_that_wait_and_is_tried_again_when_its_job_is_deleted(namespace: Namespace):
    namespace.apply(run("sft"))
    namespace.apply(run("dpo", base=on("sft"), method="dpo"))
    namespace.apply(deployment("sft"))
    train(namespace, "sft")
    reads(namespace, "dpo", "False", "Merging")
    reads(namespace, "assistants", "False", "Merging", kind="AdapterDeployment")

    job = refuse_merge(namespace, "sft")

    said = f"TrainingRun sft: Job {job} failed: another base lies there; delete the Job to try again"
    for kind, name in (("TrainingRun", "dpo"), ("AdapterDeployment", "assistants")):
        stuck = reads(namespace, name, "False", "MergeFailed", kind=kind)
        assert condition(stuck, "Stalled")["message"] == f"baseModel: {said}"
    parent = reads(namespace, "sft", "True", "Ready")
    assert (condition(parent, "Merged")["status"], condition(parent, "Merged")["reason"]) == ("False", "MergeFailed")

    namespace.delete("Job", job, propagation_policy="Background")
    reads(namespace, "dpo", "False", "Merging")
    merge(namespace, "sft")
    kubelet.pod_of(namespace, "dpo", "training")
    served = namespace.wait_for("Deployment", "assistants", lambda _: True, within=10, what="made")
    assert MERGED_URI in served["spec"]["template"]["spec"]["containers"][0]["args"]


def test_a_run_that_is_deleted_while_it_is_merged_is_waited_for_anew(namespace: Namespace):
    namespace.apply(run("sft"))
    namespace.apply(run("dpo", base=on("sft"), method="dpo"))
    train(namespace, "sft")
    pod = kubelet.pod_of(namespace, "sft", "merge")

    namespace.delete("TrainingRun", "sft")
    gone = reads(namespace, "dpo", "False", "WaitingForRun")
    assert condition(gone, "Ready")["message"] == "baseModel: TrainingRun sft does not exist yet"
    namespace.wait_gone("Pod", pod["metadata"]["name"], within=20)

    namespace.apply(run("sft"))
    train(namespace, "sft")
    merge(namespace, "sft")
    kubelet.pod_of(namespace, "dpo", "training")


def test_a_run_outlives_its_time_until_what_builds_on_it_has_begun(namespace: Namespace):
    namespace.apply(run("dpo", base=on("sft"), method="dpo"))
    namespace.apply(run("sft", ttlSecondsAfterFinished=0))
    train(namespace, "sft")
    merge(namespace, "sft")

    train(namespace, "dpo")
    namespace.wait_gone("TrainingRun", "sft", within=20)

    done = reads(namespace, "dpo", "True", "Ready")
    assert done["status"]["lineage"]["parents"] == {"baseModel": kubelet.DIGEST}
    namespace.apply(deployment("dpo"))
    merge(namespace, "dpo")
    namespace.wait_for("Deployment", "assistants", lambda _: True, within=10, what="made")


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
