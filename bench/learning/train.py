"""One training of the table, in this process, and what others' code says of its result."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.demo.tasks import DATES_TASK
from tests.cluster import layout

from bench.learning import measure
from bench.learning import rows as data
from bench.learning.cases import Case
from posttrain_api.trainer_contract import RunConfig, TrainingReport
from posttrain_api.v1alpha1.training_run import TrainingRunSpec
from posttrain_trainer import training
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop

START = "start"
"""Name of the shared supervised training."""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ message.content }}<|im_end|>{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True)
class Measured:
    """A case under one seed."""

    before: float
    after: float

    @property
    def gain(self) -> float:
        """By how much it is better."""
        return self.after - self.before


class Table:
    """Trains the cases below one folder; the supervised start is made once for each seed."""

    def __init__(self, scratch: Path, *, scale: float = 1.0) -> None:
        """`scale`: share of each case's rows that is used."""
        self._scratch = scratch
        self._scale = scale
        self._starts: dict[int, Path] = {}

    def measured(self, case: Case, seed: int) -> Measured:
        """Train a case and measure it before and after."""
        start = self._start(seed) if case.start == "sft" else base()
        report, folder = self.train(case, seed, start)
        return _numbers(case, start, report, folder)

    def train(self, case: Case, seed: int, start: Path) -> tuple[TrainingReport, Path]:
        """Train a case; its report and its artifact's folder."""
        name = f"{case.name}-{seed}".replace(" ", "-").replace(",", "").lower()
        places = Places(claims=self._scratch / "claims")
        config = _config(case, name, seed, start, self._rows(case))
        report = training.train(config, places, Progress(name), Stop())
        return report, places.path(report.artifact.uri)

    def _rows(self, case: Case) -> Path:
        count = max(int(case.num_rows * self._scale), 16)
        made = {
            "sft": lambda: data.mixed(count) if case.name == START else data.answers(DATES_TASK, count),
            "kto": lambda: data.labelled(count),
            "bestOf": lambda: data.prompts(count),
            "distill": lambda: data.prompts(count),
        }.get(case.method, lambda: data.pairs(count))()
        return data.write(self._scratch / "data" / f"{case.name}-{count}.jsonl", made)

    def _start(self, seed: int) -> Path:
        if seed not in self._starts:
            lora = Case(START, "sft", "exactMatch", 0.0, 1600, "base", {"learningRate": 2e-3, "epochs": 2})
            _, adapter = self.train(lora, seed, base())
            self._starts[seed] = measure.merged(base(), adapter, self._scratch / f"start-{seed}")
        return self._starts[seed]


def base() -> Path:
    """The tiny model that knows the facts and not the form."""
    return layout.cache() / "models" / "tiny"


def _config(case: Case, name: str, seed: int, start: Path, rows: Path) -> RunConfig:
    numbers = {"effectiveBatchSize": 32, "maxLength": 128, "gradientCheckpointing": False, "seed": seed}
    spec: dict[str, Any] = {
        "method": case.method,
        "baseModel": {"uri": f"file://{start}", "tuned": case.start == "sft"},
        "environment": {"dataset": {"uri": f"file://{rows}"}, "chatTemplate": {"inline": CHAT_TEMPLATE}},
        "hyperparameters": {**numbers, **case.hyperparameters},
        "output": {"uri": "pvc://out"},
        **case.spec,
    }
    if case.method == "bestOf":
        spec["environment"]["rewards"] = [{"builtin": "exact"}]
        spec |= {"bestOf": {"samples": 4, "maxCompletionTokens": 16}}
    recipe = TrainingRunSpec.model_validate(spec).recipe()
    return RunConfig(name=name, uid="00000000-0000-4000-8000-000000000000", recipe=recipe)


def _numbers(case: Case, start: Path, report: TrainingReport, folder: Path) -> Measured:
    match case.measure:
        case "exactMatch":
            rows = data.held_out()
            return Measured(measure.exact_match(start, None, rows), measure.exact_match(start, folder, rows))
        case "preferenceAccuracy":
            return Measured(measure.preference_accuracy(start, None), measure.preference_accuracy(start, folder))
        case "rankingAccuracy":
            return Measured(0.0, measure.ranking_accuracy(folder))
        case "score":
            kept = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
            right = {row.question: row.answer for row in DATES_TASK.train_rows()}
            hits = [row["messages"][-1]["content"].strip() == right[row["messages"][-2]["content"]] for row in kept]
            return Measured(report.evaluation.before["reward"] or 0.0, sum(hits) / len(hits))
        case unknown:
            raise AssertionError(unknown)
