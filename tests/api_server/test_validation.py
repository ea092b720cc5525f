"""What the API server itself refuses, with the operator down: `kubectl apply --dry-run=server` and our CEL rules."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.live import ApiException, Namespace

RUN: dict[str, Any] = {
    "apiVersion": "posttrain.dev/v1alpha1",
    "kind": "TrainingRun",
    "metadata": {"name": "run"},
    "spec": {
        "method": "sft",
        "baseModel": {"uri": "pvc://models/qwen"},
        "environment": {"dataset": {"uri": "pvc://data/train.jsonl"}},
    },
}
DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "posttrain.dev/v1alpha1",
    "kind": "AdapterDeployment",
    "metadata": {"name": "assistants"},
    "spec": {"baseModel": {"uri": "pvc://models/qwen"}, "adapters": [{"name": "a", "fromRun": {"name": "run"}}]},
}
DIGEST = "sha256:" + "0" * 64
BF16_ON_CPU = {"hyperparameters": {"precision": "bf16"}, "resources": {"gpus": 0}}


def changed(manifest: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The manifest with one value set; a path such as spec.environment.dataset."""
    copied = copy.deepcopy(manifest)
    *parents, last = path.split(".")
    place = copied
    for name in parents:
        place = place.setdefault(name, {})
    place[last] = value
    return copied


def refusal(request: Callable[..., Any], **given: Any) -> str:
    """What the API server says of a request that it would refuse, as kubectl makes it; empty where it would not.

    kubectl itself takes thirty times as long for the same question.
    """
    try:
        request(dry_run="All", query_params=[("fieldValidation", "Strict")], **given)
    except ApiException as refused:
        return str(json.loads(refused.body)["message"])
    return ""


def dry_run(namespace: Namespace, manifest: dict[str, Any]) -> str:
    """Why a new object would be refused, empty where it is accepted."""
    return refusal(namespace.resource(manifest["kind"]).create, body=manifest, namespace=namespace.name)


def dry_change(namespace: Namespace, manifest: dict[str, Any]) -> str:
    """Why the change of an object that is there would be refused, empty where it is accepted."""
    merge = {"namespace": namespace.name, "content_type": "application/merge-patch+json"}
    return refusal(namespace.resource(manifest["kind"]).patch, body=manifest, **merge)


@pytest.mark.parametrize("manifest", [RUN, DEPLOYMENT], ids=["run", "deployment"])
def test_kubectl_is_told_before_anything_is_made(namespace: Namespace, manifest: dict[str, Any]):
    dry = ("apply", "--dry-run=server", "-f", "-")
    right = namespace.kubectl(*dry, given=json.dumps(manifest))
    wrong = namespace.kubectl(*dry, given=json.dumps(changed(manifest, "spec.baseModel", {})))

    assert (right.returncode, right.stderr) == (0, "")
    assert wrong.returncode == 1
    assert "give exactly one of uri, fromRun" in wrong.stderr


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        pytest.param("spec.hyperparameters", {"epochs": "three"}, "spec.hyperparameters.epochs", id="wrong type"),
        pytest.param("spec.hyperparameter", {"epochs": 3}, 'unknown field "spec.hyperparameter"', id="unknown field"),
        pytest.param("spec.method", "ppo2", "spec.method", id="a method that is not there"),
        pytest.param("spec.hyperparameters", {"learningRate": 0}, "spec.hyperparameters.learningRate", id="zero rate"),
        pytest.param("spec.tuning", {"lora": {"rank": 100000}}, "spec.tuning.lora.rank", id="rank out of bounds"),
        pytest.param("spec.tuning", {"lora": {"rank": 0}}, "greater than or equal to 1", id="rank 0"),
        pytest.param(
            "spec.hyperparameters", {"epochs": 1, "maxSteps": 5}, "give epochs or maxSteps, not both", id="both"
        ),
        pytest.param("spec.environment.dataset", {}, "give exactly one of uri, configMap, fromRun", id="no source"),
        pytest.param(
            "spec.environment.dataset",
            {"uri": "pvc://data/a", "configMap": {"name": "a", "key": "b"}},
            "give exactly one of uri, configMap",
            id="two sources",
        ),
        pytest.param(
            "spec.environment.chatTemplate",
            {"inline": "x", "configMap": {"name": "a", "key": "b"}},
            "give exactly one of inline, configMap",
            id="two templates",
        ),
        pytest.param("spec.baseModel.uri", "hf://org/name", "use pvc://claim/path or file:///path", id="wrong scheme"),
        pytest.param("spec.baseModel.uri", "pvc://a/../b", "`..` is not allowed in a path", id="out of the claim"),
        pytest.param("spec.output", {"uri": "file:///tmp"}, "use pvc://claim/path", id="output in the image"),
        pytest.param("spec.resources", {"gpus": -1}, "spec.resources.gpus", id="negative GPUs"),
        pytest.param("spec.resources", {"gpus": 2}, "spec.resources.gpus", id="more GPUs than one"),
        pytest.param(
            "spec", {**RUN["spec"], **BF16_ON_CPU}, "hyperparameters.precision bf16 needs a GPU", id="bf16 on a CPU"
        ),
        pytest.param("spec.resources", {"memory": "lots"}, "spec.resources.memory", id="not a quantity"),
        pytest.param("spec.podTemplate", {"volumes": [{"name": "a"}]}, "give exactly one of configMap", id="no volume"),
        pytest.param(
            "spec.podTemplate",
            {"volumes": [{"name": "a", "hostPath": {"path": "/"}}]},
            "hostPath",
            id="a volume of the node",
        ),
        pytest.param("spec.evaluation", {"metrics": []}, "spec.evaluation.metrics", id="nothing to measure"),
        pytest.param("metadata.name", "a" * 41, "metadata.name is at most 40 characters", id="a long name"),
    ],
)
def test_a_wrong_run_is_refused(namespace: Namespace, path: str, value: Any, said: str):
    assert said in dry_run(namespace, changed(RUN, path, value))


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        pytest.param("spec.adapters", [{"name": "a"}], "give exactly one of fromRun, uri", id="no source"),
        pytest.param(
            "spec.adapters",
            [{"name": "a", "fromRun": {"name": "r"}, "uri": "pvc://a/b", "digest": DIGEST}],
            "give exactly one of fromRun, uri",
            id="two sources",
        ),
        pytest.param("spec.adapters", [{"name": "a", "uri": "pvc://a/b"}], "needs its digest", id="no digest"),
        pytest.param(
            "spec.adapters", [{"name": "a", "uri": "pvc://a/b", "digest": "sha256:1"}], "digest", id="half a digest"
        ),
        pytest.param(
            "spec.adapters", [{"name": "base", "fromRun": {"name": "r"}}], "base is the name of the base", id="base"
        ),
        pytest.param(
            "spec.adapters",
            [{"name": "a", "fromRun": {"name": "r"}}, {"name": "a", "fromRun": {"name": "s"}}],
            "Duplicate value",
            id="a name twice",
        ),
        pytest.param("spec.engine", {"maxRank": 17}, "spec.engine.maxRank", id="a rank vLLM has not"),
        pytest.param(
            "spec.engine",
            {"maxLoadedAdapters": 8, "maxCachedAdapters": 4},
            "make it at least maxLoadedAdapters",
            id="cache smaller than the batch",
        ),
        pytest.param("spec.replicas", -1, "spec.replicas", id="negative replicas"),
    ],
)
def test_a_wrong_deployment_is_refused(namespace: Namespace, path: str, value: Any, said: str):
    assert said in dry_run(namespace, changed(DEPLOYMENT, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param("spec.baseModel.uri", "pvc://models/other", id="another base"),
        pytest.param("spec.environment.dataset.uri", "pvc://data/other.jsonl", id="other data"),
        pytest.param("spec.environment.systemPrompt", "Be brief.", id="a system prompt added"),
        pytest.param("spec.hyperparameters", {"epochs": 5}, id="more epochs"),
        pytest.param("spec.tuning", {"lora": {"rank": 32}}, id="another rank"),
        pytest.param("spec.evaluation", {"metrics": ["loss"]}, id="other metrics"),
        pytest.param("spec.output", {"uri": "pvc://elsewhere"}, id="another output"),
        pytest.param("spec.preflight", "Skip", id="no preflight any more"),
    ],
)
def test_the_recipe_of_a_run_cannot_be_changed(namespace: Namespace, path: str, value: Any):
    namespace.apply(RUN)
    field = path.split(".")[1]
    said = dry_change(namespace, changed(RUN, path, value))
    assert f"{field} is part of the recipe and cannot be changed: create a new TrainingRun" in said


def test_operations_of_a_run_can_be_changed(namespace: Namespace):
    namespace.apply(RUN)
    operations = {"deadlineSeconds": 60, "ttlSecondsAfterFinished": 60, "resources": {"gpus": 0}}
    for name, value in operations.items():
        assert dry_change(namespace, changed(RUN, f"spec.{name}", value)) == ""


def test_a_new_object_is_in_progress_for_kstatus(namespace: Namespace):
    assert namespace.apply(changed(RUN, "metadata.name", "fresh"))["status"] == {"observedGeneration": -1}


def test_explain_reads_like_documentation(namespace: Namespace):
    shown = namespace.kubectl("explain", "trainingrun.spec.hyperparameters").stdout
    assert "learningRate" in shown
    assert "Highest learning rate; left out, it depends on method and tuning" in " ".join(shown.split())


def test_short_names_and_the_category_are_known(namespace: Namespace):
    for name in ("trun", "adep", "posttrain"):
        assert namespace.kubectl("get", name).returncode == 0
