"""One environment for two methods: on a tuned base, grpo in place of sft is the whole difference."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_api.trainer_contract import RunConfig
from posttrain_api.v1alpha1.training_run import TrainingRunSpec
from posttrain_trainer import preflight, task, training
from posttrain_trainer.examples import Example, Prompt
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Refused, Stop
from posttrain_trainer.task import Task

Made = Callable[[int], dict[str, Any]]


def question(number: int) -> str:
    return f"Double {number}"


FORMS: dict[str, Made] = {
    "prompt and gold": lambda number: {"prompt": question(number), "gold": 2 * number},
    "prompt and completion": lambda number: {
        "prompt": question(number),
        "completion": f"<answer>{2 * number}</answer>",
        "gold": str(2 * number),
    },
    "messages": lambda number: {
        "messages": [
            {"role": "user", "content": question(number)},
            {"role": "assistant", "content": f"<answer>{2 * number}</answer>"},
        ],
        "gold": str(2 * number),
    },
    "alpaca": lambda number: {
        "instruction": question(number),
        "output": f"<answer>{2 * number}</answer>",
        "gold": str(2 * number),
    },
}


def config(base: Path, folder: Path, made: Made, method: str, **spec: Any) -> RunConfig:
    """A manifest in which nothing but the method differs."""
    dataset = builders.json_lines(folder / "rows.jsonl", [made(number) for number in range(20)])
    wanted = {
        "method": method,
        "baseModel": {"uri": f"file://{base}", "tuned": True},
        "environment": {
            "dataset": {"uri": f"file://{dataset}"},
            "chatTemplate": {"inline": builders.CHATML},
            "answerFormat": "<answer>{gold}</answer>",
            "rewards": [{"builtin": "gsm8k"}],
            "allowNoSignal": True,
        },
        "hyperparameters": {"maxSteps": 2, "effectiveBatchSize": 8, "learningRate": 0.01, "maxLength": 128},
        "evaluation": {"maxCompletionTokens": 8},
        "output": {"uri": "pvc://out"},
        **({"grpo": {"groupSize": 4, "maxCompletionTokens": 8}} if method == "grpo" else {}),
    } | spec
    return RunConfig(name="double", uid=builders.UID, recipe=TrainingRunSpec.model_validate(wanted).recipe())


def prepared(base: Path, folder: Path, made: Made, method: str, **spec: Any) -> Task:
    return task.prepare(config(base, folder, made, method, **spec), Places(claims=folder), Stop())


def learned(example: Example, found: Task) -> tuple[str, str]:
    """What sft is shown of a row, and what it learns of it."""
    parts = [[], []]  # type: list[list[int]]
    for token, is_trained in zip(example.token_ids, example.trained, strict=True):
        parts[is_trained].append(token)
    shown, taught = (str(found.chat.tokenizer.decode(part)) for part in parts)
    return shown, taught


@pytest.mark.parametrize("form", FORMS)
def test_what_one_method_learns_the_other_asks_and_scores(base: Path, tmp_path: Path, form: str) -> None:
    taught, asked = (prepared(base, tmp_path, FORMS[form], method) for method in ("sft", "grpo"))
    answers = {row.number: learned(row, taught) for row in taught.training if isinstance(row, Example)}
    prompts = {row.number: row for row in asked.training if isinstance(row, Prompt)}
    assert answers.keys() == prompts.keys()
    for number, prompt in prompts.items():
        shown, answer = answers[number]
        assert shown.startswith(str(asked.chat.tokenizer.decode(list(prompt.token_ids))))
        assert answer == f"{prompt.right}<|im_end|>" == f"<answer>{prompt.gold}</answer><|im_end|>"
        assert prompt.gold == str(2 * (number - 1))


def test_both_are_trained(base: Path, tmp_path: Path) -> None:
    for method in ("sft", "grpo"):
        progress = Progress("double")
        run = config(base, tmp_path, FORMS["prompt and gold"], method, evaluation={"metrics": ["reward"]})
        found = training.train(run, Places(claims=tmp_path / method), progress, Stop())
        assert (found.steps_completed, list(found.evaluation.after)) == (2, ["reward"])


@pytest.mark.parametrize(
    ("row", "reward", "expected"),
    [
        pytest.param({"text": "Double 2 is 4."}, "gsm8k", '"prompt" is missing: write "prompt", and', id="text"),
        pytest.param(
            {"prompt": "Double {}"}, "gsm8k", 'reward gsm8k needs the right answer: write "gold"', id="no gold"
        ),
        pytest.param(
            {"messages": [{"role": "assistant", "content": "4"}]},
            "exact",
            "the conversation is an answer without a question",
            id="no question",
        ),
    ],
)
def test_the_refusal_says_why_rows_cannot_be_asked(
    base: Path, tmp_path: Path, row: dict[str, Any], reward: str, expected: str
) -> None:
    run = config(base, tmp_path, lambda number: json.loads(json.dumps(row).replace("{}", str(number))), "grpo")
    environment = run.recipe.environment.to_json() | {"rewards": [{"builtin": reward}]}
    run = RunConfig.model_validate(run.to_json() | {"recipe": run.recipe.to_json() | {"environment": environment}})
    with pytest.raises(Refused, match=expected):
        preflight.preflight(run, Places(claims=tmp_path / "claims"), Stop())


def test_rows_that_are_only_asked_cannot_be_taught(base: Path, tmp_path: Path) -> None:
    with pytest.raises(Refused, match='"completion" is missing'):
        prepared(base, tmp_path, lambda number: {"prompt": question(number)}, "sft")


def test_the_manifests_differ_in_one_word(base: Path, tmp_path: Path) -> None:
    one, other = (config(base, tmp_path, FORMS["messages"], method).recipe.to_json() for method in ("sft", "grpo"))
    differing = {name for name in one.keys() | other.keys() if json.dumps(one.get(name)) != json.dumps(other.get(name))}
    assert differing == {"method", "sft", "grpo", "health", "evaluation"}, "what follows from the method"
