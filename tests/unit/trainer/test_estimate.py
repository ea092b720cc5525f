"""The estimate: numbers that are known from elsewhere."""

from array import array
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders

from posttrain_api.trainer_contract import Machine
from posttrain_api.v1alpha1.training_run import Recipe
from posttrain_trainer.base import Base
from posttrain_trainer.estimate import estimate, num_trainable
from posttrain_trainer.examples import Example, Pair
from posttrain_trainer.task import Task

HIDDEN, KV, MLP, LAYERS, VOCABULARY = 896, 128, 4864, 24, 151_936
LAYER = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (KV, HIDDEN),
    "self_attn.v_proj": (KV, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (MLP, HIDDEN),
    "mlp.up_proj": (MLP, HIDDEN),
    "mlp.down_proj": (HIDDEN, MLP),
}
QWEN = Base(
    "file:///qwen",
    {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS},
    {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    | {f"model.layers.{n}.{name}.weight": shape for n in range(LAYERS) for name, shape in LAYER.items()},
)


def recipe(**spec: Any) -> Recipe:
    given = {"hyperparameters": {"effectiveBatchSize": 16, "epochs": 1}} | spec
    return builders.run(Path("/qwen"), Path("/rows.jsonl"), **given).recipe


def task(training: list[Any]) -> Task:
    rows: Any = None
    return Task(QWEN, rows, training, [], [], "", None, [])


def example(length: int) -> Example:
    return Example(1, array("i", range(length)), bytearray(length - 1) + b"\x01")


def test_one_epoch_of_52002_rows_at_batch_16_is_3251_steps() -> None:
    assert estimate(recipe(), task([example(8)] * 52_002)).total_steps == 3251


@pytest.mark.parametrize(
    ("tuning", "expected"),
    [
        ({"lora": {"rank": 8, "targetModules": ["q_proj", "v_proj"]}}, 540_672),
        ({"lora": {"rank": 8, "targetModules": ["q_proj", "v_proj"], "dora": True}}, 540_672 + 24 * (896 + 128)),
        ({"full": {}}, QWEN.num_parameters),
        ({"promptTuning": {"virtualTokens": 20}}, 20 * 896),
        ({"osft": {"unfreezeRankRatio": 0.5}}, 24 * (2 * 448 * 1793 + 2 * 64 * 1025 + 3 * 448 * 5761)),
    ],
)
def test_the_weights_that_move(tuning: dict[str, Any], expected: int) -> None:
    assert num_trainable(recipe(tuning=tuning), QWEN) == expected


def test_the_parts_of_full_tuning_are_sixteen_bytes_a_weight() -> None:
    found = estimate(recipe(tuning={"full": {}}), task([example(64)] * 32))
    billions = QWEN.num_parameters / 2**30
    parts = (found.memory.weights, found.memory.gradients, found.memory.optimizer)
    assert parts == pytest.approx((4 * billions, 4 * billions, 8 * billions), abs=1e-3)
    assert found.memory.logits == pytest.approx(16 * 64 * VOCABULARY * 10 / 2**30, abs=1e-3)
    assert found.memory_gib == pytest.approx(sum(found.memory.model_dump().values()), abs=0.01)


def test_a_pair_is_two_sequences() -> None:
    pairs = task([Pair(1, array("i", [1]), array("i", [2]), array("i", [3]))] * 32)
    found = estimate(recipe(method="orpo"), pairs)
    assert (found.total_tokens, found.total_steps) == (32 * 2 * 2, 2)
    assert found.memory.logits == pytest.approx(16 * 4 * VOCABULARY * 10 / 2**30, abs=1e-3)


def test_a_quantized_base_takes_less_than_a_third() -> None:
    rows = task([example(64)] * 32)
    plain = estimate(recipe(tuning={"lora": {}}), rows).memory.weights
    small = estimate(recipe(tuning={"lora": {"quantization": "nf4"}}), rows).memory.weights
    embedding = 2 * VOCABULARY * HIDDEN / 2**30
    assert small - embedding < (plain - embedding) / 3


def test_time_is_operations_by_throughput_and_cost_is_time_by_price() -> None:
    machine = Machine(gpu="h100", memory_gib=80, teraflops=400, price_per_hour=3.0, currency="EUR")
    rows = task([example(1000)] * 16_000)
    found = estimate(recipe(), rows, machine)
    seconds = 8 * QWEN.num_parameters * 16_000_000 / 400e12
    assert found.duration_seconds == pytest.approx(seconds, abs=0.1)
    assert (found.cost, found.currency) == (f"{seconds / 3600 * 3:.2f}", "EUR")
    assert estimate(recipe(), rows).duration_seconds is None
