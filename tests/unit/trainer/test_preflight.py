"""Preflight: what it finds in a good run, and the place it names in every other."""

import hashlib
import json
from pathlib import Path
from typing import Any

import peft
import pytest
from tests.unit.trainer import builders
from transformers import AutoModelForCausalLM

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import Machine, PreflightReport
from posttrain_api.v1alpha1.training_run import Checkpoints
from posttrain_api.v1alpha1.training_run_status import DataReport, Estimate, ModelReport
from posttrain_api.v1alpha1.tuning import Lora
from posttrain_trainer import base as bases
from posttrain_trainer import estimate, preflight, split, tuning
from posttrain_trainer.data import Row, Rows
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused, Stop, Stopped

PROJECTIONS = ("k_proj", "o_proj", "q_proj", "v_proj")
MASK = "<|im_start|>user\nDouble 0<|im_end|>\n<|im_start|>assistant\n⟦0<|im_end|>⟧\n"


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return builders.json_lines(tmp_path / "rows.jsonl", builders.exchanges(20))


def test_a_good_run_is_counted_and_shown(base: Path, dataset: Path, places: Places, stop: Stop) -> None:
    config = builders.run(base, dataset)
    found = preflight.preflight(config, places, stop)
    assert found == PreflightReport(
        estimate=Estimate(
            rows=19,
            trained_tokens=53,
            total_tokens=595,
            total_steps=3,
            trainable_parameters=4352,
            memory_gib=0.0,
            unpriced="the run asks for no GPU of the chart's gpus.table: select one by podTemplate.nodeSelector, such "
            "as nvidia.com/gpu.product: NVIDIA-H200",
        ),
        model=ModelReport(
            parameters=29_152,
            layers=2,
            hidden_size=32,
            vocabulary=260,
            tuned_modules=dict.fromkeys(("down_proj", "gate_proj", *PROJECTIONS, "up_proj"), 2),
        ),
        data=DataReport(
            rows_read=20,
            held_out_rows=1,
            trained_share=0.0891,
            length_p50=32,
            length_p90=32,
            length_p99=32,
            length_max=32,
            end_of_turn="<|im_end|>",
        ),
        mask=MASK,
        warnings=[
            "hyperparameters.learningRate 0.01 is unusual: for sft with lora it is mostly between 2e-05 and 0.001"
        ],
        dataset_digest="sha256:" + hashlib.sha256(dataset.read_bytes()).hexdigest(),
    )
    written = places.claims / "out" / "double" / builders.UID / "preflight.json"
    content = json.loads(written.read_text())
    assert (content["masks"][0], len(content["masks"]), content["problems"]) == (MASK, 5, [])
    assert {name: content[name] for name in found.to_json()} == found.to_json()


DEFAULT_SYSTEM = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou help.<|im_end|>\n{% endif %}" + builders.CHATML
)
MACHINE = Machine(gpu="NVIDIA-H200", memory_gib=141, teraflops=1e-5, price_per_hour=3.0, currency="USD")


def test_the_file_says_everything_that_is_known_before_a_gpu_is_taken(
    base: Path, tmp_path: Path, places: Places, stop: Stop
) -> None:
    good = builders.exchanges(14)
    rows = [
        *good,
        good[0],
        {"prompt": "Echo", "completion": "Echo"},
        {"prompt": "Why?", "completion": "I'm sorry, but I can't."},
        {"prompt": "x" * 200, "completion": "long"},
        {"prompt": "no answer"},
    ]
    training = builders.json_lines(tmp_path / "rows.jsonl", rows)
    judged = builders.json_lines(tmp_path / "judged.jsonl", [good[13], {"prompt": "Double 99", "completion": "198"}])
    config = builders.run(
        base,
        training,
        environment={
            "dataset": {"uri": f"file://{training}", "invalidRows": "Skip", "maxInvalidShare": 0.2},
            "chatTemplate": {"inline": DEFAULT_SYSTEM},
        },
        evaluation={"dataset": {"uri": f"file://{judged}"}},
        tuning={"lora": {"rank": 8, "targetModules": ["q_proj", "v_proj"]}},
        hyperparameters={"epochs": 2, "effectiveBatchSize": 4, "maxLength": 128},
    )
    preflight.preflight(config.replace(machine=MACHINE), places, stop)
    found = json.loads((places.claims / "out" / "double" / builders.UID / "preflight.json").read_text())
    estimated, data = found["estimate"], found["data"]

    assert (data["rowsRead"], data["rowsRefused"], data["truncatedShare"]) == (19, 2, round(1 / 19, 4))
    assert (data["duplicates"], data["promptEqualsCompletion"], data["chosenEqualsRejected"]) == (1, 1, 0)
    assert (data["leaked"], data["heldOutRows"], data["refusalShare"]) == (1, 2, round(1 / 16, 4))
    assert 0 < data["lengthP50"] <= data["lengthP90"] <= data["lengthP99"] <= data["lengthMax"] <= 128
    assert data["trainedShare"] == round(estimated["trainedTokens"] / estimated["totalTokens"], 4)
    assert (data["endOfTurn"], data["defaultSystemPrompt"]) == ("<|im_end|>", "You help.")
    assert found["masks"][0].endswith("<|im_start|>assistant\n⟦0<|im_end|>⟧\n")
    assert [problem.split(":")[0] for problem in found["problems"]] == ["row 19", "row 18"]
    assert found["model"] == {
        "parameters": 29_152,
        "layers": 2,
        "hiddenSize": 32,
        "vocabulary": 260,
        "tunedModules": {"q_proj": 2, "v_proj": 2},
    }
    assert (estimated["rows"], estimated["totalSteps"], estimated["trainableParameters"]) == (16, 8, 2 * 2 * 8 * 64)
    assert estimated["memory"].keys() >= {
        *("weights", "gradients", "optimizer", "activations", "logits", "reference", "reward", "value"),
    }
    assert estimated["memoryGib"] >= 0
    assert (estimated["gpu"], estimated["currency"], "unpriced" in estimated) == ("NVIDIA-H200", "USD", False)
    seconds = estimated["totalTokens"] * 29_152 * 2 * 6 / (MACHINE.teraflops * 1e12)
    assert estimated["durationSeconds"] == pytest.approx(seconds, abs=0.1)
    assert float(estimated["cost"]) == pytest.approx(seconds / 1200, abs=0.01)
    assert found["heldOutDigest"].startswith("sha256:")


def test_pairs_that_teach_nothing_are_counted(base: Path, tmp_path: Path, places: Places, stop: Stop) -> None:
    pairs = [{"prompt": f"Double {n}", "chosen": str(2 * n), "rejected": "0"} for n in range(10)]
    rows = builders.json_lines(tmp_path / "rows.jsonl", pairs)
    judged = builders.json_lines(tmp_path / "judged.jsonl", [{"prompt": "Hi", "chosen": "Hello", "rejected": "No"}])
    config = builders.run(base, rows, method="orpo", evaluation={"dataset": {"uri": f"file://{judged}"}})
    found = preflight.preflight(config, places, stop)
    assert found.data is not None
    assert (found.data.chosen_equals_rejected, found.estimate.rows) == (1, 10)
    assert "1 pairs have two equal answers: they teach nothing" in found.warnings
    prompt = 1 + len("user\nDouble 0") + 1 + len("\n") + 1 + len("assistant\n")
    answers = sum(len(f"{2 * n}0") + 2 for n in range(10))
    assert found.estimate.trained_tokens == answers
    assert found.estimate.total_tokens == 2 * 10 * prompt + answers


def test_trainable_parameters_are_those_of_peft(base: Path) -> None:

    from posttrain_api.v1alpha1.tuning import Lora

    for lora in (Lora(rank=4), Lora(rank=8, target_modules=["q_proj", "mlp.up_proj"])):
        model = peft.get_peft_model(
            AutoModelForCausalLM.from_pretrained(base), tuning.lora_config(lora, lora.target_modules)
        )
        counted, _ = model.get_nb_trainable_parameters()
        assert estimate.trainable_parameters(lora, bases.read(base, "file:///base")) == counted


def test_rank_8_on_q_and_v_of_qwen_0_5b_moves_540672_weights() -> None:
    widths = {"q_proj": 896, "k_proj": 128, "v_proj": 128, "o_proj": 896}
    shapes: dict[str, tuple[int, ...]] = {
        f"model.layers.{layer}.self_attn.{name}.weight": (width, 896)
        for layer in range(24)
        for name, width in widths.items()
    }
    base = bases.Base("file:///qwen", {}, shapes | {"model.embed_tokens.weight": (151936, 896)})
    assert estimate.trainable_parameters(Lora(rank=8, target_modules=["q_proj", "v_proj"]), base) == 540_672


def test_oddities_are_warnings(base: Path, tmp_path: Path, places: Places, stop: Stop) -> None:
    rows: list[dict[str, Any]] = [*builders.exchanges(2), builders.exchanges(1)[0]]
    rows.append({"Messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]})
    training = builders.json_lines(tmp_path / "rows.jsonl", rows)
    judged = builders.json_lines(tmp_path / "judged.jsonl", [rows[1], {"prompt": "Double 9", "completion": "18"}])
    config = builders.run(
        base,
        training,
        evaluation={"dataset": {"uri": f"file://{judged}"}},
        hyperparameters={"effectiveBatchSize": 8, "maxLength": 128, "epochs": 2},
    )
    found = preflight.preflight(config.replace(checkpoints=Checkpoints(every_steps=3)), places, stop)
    assert (found.estimate.rows, found.estimate.total_steps) == (3, 2)
    assert found.warnings == [
        '1 rows have "Messages": it was read as "messages", write it in small letters',
        "1 of 3 rows to learn from are repetitions",
        "1 rows to learn from are held out as well: they were taken out",
        "3 rows are fewer than effectiveBatchSize 8: each epoch is one step",
        "checkpoints.everySteps 3 is more than all 2 steps: there will be no step-N",
    ]


def test_what_is_held_out_is_5_percent_chosen_by_the_seed() -> None:
    def held_out(count: int, seed: int = 1) -> list[int]:
        rows = Rows("rows", [Row(number, text=str(number)) for number in range(count)], "", [])
        parts = split.split(rows, seed=seed)
        numbers = [row.number for row in parts.held_out.rows]
        assert sorted([*numbers, *(row.number for row in parts.training.rows)]) == list(range(count))
        return numbers

    assert [len(held_out(count)) for count in (2, 20, 40, 9_999, 10_000, 20_000)] == [1, 1, 2, 499, 500, 500]
    assert held_out(1000) == held_out(1000)
    assert held_out(1000) != held_out(1000, seed=2)


def test_an_output_that_cannot_be_written_is_refused(base: Path, dataset: Path, places: Places, stop: Stop) -> None:
    places.claims.mkdir()
    (places.claims / "out").write_text("a file where the claim should be")
    with pytest.raises(Refused) as refused:
        preflight.preflight(builders.run(base, dataset), places, stop)
    assert refused.value.reason == Reason.OUTPUT_UNWRITABLE
    assert str(refused.value).startswith(f"output pvc://out: {places.claims}/out cannot be written: File exists: check")


def test_a_stopped_preflight_leaves_nothing(base: Path, dataset: Path, places: Places, stop: Stop) -> None:
    stop.requested = True
    with pytest.raises(Stopped):
        preflight.preflight(builders.run(base, dataset), places, stop)
    assert list((places.claims / "out").iterdir()) == []


def test_a_long_mask_is_shortened_and_keeps_its_brackets(
    base: Path, tmp_path: Path, places: Places, stop: Stop
) -> None:
    long = [{"prompt": "why " * 300, "completion": f"{number} " + "because " * 300} for number in range(3)]
    config = builders.run(
        base, builders.json_lines(tmp_path / "long", long), hyperparameters={"maxSteps": 1, "maxLength": 4096}
    )
    found = preflight.preflight(config, places, stop)
    assert len(found.mask) <= 600
    assert (found.mask.count("⟦"), found.mask.count("⟧")) == (1, 1)
    assert "rows have up to 3623 tokens, and the base was made for 512: lower maxLength" in found.warnings
