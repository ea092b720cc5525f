"""TrainingRun: defaults are resolved once, and what cannot be meant is refused."""

from typing import Any

import pytest

from posttrain_api.v1alpha1.training_run import TrainingRunSpec

MINIMAL = {
    "method": "sft",
    "baseModel": {"uri": "pvc://models/qwen"},
    "environment": {"dataset": {"uri": "pvc://data/train.jsonl"}},
}


def spec(**changes: Any) -> TrainingRunSpec:
    return TrainingRunSpec.model_validate({**MINIMAL, **changes})


def test_a_minimal_run_resolves_to_the_whole_recipe():
    assert spec().recipe().to_json() == {
        "sft": {"completionOnly": False},
        "method": "sft",
        "baseModel": {"uri": "pvc://models/qwen", "tuned": False},
        "environment": {
            "dataset": {
                "uri": "pvc://data/train.jsonl",
                "columns": {},
                "invalidRows": "Refuse",
                "maxInvalidShare": 0.05,
            },
            "rewards": [],
            "allowNoSignal": False,
        },
        "tuning": {
            "lora": {
                "rank": 16,
                "alpha": 32.0,
                "dropout": 0.0,
                "targetModules": [],
                "init": "default",
                "dora": False,
                "rankStabilized": False,
                "quantization": "none",
            }
        },
        "hyperparameters": {
            "epochs": 3.0,
            "learningRate": 0.0002,
            "effectiveBatchSize": 16,
            "maxLength": 2048,
            "packing": False,
            "warmupSteps": 0.03,
            "scheduler": "cosine",
            "weightDecay": 0.0,
            "maxGradNorm": 1.0,
            "gradientCheckpointing": True,
            "precision": "auto",
            "seed": 42,
        },
        "evaluation": {
            "metrics": ["loss", "tokenAccuracy"],
            "maxCompletionTokens": 256,
            "gates": [],
            "onFailure": {"action": "Reject", "maxAttempts": 2, "patch": {"hyperparameters": {}}},
            "samplePrompts": [],
        },
        "output": {"uri": "pvc://posttrain-artifacts"},
    }


def test_steps_given_leave_epochs_out():
    resolved = spec(hyperparameters={"maxSteps": 10}).recipe().hyperparameters
    assert (resolved.max_steps, resolved.epochs) == (10, None)


def test_operations_are_no_part_of_the_recipe():
    assert spec(deadlineSeconds=60, resources={"gpus": 0}).recipe() == spec().recipe()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"environment": {"dataset": {}}}, "exactly one of uri, configMap", id="no source"),
        pytest.param(
            {"environment": {"dataset": {"uri": "file:///a", "configMap": {"name": "a", "key": "b"}}}},
            "exactly one of uri, configMap",
            id="two sources",
        ),
        pytest.param({"hyperparameters": {"epochs": 1, "maxSteps": 1}}, "not both", id="epochs and steps"),
        pytest.param({"hyperparameters": {"learningRate": 0}}, "greater than 0", id="learning rate of zero"),
        pytest.param({"tuning": {"lora": {"rank": 0}}}, "greater than or equal to 1", id="rank 0"),
        pytest.param({"learningRate": 1e-4}, "learningRate", id="a field in the wrong place"),
        pytest.param({"output": {"uri": "file:///tmp/out"}}, "must outlive its pod", id="output in the image"),
        pytest.param(
            {"hyperparameters": {"precision": "bf16"}, "resources": {"gpus": 0}}, "bf16 needs a GPU", id="bf16 on a CPU"
        ),
        pytest.param({"method": "grpo"}, "sft", id="a method that is not there yet"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        spec(**changes)


GRPO = {
    "method": "grpo",
    "baseModel": {"fromRun": {"name": "before"}},
    "environment": {**MINIMAL["environment"], "rewards": [{"builtin": "exact"}]},  # type: ignore[dict-item]
}


@pytest.mark.parametrize(
    ("given", "patch", "message"),
    [
        pytest.param({}, {"grpo": {"groupSize": 7}}, "a multiple of grpo.groupSize", id="other groups"),
        pytest.param(
            {"grpo": {"groupSize": 8}},
            {"hyperparameters": {"effectiveBatchSize": 12}},
            "a multiple of grpo.groupSize",
            id="another batch",
        ),
        pytest.param(
            {"tuning": {"full": {}}},
            {"grpo": {"rollout": {"mode": "server"}}},
            "gets an adapter for each step",
            id="answered by a server",
        ),
        pytest.param({}, {"grpo": {"epsilon": 2}}, "less than 1", id="out of bounds"),
    ],
)
def test_a_patch_must_leave_a_recipe_that_can_be_meant(given: dict[str, Any], patch: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message) as refused:
        spec(**GRPO, **given, evaluation={"onFailure": {"action": "Retrain", "patch": patch}})
    assert "evaluation.onFailure.patch" in str(refused.value)


@pytest.mark.parametrize("name", ["grpo", "rloo", "ppo"])
def test_a_patch_replaces_what_it_names_and_nothing_else(name: str):
    on_failure = {"action": "Retrain", "patch": {name: {"temperature": 0.7}}}
    given = spec(**{**GRPO, "method": name}, **{name: {"epsilon": 0.1}}, evaluation={"onFailure": on_failure})
    rounds = [getattr(given.recipe(round=round), name) for round in (0, 1)]

    assert [(block.temperature, block.epsilon) for block in rounds] == [(1.0, 0.1), (0.7, 0.1)]
