"""The preference methods: what they teach a tiny model, and what they compare it with."""

import random
from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tests.unit.trainer import builders

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.methods import Kto
from posttrain_trainer import model, task, tuning
from posttrain_trainer.examples import Labelled, Pair
from posttrain_trainer.job import Job
from posttrain_trainer.methods import dpo, kto, orpo, simpo
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Refused, Stop

STEPS = {"maxSteps": 12, "effectiveBatchSize": 4, "learningRate": 0.01, "maxLength": 128}


def pairs(count: int) -> list[Pair]:
    """Pairs of ragged lengths whose better answer is made of one letter, and the worse of another."""
    draw = random.Random(0)
    return [
        Pair(
            number=number,
            prompt=array("l", draw.choices(range(100, 200), k=draw.randint(1, 20))),
            chosen=array("l", [65] * draw.randint(1, 9) + [258]),
            rejected=array("l", [66] * draw.randint(1, 9) + [258]),
        )
        for number in range(count)
    ]


def job(base: Path, folder: Path, rows: Sequence[Pair | Labelled], **spec: Any) -> Job:
    """A job that learns from such rows."""
    lines = builders.json_lines(folder / "rows.jsonl", builders.exchanges(4))
    prepared = task.prepare(builders.run(base, lines), Places(), Stop())
    config = builders.run(base, lines, allowUntunedBase=True, **{"hyperparameters": STEPS, **spec})
    precision = model.Precision("cpu", "float32")
    return Job(config, Places(), replace(prepared, training=rows), precision, Progress("double"), Stop())


def tuned(given: Job) -> Any:
    """The base, made ready to be trained."""
    return tuning.applied(model.load(given.config, given.places, given.precision), given)


def log_probability(found: Any, prompt: Sequence[int], completion: Sequence[int]) -> float:
    """Of a completion, by a forward pass of one sequence."""
    ids = torch.tensor([[*prompt, *completion]])
    with torch.no_grad():
        scores = found(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
    return float(scores.gather(1, ids[0, 1:, None])[len(prompt) - 1 :].sum())


def test_dpo_makes_the_better_answers_likelier_than_the_worse(base: Path, tmp_path: Path) -> None:
    given = job(base, tmp_path, pairs(24), method="dpo")
    given.progress.enter("Training")
    start = tuned(given)
    found = dpo.train(start, given)
    assert list(found.peft_config) == ["default"]
    assert not found.training
    first, last = given.progress.history[0], given.progress.history[-1]
    assert first["loss"] == pytest.approx(0.6931, abs=1e-4), "the start is the reference"
    assert first["rewardMargin"] == pytest.approx(0, abs=1e-5)
    assert (last["rewardAccuracy"], last["step"]) == (1.0, 12)
    assert last["loss"] < 0.6
    assert last["rewardChosen"] > 0 > last["rewardRejected"]
    assert last["tokens"] > first["tokens"] > 0


def test_the_reference_is_the_model_at_the_start_even_where_its_adapter_does_something(
    base: Path, tmp_path: Path
) -> None:
    given = job(base, tmp_path, pairs(6), method="dpo")
    start = tuned(given)
    for name, weights in start.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weights, std=0.3, generator=torch.Generator().manual_seed(1))
    expected = [log_probability(start, pair.prompt, pair.chosen) for pair in pairs(6)]
    without = [log_probability(start.get_base_model(), pair.prompt, pair.chosen) for pair in pairs(6)]
    with start.disable_adapter():
        bare = [log_probability(start, pair.prompt, pair.chosen) for pair in pairs(6)]
    trainer = dpo.trainer(start, given, str(tmp_path))
    assert trainer.ref_model is None
    assert list(trainer.model.peft_config) == ["default"]
    assert trainer.train_dataset["ref_chosen_logps"][:] == pytest.approx(expected, abs=1e-4)
    assert without == pytest.approx(expected, abs=1e-4)
    assert bare != pytest.approx(expected, abs=0.1)
    trainer.train_dataset = trainer.train_dataset.map(lambda row: {"ref_chosen_logps": row["ref_chosen_logps"] - 10})
    trainer.train()
    moved = [entry["rewards/chosen"] for entry in trainer.state.log_history if "rewards/chosen" in entry]
    assert moved[0] == pytest.approx(1.0, abs=1e-3), "beta times what the column says, and nothing else"


TUNINGS = {
    "full": lambda bare: bare,
    "promptTuning": lambda bare: peft.get_peft_model(
        bare, peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    ),
    "osft": lambda bare: peft.get_peft_model(bare, peft.OSFConfig(task_type="CAUSAL_LM", effective_rank=0.5)),
    "dora": lambda bare: peft.get_peft_model(
        bare, peft.LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", use_dora=True)
    ),
}


@pytest.mark.parametrize("name", TUNINGS)
def test_every_tuning_starts_from_itself(base: Path, tmp_path: Path, name: str) -> None:
    given = job(base, tmp_path, pairs(12), method="dpo")
    given.progress.enter("Training")
    start = TUNINGS[name](model.load(given.config, given.places, given.precision))
    trained = dpo.train(start, given)
    assert trained is start
    assert given.progress.history[0]["loss"] == pytest.approx(0.6931, abs=1e-4)
    assert given.progress.history[-1]["loss"] < 0.6928


def test_exo_pair_without_smoothing_is_refused(base: Path, tmp_path: Path) -> None:
    given = job(base, tmp_path, pairs(4), method="dpo", dpo={"loss": ["exo_pair"]})
    with pytest.raises(Refused, match=r"^dpo\.loss exo_pair needs dpo\.labelSmoothing above 0: write 0\.001$") as found:
        dpo.trainer(tuned(given), given, str(tmp_path))
    assert found.value.reason == Reason.INVALID_SPEC


@pytest.mark.parametrize("method", [simpo, orpo], ids=["simpo", "orpo"])
def test_methods_without_a_reference_learn_the_preference(base: Path, tmp_path: Path, method: Any) -> None:
    name = method.__name__.rpartition(".")[2]
    given = job(base, tmp_path, pairs(24), method=name, **{name: {"beta": 5.0}})
    given.progress.enter("Training")
    found = method.train(tuned(given), given)
    assert not found.training
    first, last = given.progress.history[0], given.progress.history[-1]
    assert last["rewardMargin"] > first["rewardMargin"] + 0.01
    assert (last["rewardAccuracy"], last["step"]) == (1.0, 12)
    assert last["loss"] < first["loss"]
    two_epochs = sum(2 * len(pair.prompt) + pair.num_trained for pair in pairs(24)) * 2
    assert last["tokens"] == two_epochs


def labelled(desirable: int, undesirable: int) -> list[Labelled]:
    """Both sides of pairs, on their own."""
    rows = pairs(max(desirable, undesirable))
    return [
        *(Labelled(pair.number, pair.prompt, pair.chosen, True) for pair in rows[:desirable]),
        *(Labelled(pair.number, pair.prompt, pair.rejected, False) for pair in rows[:undesirable]),
    ]


@pytest.mark.parametrize("loss", ["kto", "apo_zero_unpaired"])
def test_kto_raises_the_desirable_and_lowers_the_undesirable(base: Path, tmp_path: Path, loss: str) -> None:
    given = job(base, tmp_path, labelled(12, 12), method="kto", kto={"loss": loss})
    given.progress.enter("Training")
    start = tuned(given)
    asked = labelled(1, 1)
    before = [log_probability(start, row.prompt, row.completion) for row in asked]
    found = kto.train(start, given)
    after = [log_probability(found, row.prompt, row.completion) for row in asked]
    assert list(found.peft_config) == ["default"]
    assert given.progress.history[0]["loss"] == pytest.approx(0.5, abs=1e-4), "the start is the reference"
    assert given.progress.history[-1]["loss"] < 0.49
    assert after[0] > before[0]
    assert after[1] < before[1]


def test_kto_batches_are_whole_and_keep_their_neighbours(base: Path, tmp_path: Path) -> None:
    given = job(base, tmp_path, labelled(3, 3), method="kto")
    trainer = kto.trainer(tuned(given), given, str(tmp_path))
    batches = list(trainer.get_train_dataloader())
    assert [len(batch["label"]) for batch in batches] == [4, 4]
    rows = [row["completion_ids"] for row in trainer.train_dataset]
    assert [row["KL_completion_ids"] for row in trainer.train_dataset] == [
        *(rows[3], rows[0], rows[1], rows[2]),
        *(rows[7], rows[4], rows[5], rows[6]),
    ]
    assert rows[6:] == rows[:2]


@pytest.mark.parametrize(
    ("chosen", "counts", "expected"),
    [
        (Kto(), (6, 2), (1.0, 3.0)),
        (Kto(), (2, 6), (3.0, 1.0)),
        (Kto(), (4, 0), (1.0, 1.0)),
        (Kto(desirable_weight=2), (6, 2), (2.0, 6.0)),
        (Kto(undesirable_weight=2), (6, 2), (pytest.approx(2 / 3), 2.0)),
        (Kto(desirable_weight=5, undesirable_weight=7), (6, 2), (5.0, 7.0)),
    ],
)
def test_kto_weights_balance_the_labels(chosen: Kto, counts: tuple[int, int], expected: tuple[float, float]) -> None:
    assert kto.weights(chosen, labelled(*counts)) == expected


def test_kto_refuses_a_batch_of_one_and_never_makes_one() -> None:
    assert (kto.micro_batch_size(6, 10), kto.micro_batch_size(6, 16384), kto.micro_batch_size(5, 16384)) == (6, 2, 5)
    with pytest.raises(Refused, match="write effectiveBatchSize: 2 or more"):
        kto.micro_batch_size(1, 10)
