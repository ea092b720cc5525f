"""The failed run of the literature in small, and the manifest that does better on the same data.

A base that knows the form of an answer, and hardly ever the answer; two samples for each prompt; 0.1 for the form and
1.0 for the right number. The form is all that such a run learns. The better manifest learns the answers by sft first,
and then from eight samples.
"""

import random
import re
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from examples.demo.tasks import NUMBERS_TASK, Row
from tests.cluster import layout

from bench.learning import measure, rows
from bench.learning.measure import Model
from bench.learning.trainings import CHAT_TEMPLATE
from posttrain_api.trainer_contract import RunConfig, TrainingReport
from posttrain_api.v1alpha1.training_run import TrainingRunSpec
from posttrain_trainer import training
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop

BASE = layout.cache() / "models" / "tiny"
FORM = "<answer>{gold}</answer>"
UNKNOWN = "I do not know."
KNOWS_FORM, KNOWS_ANSWER = 0.4, 0.04
"""Shares of the start's answers that have the form, and that are right as well."""
LORA = {"lora": {"rank": 16, "alpha": 32}}
REWARDS = [{"builtin": "gsm8k"}, {"builtin": "numeric", "role": "success"}]
MAX_TOKENS = 24
NUM_START, NUM_PROMPTS, NUM_HELD_OUT = 640, 2360, 40


class Runs:
    """Trains in this process; what a run makes lies below one folder."""

    def __init__(self, scratch: Path) -> None:
        self._places = Places(claims=scratch / "claims")
        self._scratch = scratch

    def start(self) -> Path:
        """The model that all begin with."""
        spec = self._spec("sft", BASE, _answers_of_the_start())
        return self._learned("start", spec, epochs=3)

    def failed(self, start: Path, *, steps: int) -> tuple[TrainingReport, Model]:
        """From the start, with two samples for each prompt."""
        return self._rewarded("failed", start, steps=steps, group_size=2, rate=1e-3)

    def better(self, start: Path, *, steps: int) -> tuple[TrainingReport, Model]:
        """The answers are learned first, then from eight samples for each prompt."""
        spec = self._spec("sft", start, _prompts())
        taught = self._learned("taught", spec, epochs=2)
        return self._rewarded("better", taught, steps=steps, group_size=8, rate=1e-3)

    def _learned(self, name: str, spec: Mapping[str, Any], *, epochs: int) -> Path:
        """By sft, with whole weights: the base has never read the signs of the form."""
        numbers = {"learningRate": 2e-3, "epochs": epochs, "effectiveBatchSize": 16}
        return self._folder(self._trained(name, {**spec, "tuning": {"full": {}}}, numbers=numbers))

    def _rewarded(
        self, name: str, start: Path, *, steps: int, group_size: int, rate: float
    ) -> tuple[TrainingReport, Model]:
        spec = self._spec("grpo", start, _prompts())
        block = {"maxCompletionTokens": MAX_TOKENS, "groupSize": group_size, "overlongBufferTokens": 0}
        numbers = {"learningRate": rate, "maxSteps": steps, "effectiveBatchSize": 32, "scheduler": "constant"}
        report = self._trained(name, {**spec, "grpo": block, "tuning": LORA}, numbers=numbers)
        return report, measure.result(start, self._folder(report))

    def _spec(self, method: str, start: Path, given: list[dict[str, Any]]) -> dict[str, Any]:
        written = rows.write(self._scratch / f"{method}-{len(given)}-{start.name}.jsonl", given)
        return {
            "method": method,
            "baseModel": {"uri": f"file://{start}", "tuned": True},
            "environment": {
                "dataset": {"uri": f"file://{written}"},
                "chatTemplate": {"inline": CHAT_TEMPLATE},
                "answerFormat": FORM,
                "rewards": REWARDS if method == "grpo" else [],
                "allowNoSignal": True,
            },
            "output": {"uri": "pvc://out"},
        }

    def _trained(self, name: str, spec: Mapping[str, Any], *, numbers: Mapping[str, Any]) -> TrainingReport:
        chosen = {"maxLength": 128, "gradientCheckpointing": False, "seed": 1, **numbers}
        recipe = TrainingRunSpec.model_validate({**spec, "hyperparameters": chosen}).recipe()
        config = RunConfig(name=name, uid="00000000-0000-4000-8000-000000000000", recipe=recipe)
        return training.train(config, self._places, Progress(name), Stop())

    def _folder(self, report: TrainingReport) -> Path:
        return self._places.path(report.artifact.uri)


def success(model: Model) -> float:
    """Share of held-out questions that are answered rightly, in the form."""
    wanted = [Row(row.question, FORM.format(gold=row.answer)) for row in rows.held_out(NUMBERS_TASK)[:NUM_HELD_OUT]]
    return measure.exact_match(model, wanted)


def form(model: Model) -> float:
    """Share of held-out questions that are answered in the form, rightly or not, at temperature 1."""
    asked = [row.question for row in rows.held_out(NUMBERS_TASK)[:NUM_HELD_OUT]]
    given = measure.sampled(model, asked, seed=1, max_tokens=MAX_TOKENS)
    return statistics.fmean(bool(re.fullmatch(FORM.format(gold=r"\d+"), answer)) for answer in given)


def _prompts() -> list[dict[str, Any]]:
    return [{"prompt": row.question, "gold": row.answer} for row in NUMBERS_TASK.train_rows()[:NUM_PROMPTS]]


def _answers_of_the_start() -> list[dict[str, Any]]:
    drawn = random.Random(0)
    asked = NUMBERS_TASK.train_rows()[NUM_PROMPTS : NUM_PROMPTS + NUM_START]

    def answer(row: Row) -> str:
        chance = drawn.random()
        if chance < KNOWS_ANSWER:
            return FORM.format(gold=row.answer)
        return FORM.format(gold=drawn.choice(asked).answer) if chance < KNOWS_FORM else UNKNOWN

    return [{"prompt": row.question, "completion": answer(row)} for row in asked]
