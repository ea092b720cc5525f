"""A run that learns from rewards against a real API server: its pods are accepted, and its health is told."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from tests.api_server import kubelet
from tests.api_server.test_training_run import run
from tests.live import Namespace, condition, has_condition

from posttrain_api.trainer_contract import STATUS_PORT

pytestmark = pytest.mark.usefixtures("operator")
ADDRESS = "127.9.4.1"
RULE = "RewardHacking"


def learning(**spec: Any) -> dict[str, Any]:
    """A run whose score is code, beside a judge, answered by a server."""
    code = {"configMap": {"name": "code"}, "entrypoint": "rewards:score"}
    judge = {"url": "http://judge", "token": {"name": "judge", "key": "token"}}
    folder = {"uri": "pvc://code/rewards", "entrypoint": "rewards:success"}
    rewards = [{"python": code}, {"http": judge}, {"python": folder, "role": "success"}]
    rows = {"configMap": {"name": "data", "key": "rows"}}
    return run(
        method="grpo",
        baseModel={"uri": "file:///models/tiny", "tuned": True},
        environment={"dataset": rows, "rewards": rewards},
        grpo={"rollout": {"mode": "server", "serverGpus": 0}},
        resources={"gpus": 0},
        **spec,
    )


def test_pods_with_reward_code_are_as_restricted_as_others(namespace: Namespace):
    enforced = "pod-security.kubernetes.io/enforce=restricted"
    assert namespace.access.kubectl("label", "namespace", namespace.name, enforced).returncode == 0
    namespace.apply(learning())

    preflight = kubelet.pod_of(namespace, "run", "preflight")
    kubelet.end_pod(
        namespace, preflight, message=kubelet.report(namespace, "run", preflight=kubelet.preflight_report())
    )
    training = kubelet.pod_of(namespace, "run", "training")

    beside = {
        name: [(container["name"], container["restartPolicy"]) for container in pod["spec"]["initContainers"]]
        for name, pod in (("preflight", preflight), ("training", training))
    }
    assert beside == {
        "preflight": [("rewards", "Always")],
        "training": [("rewards", "Always"), ("rollout", "Always")],
    }


def test_a_broken_rule_is_a_condition_while_it_is_broken_and_one_event(namespace: Namespace):
    namespace.apply(learning(preflight="Skip"))
    training = kubelet.pod_of(namespace, "run", "training")
    finding = {"rule": RULE, "message": "reward 0.9 up, success 0.1 down", "step": 40}
    said = {"stage": "Training", "step": 40, "totalSteps": 100, "health": [finding]}
    with trainer_says(said):
        kubelet.run_pod(namespace, training)
        namespace.patch_status("Pod", training["metadata"]["name"], {"podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}]})
        broken = namespace.wait_for("TrainingRun", "run", has_condition(RULE, "True", RULE), within=15, what=RULE)
        assert condition(broken, RULE)["message"] == finding["message"]
        assert broken["status"]["health"] == [{**finding, "stopped": False}]
        assert (broken["status"]["phase"], broken["status"]["display"]["reason"]) == ("Training", "Training")
        told = namespace.wait_for_any("Event", lambda event: event["reason"] == RULE, within=5, what="told")
        assert told["type"] == "Warning"

        said["health"] = []
        well = namespace.wait_for("TrainingRun", "run", lambda r: condition(r, RULE) is None, within=15, what="well")
        assert "health" not in well["status"]

    stopped = {**finding, "stopped": True}
    report = kubelet.training_report(stepsCompleted=12, stoppedEarly=True, health=[stopped])
    kubelet.end_pod(namespace, training, message=kubelet.report(namespace, "run", training=report))
    ready = namespace.wait_for("TrainingRun", "run", has_condition("Ready", "True"), within=10, what="Ready")
    assert f"12 of 30 steps, stopped for {RULE}" in condition(ready, "Trained")["message"]
    assert condition(ready, RULE)["status"] == "True"


@contextmanager
def trainer_says(status: dict[str, Any]) -> Iterator[None]:
    """The trainer's GET /status answers with this while the block lasts, whatever it is by then."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({**status, "updatedAt": datetime.now(UTC).isoformat()}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            return

    server = ThreadingHTTPServer((ADDRESS, STATUS_PORT), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
