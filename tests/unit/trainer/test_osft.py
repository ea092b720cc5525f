"""OSFT between its ends: near 1 it is full tuning of the linear layers, near 0 it hardly moves.

That it forgets less on a second task shows `make bench-learning`, and tests/learning.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer import builders
from transformers import AutoModelForCausalLM

from posttrain_trainer import model, task, tuning
from posttrain_trainer.job import Job
from posttrain_trainer.methods import sft
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop

RATIOS = (0.04, 0.5, 0.96)
"""Of the 32 directions of each layer, these train 2, 16 and 31."""
STEPS = {"maxSteps": 30, "effectiveBatchSize": 8, "learningRate": 3e-3, "scheduler": "constant", "maxLength": 128}


def job(base: Path, dataset: Path, chosen: dict[str, Any]) -> Job:
    config = builders.run(base, dataset, tuning=chosen, hyperparameters=STEPS, evaluation={"metrics": ["loss"]})
    places, precision = Places(), model.Precision("cpu", "float32")
    prepared = task.prepare(config, places, Stop())
    return Job(config, places, prepared, precision, Progress(config.name), Stop())


def loss(found: Any, work: Job) -> float:
    """Mean loss of the rows that were learned from."""
    rows = sft.dataset(work.task)
    with torch.no_grad():
        losses = [
            found(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss for row in rows
        ]
    return float(torch.stack(losses).mean())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return builders.json_lines(tmp_path_factory.mktemp("data") / "rows.jsonl", builders.exchanges(24))


def test_a_ratio_goes_from_nothing_to_full_tuning_of_the_linear_layers(base: Path, dataset: Path) -> None:
    full = job(base, dataset, {"full": {}})
    linear = AutoModelForCausalLM.from_pretrained(base).requires_grad_(False)
    for layer in linear.model.layers.modules():
        if isinstance(layer, torch.nn.Linear):
            layer.weight.requires_grad_(True)
    start = loss(linear.eval(), full)
    whole = start - loss(sft.train(linear, full), full)

    def share(ratio: float) -> float:
        """Of what full tuning of the linear layers learns in as many steps."""
        work = job(base, dataset, {"osft": {"unfreezeRankRatio": ratio}})
        bare = AutoModelForCausalLM.from_pretrained(base)
        return (start - loss(sft.train(tuning.applied(bare, work), work), work)) / whole

    shares = [share(ratio) for ratio in RATIOS]
    assert shares[0] < 0.25
    assert shares[0] < shares[1] < shares[2]
    assert shares[2] == pytest.approx(1, abs=0.1)
