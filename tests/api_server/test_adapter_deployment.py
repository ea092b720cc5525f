"""The operator against a real API server: what follows for an AdapterDeployment from what its pods do and say."""

import base64
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from tests.api_server import agents, kubelet
from tests.api_server.agents import Agent
from tests.live import Namespace, condition, has_condition

from posttrain_api import artifact

pytestmark = pytest.mark.usefixtures("operator")

ADDRESSES = ("127.80.0.1", "127.80.0.2")


def adapter(name: str, character: str) -> dict[str, Any]:
    return {"name": name, "uri": f"pvc://models/{name}", "digest": "sha256:" + character * 64}


def assistants(**spec: Any) -> dict[str, Any]:
    given = {"baseModel": {"uri": "pvc://models/tiny"}, "replicas": 2, "adapters": [adapter("legal", "a")], **spec}
    return {
        "apiVersion": "posttrain.dev/v1alpha1",
        "kind": "AdapterDeployment",
        "metadata": {"name": "assistants"},
        "spec": given,
    }


def ready_with(namespace: Namespace, status: str, reason: str) -> dict[str, Any]:
    holds = has_condition("Ready", status, reason)
    return namespace.wait_for("AdapterDeployment", "assistants", holds, within=10, what=reason)


def token(namespace: Namespace) -> str:
    """The token that the operator made."""
    secret = namespace.wait_for("Secret", "assistants-agent", lambda _: True, within=10, what="made")
    return base64.b64decode(secret["data"]["token"]).decode()


@contextmanager
def running(namespace: Namespace, **spec: Any) -> Iterator[list[Agent]]:
    """A deployment whose two pods run, with their agents."""
    namespace.apply(assistants(**spec))
    made = [Agent(address, token=token(namespace)) for address in ADDRESSES]
    with ExitStack() as stack:
        for agent, pod in zip(made, agents.pods(namespace, len(made)), strict=True):
            stack.enter_context(agent.serving())
            agents.start(namespace, pod, agent.address)
        yield made


def uids(namespace: Namespace) -> set[str]:
    return {pod["metadata"]["uid"] for pod in namespace.list("Pod", agents.SELECTOR)}


def test_from_apply_to_ready_and_one_adapter_more_without_a_restart(namespace: Namespace):
    with running(namespace) as made:
        ready = ready_with(namespace, "True", "Ready")
        before = uids(namespace)
        namespace.apply(assistants(adapters=[adapter("legal", "a"), adapter("support", "b")]))
        more = namespace.wait_for(
            "AdapterDeployment",
            "assistants",
            lambda found: has_condition("Ready", "True")(found) and len(found["status"]["adapters"]) == 2,
            within=10,
            what="Ready with two adapters",
        )
        row = namespace.kubectl("get", "adapterdeployments", "--no-headers").stdout.split()

    assert ready["status"]["display"] == {
        "base": "pvc://models/tiny",
        "adapters": "1/1",
        "replicas": "2/2",
        "ready": "True",
        "reason": "",
    }
    assert [found["loadedReplicas"] for found in more["status"]["adapters"]] == [2, 2]
    assert [[len(given.adapters) for given in agent.lists] for agent in made] == [[1, 2], [1, 2]]
    assert uids(namespace) == before
    assert row[:5] == ["assistants", "pvc://models/tiny", "2/2", "2/2", "True"]


def test_nothing_is_written_while_nothing_changes(namespace: Namespace):
    with running(namespace):
        ready_with(namespace, "True", "Ready")
        before = namespace.get("Deployment", "assistants")
        # Longer than the operator's interval between two looks at pods that serve.
        seen = [type_ for type_, _ in namespace.events("AdapterDeployment", "assistants", 6)]
        after = namespace.get("Deployment", "assistants")

    assert seen == ["ADDED", "LISTED"]
    assert before == after


def test_one_wrong_adapter_fails_alone(namespace: Namespace):
    with running(namespace) as made:
        ready_with(namespace, "True", "Ready")
        made[1].failures["wrong"] = {"reason": "BaseMismatch", "message": "made for another base"}
        namespace.apply(assistants(adapters=[adapter("legal", "a"), adapter("wrong", "c")]))
        failed = ready_with(namespace, "False", "BaseMismatch")

    states = {found["name"]: found["state"] for found in failed["status"]["adapters"]}
    assert states == {"legal": "Loaded", "wrong": "Failed"}
    assert condition(failed, "Stalled")["status"] == "True"
    assert condition(failed, "Available")["status"] == "True"
    assert condition(failed, "Reconciling") is None


def test_an_agent_that_falls_silent_takes_ready_away(namespace: Namespace):
    with running(namespace):
        ready_with(namespace, "True", "Ready")

    ready_with(namespace, "False", "Starting")


def test_an_image_that_cannot_be_pulled_is_said(namespace: Namespace):
    namespace.apply(assistants(replicas=1, podTemplate={"image": "127.0.0.1:1/server:1"}))
    (pod,) = agents.pods(namespace, 1)
    kubelet.wait_pod(namespace, pod, "ErrImagePull", "connection refused")

    failed = ready_with(namespace, "False", "ImagePullFailed")

    assert "image 127.0.0.1:1/server:1 cannot be pulled" in condition(failed, "Available")["message"]


def test_a_template_that_the_api_server_refuses_is_said(namespace: Namespace):
    namespace.apply(assistants(podTemplate={"volumeMounts": [{"name": "nothing", "mountPath": "/nothing"}]}))

    refused = ready_with(namespace, "False", "InvalidSpec")

    assert "nothing" in condition(refused, "Ready")["message"]
    assert condition(refused, "Stalled")["status"] == "True"


def test_the_scale_subresource_works(namespace: Namespace):
    with running(namespace):
        ready_with(namespace, "True", "Ready")
        scaled = namespace.kubectl("scale", "adapterdeployment", "assistants", "--replicas=0")
        assert scaled.returncode == 0, scaled.stderr
        stopped = ready_with(namespace, "False", "ScaledToZero")

    assert stopped["status"]["phase"] == "Stopped"
    assert namespace.get("Deployment", "assistants")["spec"]["replicas"] == 0


def test_a_deployment_that_was_scaled_by_hand_is_repaired(namespace: Namespace):
    namespace.apply(assistants())
    agents.pods(namespace, 2)
    namespace.kubectl("scale", "deployment", "assistants", "--replicas=1")

    namespace.wait_for(
        "Deployment",
        "assistants",
        lambda found: found["spec"]["replicas"] == 2 and found["metadata"]["generation"] >= 3,
        within=10,
        what="scaled back",
    )


def accept_run(namespace: Namespace) -> None:
    """A TrainingRun named run whose adapter is accepted."""
    spec = {
        "method": "sft",
        "baseModel": {"uri": "file:///models/tiny"},
        "environment": {"dataset": {"configMap": {"name": "data", "key": "rows"}}},
        "preflight": "Skip",
    }
    api_version = "posttrain.dev/v1alpha1"
    namespace.apply({"apiVersion": api_version, "kind": "TrainingRun", "metadata": {"name": "run"}, "spec": spec})
    training = kubelet.pod_of(namespace, "run", "training")
    done = kubelet.report(namespace, "run", training=kubelet.training_report())
    kubelet.end_pod(namespace, training, message=done)


def end_merge(namespace: Namespace, pod: dict[str, Any], uri: str) -> None:
    """The pod of a merge ends with this folder."""
    told = json.loads(pod["spec"]["containers"][0]["args"][1])
    merged = {"artifactDigest": told["artifactDigest"], "uri": uri, "digest": kubelet.DIGEST}
    report = {"uid": told["uid"], "recipeDigest": artifact.digest_of(told), "merged": merged}
    kubelet.end_pod(namespace, pod, message=json.dumps(report))


def test_the_base_is_a_runs_adapter_merged_once_in_a_job_of_that_run(namespace: Namespace):
    namespace.apply(assistants(baseModel={"fromRun": {"name": "run"}}, adapters=[]))
    waiting = ready_with(namespace, "False", "RunNotFound")
    accept_run(namespace)
    ready_with(namespace, "False", "Merging")
    merge = kubelet.pod_of(namespace, "run", "merge")
    jobs = [job["metadata"]["name"] for job in namespace.list("Job")]
    assert namespace.get("Deployment", "assistants") is None
    end_merge(namespace, merge, "pvc://posttrain-artifacts/run/base-1")

    made = namespace.wait_for("Deployment", "assistants", lambda _: True, within=20, what="made")

    assert (waiting["status"]["phase"], waiting["status"]["display"]["base"]) == ("Pending", "run:run")
    assert "run-merge-aaaaaaaa" in jobs
    for container in made["spec"]["template"]["spec"]["containers"]:
        assert "pvc://posttrain-artifacts/run/base-1" in container["args"]


def test_everything_goes_with_it(namespace: Namespace):
    namespace.apply(assistants())
    agents.pods(namespace, 2)
    namespace.delete("AdapterDeployment", "assistants")

    children = {
        "Deployment": "assistants",
        "Service": "assistants",
        "NetworkPolicy": "assistants",
        "ConfigMap": "assistants-adapters",
        "Secret": "assistants-agent",
    }
    for kind, name in children.items():
        namespace.wait_gone(kind, name, within=20)
