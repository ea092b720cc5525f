"""The containers beside the trainer: what reward code gets to see, and how vLLM is asked to answer."""

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.training_run.builders import SETTINGS
from tests.unit.training_run.golden import PLATFORM, everything_said, parsed, preflight, training

from posttrain_api.meta import PodTemplate
from posttrain_operator import pod_template
from posttrain_operator.actions import Manifest
from posttrain_operator.training_run import sidecars

BASE = {"baseModel": {"uri": "pvc://models/tiny", "tuned": True}}
ROWS = {"uri": "pvc://data/dates.jsonl"}
ON_CLAIM = {"python": {"uri": "pvc://data/rewards/v1/", "entrypoint": "rewards:score"}}
IN_CONFIG_MAP = {"python": {"configMap": {"name": "code"}, "entrypoint": "rewards:score"}}
IN_IMAGE = {"python": {"uri": "file:///opt/rewards", "entrypoint": "rewards:score"}}
UNIT_TESTS = {"builtin": "unit_tests"}
TOOLS = {"uri": "pvc://tools/calculator", "entrypoint": "tools:Calculator"}
JOBS = {"preflight": preflight, "training": training}


def grpo(*rewards: Manifest, **more: Any) -> Manifest:
    """The spec of a run that learns from these rewards."""
    return {"method": "grpo", **BASE, "environment": {"dataset": ROWS, "rewards": list(rewards)}, **more}


def with_tools(spec: Manifest) -> Manifest:
    return {**spec, "environment": {**spec["environment"], "tools": TOOLS}}


def beside(pod: Manifest) -> dict[str, Manifest]:
    """The containers beside the trainer, by name."""
    return {found["name"]: found for found in pod.get("initContainers", [])}


def pod_of(job: Manifest) -> Manifest:
    found: Manifest = job["spec"]["template"]["spec"]
    return found


def seen(container: Manifest) -> dict[str, tuple[str | None, bool]]:
    """Path of each mount -> the part of the volume that is there, and whether it is read-only."""
    return {
        mount["mountPath"]: (mount.get("subPath"), mount.get("readOnly", False)) for mount in container["volumeMounts"]
    }


CLAIMS = "/var/lib/posttrain/claims"
OWN = {"/run/posttrain-rewards": (None, False), "/tmp": (None, False)}


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize(
    ("spec", "code"),
    [
        pytest.param(
            grpo(ON_CLAIM), {f"{CLAIMS}/data/rewards/v1": ("rewards/v1", True)}, id="a folder beside the rows"
        ),
        pytest.param(
            grpo(IN_CONFIG_MAP), {"/etc/posttrain/config-maps/code": (None, True)}, id="a ConfigMap's modules"
        ),
        pytest.param(grpo(IN_IMAGE), {}, id="a folder of the image"),
        pytest.param(grpo(UNIT_TESTS), {}, id="code that the model has written"),
        pytest.param(
            {**grpo(), "environment": {"dataset": {"package": "reasoning-gym:leg_counting"}}},
            {},
            id="a package that scores its own rows",
        ),
        pytest.param(
            grpo(ON_CLAIM, {**ON_CLAIM, "name": "again"}),
            {f"{CLAIMS}/data/rewards/v1": ("rewards/v1", True)},
            id="two functions of one folder",
        ),
        pytest.param(
            with_tools(grpo({"builtin": "exact"})), {f"{CLAIMS}/tools/calculator": ("calculator", True)}, id="tools"
        ),
        pytest.param(
            {**grpo(IN_CONFIG_MAP), "method": "sft"}, {"/etc/posttrain/config-maps/code": (None, True)}, id="sft"
        ),
    ],
)
def test_code_that_is_not_ours_sees_itself_and_a_socket(
    job: str, spec: Manifest, code: dict[str, tuple[str | None, bool]]
) -> None:
    pod = pod_of(JOBS[job](**spec))
    rewards, (trainer,) = beside(pod)["rewards"], pod["containers"]

    assert seen(rewards) == {**code, **OWN}
    assert not code.keys() & seen(trainer).keys()
    assert trainer["args"][trainer["args"].index("--rewards-socket") + 1] == rewards["args"][-1]
    volumes = [volume["name"] for volume in pod["volumes"]]
    mounted = {mount["name"] for container in (rewards, trainer) for mount in container["volumeMounts"]}
    assert sorted(mounted) == sorted(volumes)


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize(
    "spec",
    [
        pytest.param({}, id="no rewards"),
        pytest.param(grpo({"builtin": "exact"}, {"http": {"url": "http://judge"}}), id="rewards of ours"),
    ],
)
def test_nothing_runs_apart_where_no_code_is_foreign(job: str, spec: Manifest) -> None:
    pod = pod_of(JOBS[job](**spec))

    assert beside(pod) == {}
    assert "--rewards-socket" not in pod["containers"][0]["args"]


@pytest.mark.parametrize("job", JOBS)
def test_reward_code_gets_nothing_of_the_template(job: str) -> None:
    secret = {"name": "JUDGE", "valueFrom": {"secretKeyRef": {"name": "judge", "key": "token"}}}
    mounted = {"volumes": [{"name": "hub", "secret": {"secretName": "hub"}}]}
    mounts = {"volumeMounts": [{"name": "hub", "mountPath": "/hub"}]}
    template = PodTemplate.model_validate({"env": [secret], **mounted, **mounts})
    platform = replace(SETTINGS, default_pod_template=template)
    spec = {**everything_said(), **grpo(IN_CONFIG_MAP)}
    rewards = beside(pod_of(JOBS[job](platform, **spec)))["rewards"]

    assert "/hub" not in seen(rewards)
    assert "secret" not in json.dumps(rewards).lower()
    assert {variable["name"] for variable in rewards["env"]} == {"HOME", "USER", "NVIDIA_VISIBLE_DEVICES"}
    assert rewards["image"] == "registry.team/trainer:2"


def test_reward_code_is_another_user_than_the_trainer_and_than_another_runs() -> None:
    one, other = (parsed(**grpo(UNIT_TESTS)) for _ in range(2))
    other = other.replace(metadata=other.metadata.replace(uid="uid-of-another"))
    found = [
        sidecars.rewards(run, template=PodTemplate(), settings=SETTINGS)[0].container["securityContext"]
        for run in (one, other)
    ]
    users = [context["runAsUser"] for context in found]

    assert len({*users, pod_template.USER_ID}) == 3
    assert users == [context["runAsGroup"] for context in found]
    assert all(10_000 <= user < 60_000 for user in users)


def test_reward_code_has_memory_of_its_own_and_none_of_the_gpus() -> None:
    spec = grpo(UNIT_TESTS, resources={"gpus": 1, "memory": "64Gi"})
    rewards = beside(pod_of(training(replace(SETTINGS, rewards_memory="3Gi"), **spec)))["rewards"]

    assert rewards["resources"]["limits"] == {"memory": "3Gi"}
    assert rewards["resources"]["requests"]["memory"] == "3Gi"
    assert rewards["restartPolicy"] == "Always"


@pytest.mark.parametrize("job", JOBS)
def test_a_judges_token_is_a_file_for_the_trainer_alone(job: str) -> None:
    judge = {"http": {"url": "http://judge", "token": {"name": "judge", "key": "bearer"}}}
    pod = pod_of(JOBS[job](**grpo(IN_CONFIG_MAP, {"http": {"url": "http://open"}}, judge)))
    (volume,) = [found for found in pod["volumes"] if "projected" in found]
    source = {"secret": {"name": "judge", "items": [{"key": "bearer", "path": "2/token"}]}}

    assert volume["projected"] == {"defaultMode": 0o440, "sources": [source]}
    assert seen(pod["containers"][0])["/etc/posttrain/tokens"] == (None, True)
    assert "/etc/posttrain/tokens" not in seen(beside(pod)["rewards"])


def served(**rollout: Any) -> Manifest:
    """The spec of a run that is answered by a server."""
    return grpo({"builtin": "exact"}, grpo={"maxCompletionTokens": 64, "rollout": {"mode": "server", **rollout}})


def option(container: Manifest, name: str) -> str:
    found: str = container["args"][container["args"].index(name) + 1]
    return found


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        pytest.param(served(), {"--dtype": "bfloat16", "--gpus": "1", "--max-rank": "16"}, id="on a GPU"),
        pytest.param(served(serverGpus=0), {"--dtype": "float32", "--gpus": "0"}, id="on the CPU"),
        pytest.param(
            {**served(), "hyperparameters": {"precision": "fp32", "maxLength": 100}},
            {"--dtype": "float32", "--gpus": "1", "--max-model-length": "164"},
            id="in the trainer's precision",
        ),
        pytest.param({**served(), "tuning": {"lora": {"rank": 4}}}, {"--max-rank": "8"}, id="the smallest rank"),
        pytest.param({**served(), "tuning": {"lora": {"rank": 129}}}, {"--max-rank": "256"}, id="a rank in between"),
        pytest.param({**served(), "tuning": {"lora": {"rank": 512}}}, {"--max-rank": "512"}, id="the largest rank"),
        pytest.param(served(gpuMemoryUtilization=0.5), {"--gpu-memory-utilization": "0.5"}, id="half a GPU"),
    ],
)
def test_a_server_is_told_what_it_is_to_answer_for(spec: Manifest, wanted: dict[str, str]) -> None:
    rollout = beside(pod_of(training(**spec)))["rollout"]

    assert {name: option(rollout, name) for name in wanted} == wanted


def test_a_server_has_its_own_gpus_and_reads_the_base() -> None:
    pod = pod_of(training(PLATFORM, **served(serverGpus=2), resources={"gpus": 1, "gpuResourceName": "amd.com/gpu"}))
    rollout, (trainer,) = beside(pod)["rollout"], pod["containers"]

    assert (rollout["image"], rollout["restartPolicy"]) == ("server:1", "Always")
    assert (rollout["resources"]["limits"], trainer["resources"]["limits"]) == (
        {"amd.com/gpu": "2"},
        {"amd.com/gpu": "1"},
    )
    assert seen(rollout)[f"{CLAIMS}/models"] == (None, True)
    assert (seen(rollout)["/run/posttrain-rollout"], seen(trainer)["/run/posttrain-rollout"]) == (
        (None, True),
        (None, False),
    )
    assert option(trainer, "--rollout-url") == f"http://127.0.0.1:{option(rollout, '--port')}"


def test_a_server_answers_while_the_model_learns_not_before() -> None:
    assert beside(pod_of(preflight(**served()))) == {}
    assert "rollout" not in beside(pod_of(training(**grpo({"builtin": "exact"}))))


def test_a_round_may_be_answered_otherwise_than_the_first() -> None:
    patch = {"grpo": {"rollout": {"mode": "transformers"}}}
    spec = {**served(), "evaluation": {"onFailure": {"action": "Retrain", "patch": patch}}}
    recipes = [parsed(**spec).spec.recipe(round=round).to_json() for round in (0, 1)]
    found = [
        sidecars.rollout(parsed(**spec), {"recipe": recipe}, template=PodTemplate(), settings=SETTINGS)
        for recipe in recipes
    ]

    assert [len(one) for one in found] == [1, 0]
