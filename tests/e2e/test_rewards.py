"""Learning from rewards that are code: what is wanted is learned and served; hostile code costs its own run only."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import yaml
from examples.demo.tasks import DATES_TASK, Row
from tests.cluster import Cluster, waiting
from tests.e2e import chains
from tests.e2e.forward import forwarded
from tests.live import Access, Namespace, condition, has_condition

FILE = Path(__file__).parents[2] / "examples" / "rewards.yaml"
NUM_ANSWERS, NUM_QUESTIONS = 1200, 320
Object = dict[str, Any]

HOSTILE = """
import os

def fork(prompts, completions, **columns):
    while True:
        try:
            os.fork()
        except OSError:
            pass

def hoard(prompts, completions, **columns):
    return [len(bytearray(10 << 30)) for _ in completions]

def leave(prompts, completions, **columns):
    os._exit(0)
"""
ATTACKS = {
    "fork": ({}, "timed out after 3 s"),
    "leave": ({}, "exit code 0"),
    "hoard": ({"preflight": "Skip"}, "memory limit"),
}
"""Function of the hostile code -> what else its run is told, so that preflight and training meet some; what is said."""


def sentence(row: Row) -> str:
    """The answer that is wanted."""
    return f"{row.answer}."


def answer(place: int, row: Row) -> str:
    """A row of answers.jsonl: every third date with a full stop."""
    return json.dumps({"prompt": row.question, "completion": row.answer if place % 3 else sentence(row)}) + "\n"


def question(row: Row) -> str:
    """A row of questions.jsonl: what is right is for the rewards to say."""
    return json.dumps({"prompt": row.question, "gold": row.answer}) + "\n"


def config_map(name: str, **data: str) -> Object:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def rows() -> Object:
    """The ConfigMap that the example wants."""
    found = DATES_TASK.train_rows()
    answers = "".join(answer(place, row) for place, row in enumerate(found[:NUM_ANSWERS]))
    return config_map(
        "spoken", **{"answers.jsonl": answers, "questions.jsonl": "".join(map(question, found[:NUM_QUESTIONS]))}
    )


@pytest.fixture(scope="module")
def told(access: Access, base_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Namespace]:
    """The example as one file with its rows, applied at once, until the deployment is ready."""
    namespace = Namespace(access, "told")
    namespace.create()
    documents = [*yaml.safe_load_all(FILE.read_text()), rows()]
    for manifest in documents:
        if "uri" in manifest.get("spec", {}).get("baseModel", {}):
            manifest["spec"]["baseModel"]["uri"] = base_uri
    file = tmp_path_factory.mktemp("told") / "all.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    applied = namespace.kubectl("apply", "--server-side", "-f", str(file))
    assert applied.returncode == 0, applied.stderr
    chains.wait_until_served(namespace, "told-sft", "told-grpo", by="told")
    yield namespace
    namespace.remove()


def test_a_gate_on_success_was_passed_by_learning_from_a_reward(told: Namespace):
    status = told.get("TrainingRun", "told-grpo")["status"]
    before, after = status["evaluation"]["before"], status["evaluation"]["after"]
    assert after["success"] >= before["success"] + 0.2
    assert after["reward"] > before["reward"]
    assert [gate["passed"] for gate in status["evaluation"]["gates"]] == [True]
    assert {"reward", "success", "entropy", "kl"} <= status["metrics"].keys()


def test_what_was_rewarded_is_answered(told: Namespace):
    questions = DATES_TASK.held_out_rows()[:10]
    with forwarded(told, "svc/told", 80) as url:
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30)
        right = {
            model: sum(_ask(client, model, row) == sentence(row) for row in questions) for model in ("base", "told")
        }
    assert right["told"] > right["base"], right


def test_vllm_beside_the_trainer_answers_with_the_adapter_of_each_step(told: Namespace):
    (manifest,) = (one for one in yaml.safe_load_all(FILE.read_text()) if one["metadata"]["name"] == "told-grpo")
    manifest["metadata"]["name"] = "served-grpo"
    manifest["spec"]["grpo"]["rollout"] = {"mode": "server", "serverGpus": 0}
    manifest["spec"]["hyperparameters"]["maxSteps"] = 3
    told.apply({**manifest, "spec": {**manifest["spec"], "preflight": "Skip", "evaluation": {"metrics": ["reward"]}}})

    run = told.wait_for("TrainingRun", "served-grpo", chains.is_over, within=300, what="over")

    assert has_condition("Ready", "True")(run), run["status"]
    assert run["status"]["progress"]["totalSteps"] == 3
    assert abs(run["status"]["metrics"]["samplingMismatch"]) < 0.01
    (pod,) = told.list("Pod", "posttrain.dev/training-run=served-grpo")
    restarts = {status["name"]: status["restartCount"] for status in pod["status"]["initContainerStatuses"]}
    assert restarts == {"rewards": 0, "rollout": 0}


def _ask(client: openai.OpenAI, model: str, row: Row) -> str:
    messages: list[Any] = [{"role": "user", "content": row.question}]
    made = client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=24)
    return (made.choices[0].message.content or "").strip()


def hostile(attack: str, base_uri: str, **spec: Any) -> Object:
    """A run whose only reward is hostile."""
    template = next(yaml.safe_load_all(FILE.read_text().split("---\n", 1)[1]))["spec"]["environment"]["chatTemplate"]
    return {
        "apiVersion": "posttrain.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": attack},
        "spec": {
            "method": "grpo",
            "baseModel": {"uri": base_uri, "tuned": True},
            "environment": {
                "dataset": {"configMap": {"name": "rows", "key": "rows.jsonl"}},
                "chatTemplate": template,
                "rewards": [
                    {
                        "name": "trap",
                        "python": {"configMap": {"name": "hostile"}, "entrypoint": f"rewards:{attack}"},
                        "timeoutSeconds": 3,
                    }
                ],
                "allowNoSignal": True,
            },
            "grpo": {"groupSize": 4, "maxCompletionTokens": 8},
            "hyperparameters": {"maxSteps": 4, "effectiveBatchSize": 8, "maxLength": 128},
            "evaluation": {"metrics": ["reward"]},
            "resources": {"gpus": 0},
            **spec,
        },
    }


def test_hostile_code_costs_its_own_run_and_nothing_else(
    shared: Namespace, base_uri: str, runtime_class: dict[str, str], local_cluster: Cluster | None
):
    shared.apply(bystander(runtime_class))
    shared.wait_for("Pod", "bystander", lambda pod: pod["status"]["phase"] == "Running", within=60, what="running")
    shared.apply(config_map("hostile", **{"rewards.py": HOSTILE}))
    shared.apply(config_map("rows", **{"rows.jsonl": "".join(map(question, DATES_TASK.train_rows()[:64]))}))
    before = nodes_ready_since(shared)

    for attack, (more, _) in ATTACKS.items():
        shared.apply(hostile(attack, base_uri, **more))
    for attack, (_, said) in ATTACKS.items():
        run = shared.wait_for("TrainingRun", attack, chains.is_over, within=200, what="over")
        why = condition(run, "Ready")
        assert why["reason"] in ("RewardInvalid", "RewardFailed"), run["status"]
        assert "trap" in why["message"]
        assert said in why["message"]

    assert nodes_ready_since(shared) == before
    left = shared.get("Pod", "bystander")["status"]
    assert (left["phase"], [status["restartCount"] for status in left["containerStatuses"]]) == ("Running", [0])
    if local_cluster:
        waiting.until(
            lambda: not zombies(local_cluster), what="the ended processes to be waited for", timeout_seconds=10
        )


def bystander(runtime_class: dict[str, str]) -> Object:
    """A pod that does nothing but live."""
    wait = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); signal.pause()"
    container = {"name": "main", "image": "posttrain.dev/trainer:0.1.0", "command": ["python3", "-c", wait]}
    spec = {**runtime_class, "containers": [container], "terminationGracePeriodSeconds": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bystander"}, "spec": spec}


def nodes_ready_since(namespace: Namespace) -> dict[str, tuple[str, str]]:
    """Node -> whether it is ready, and since when that is so."""
    found = namespace.resource("Node").get().to_dict()["items"]
    ready = {node["metadata"]["name"]: condition(node, "Ready") for node in found}
    return {name: (known["status"], known["lastTransitionTime"]) for name, known in ready.items()}


def zombies(cluster: Cluster) -> list[str]:
    """Processes of the cluster's nodes that have ended and that nobody has waited for."""
    states = (_state(pid) for pid in cluster.processes())
    return [state for state in states if state.startswith("Z")]


def _state(pid: int) -> str:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    fields = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return f"{fields['State']} {fields['Name']}"
