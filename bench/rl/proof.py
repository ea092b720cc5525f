"""What a case moved: success on held-out prompts, sampled at temperature 1, before and after."""

import functools
from pathlib import Path
from typing import Any

from bench.learning import measure, trainings
from bench.learning.measure import Model
from bench.learning.proof import Change
from bench.rl.cases import LORA, MAX_ANSWER_TOKENS, Case
from bench.rl.tasks import Task
from posttrain_trainer.places import Places

MEASURE = "success, sampled"
NUM_SAMPLES, SAMPLING_SEED = 8, 1
"""Answers to each held-out prompt."""


def change(case: Case, seed: int, *, start: Path, scratch: Path) -> Change:
    """Train a case and measure it; files go into `scratch`."""
    places = Places(claims=scratch / "claims")
    name = f"{case.name}-{seed}".replace(", ", "-").replace(":", "-").replace("_", "-")
    artifact = trainings.published(_spec(case, seed, start, scratch), places, name=name)
    trained = measure.result(start, places.path(artifact.uri))
    return Change(MEASURE, success(Model(start), case.task), success(trained, case.task), case.claim)


@functools.cache
def success(model: Model, task: Task) -> float:
    """Share of right answers to the task's held-out prompts."""
    asked = [question for question in task.held_out() for _ in range(NUM_SAMPLES)]
    texts = [question.text for question in asked]
    given = measure.sampled(model, texts, seed=SAMPLING_SEED, max_tokens=MAX_ANSWER_TOKENS)
    return sum(map(task.is_right, asked, given)) / len(asked)


def _spec(case: Case, seed: int, start: Path, scratch: Path) -> dict[str, Any]:
    return {
        "method": case.method,
        "baseModel": {"uri": f"file://{start}", "tuned": True},
        "environment": case.task.environment(scratch),
        "tuning": LORA,
        case.method: {"maxCompletionTokens": MAX_ANSWER_TOKENS, **case.block},
        "hyperparameters": {
            "learningRate": case.learning_rate,
            "maxSteps": case.steps,
            "maxLength": 128,
            "gradientCheckpointing": False,
            "seed": seed,
        },
        "output": {"uri": "pvc://out"},
    }
