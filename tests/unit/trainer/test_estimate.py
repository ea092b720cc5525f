"""The estimate: numbers that are known from elsewhere."""

from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model
from tests.unit.trainer import builders
from transformers import Qwen2Config, Qwen2ForCausalLM

from posttrain_api.trainer_contract import Machine
from posttrain_api.v1alpha1.training_run import Recipe
from posttrain_api.v1alpha1.training_run_status import ModelReport
from posttrain_api.v1alpha1.tuning import Lora, Tuning
from posttrain_trainer import base as bases
from posttrain_trainer import estimate as estimates
from posttrain_trainer import facts, tuning
from posttrain_trainer.base import Base
from posttrain_trainer.estimate import estimate, num_trainable
from posttrain_trainer.examples import Example, Pair, Prompt
from posttrain_trainer.named_models import NamedModels
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
    {},
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
    pairs = task([Pair(1, array("i", [1]), array("i", [2]), array("i", [3, 4]))] * 32)
    found = estimate(recipe(method="orpo"), pairs)
    assert (found.total_tokens, found.trained_tokens, found.total_steps) == (32 * (2 + 3), 32 * 3, 2)
    assert found.memory.logits == pytest.approx(16 * 2 * 3 * VOCABULARY * 10 / 2**30, abs=1e-3)


def test_a_quantized_base_takes_less_than_a_third() -> None:
    rows = task([example(64)] * 32)
    plain = estimate(recipe(tuning={"lora": {}}), rows).memory.weights
    small = estimate(recipe(tuning={"lora": {"quantization": "nf4"}}), rows).memory.weights
    embedding = 2 * VOCABULARY * HIDDEN / 2**30
    assert small - embedding < (plain - embedding) / 3


MACHINE = Machine(gpu="NVIDIA-H200", memory_gib=141, teraflops=400, price_per_hour=3.0, currency="EUR")
BIG = [example(1000)] * 16_000
PAIR = Pair(1, array("i", range(400)), array("i", range(100)), array("i", range(100)))
TEACHER = {"distill": {"teacher": {"uri": "file:///teacher"}, "maxCompletionTokens": 50}}


@pytest.mark.parametrize(
    ("spec", "rows", "operations"),
    [
        pytest.param({}, BIG, 2 + 2 + 2, id="LoRA: forward, again for the checkpoints, backward"),
        pytest.param({"tuning": {"full": {}}}, BIG, 2 + 2 + 4, id="full: the weights' gradients too"),
        pytest.param(
            {"hyperparameters": {"epochs": 3, "gradientCheckpointing": False}}, BIG, 3 * (2 + 2), id="three epochs"
        ),
        pytest.param(
            {"hyperparameters": {"maxSteps": 500, "effectiveBatchSize": 16}}, BIG, 0.5 * 6, id="half of the rows"
        ),
        pytest.param({"method": "dpo", "allowUntunedBase": True}, [PAIR] * 16_000, 6 + 2, id="dpo: the reference once"),
    ],
)
def test_time_is_operations_by_throughput_and_cost_is_time_by_price(
    spec: dict[str, Any], rows: list[Any], operations: float
) -> None:
    found = estimate(recipe(**spec), task(rows), MACHINE)
    seconds = operations * QWEN.num_parameters * 16_000_000 / 400e12
    assert found.duration_seconds == pytest.approx(seconds, abs=0.1)
    assert (found.gpu, found.cost, found.currency) == ("NVIDIA-H200", f"{seconds / 3600 * 3:.2f}", "EUR")
    assert found.unpriced is None


@pytest.mark.parametrize(
    ("spec", "machine", "why"),
    [
        pytest.param({}, None, "the run asks for no GPU of the chart's gpus.table: select one by", id="no GPU"),
        pytest.param({"method": "distill", **TEACHER}, MACHINE, "the model answers by itself", id="distill"),
    ],
)
def test_a_time_that_is_not_known_is_not_made_up(spec: dict[str, Any], machine: Machine | None, why: str) -> None:
    found = estimate(recipe(**spec), task(BIG), machine)
    assert (found.duration_seconds, found.cost) == (None, None)
    assert found.unpriced is not None
    assert found.unpriced.startswith(why)


def test_prompts_count_with_the_answers_that_the_model_may_give() -> None:
    prompts = replace(task([Prompt(1, [], array("i", range(30)), None, {})] * 10), answer_room=50)
    learned = estimate(recipe(method="distill", **TEACHER), prompts)
    assert (learned.total_tokens, learned.trained_tokens, learned.total_steps) == (10 * 80, 10 * 50, 1)
    environment = {"dataset": {"uri": "file:///rows"}, "rewards": [{"builtin": "exact"}]}
    block = {"samples": 4, "maxCompletionTokens": 50}
    kept = estimate(recipe(method="bestOf", tuning={}, environment=environment, bestOf=block), prompts)
    assert (kept.total_tokens, kept.trained_tokens, kept.total_steps) == (4 * 10 * 80, 0, 0)


def test_a_teacher_and_reward_models_are_in_memory_by_their_own_shapes() -> None:
    small = Base("file:///small", {}, {"embed_tokens.weight": (1000, 1000)})
    named = NamedModels(teacher=small, reward_models=[small, small])
    found = estimate(recipe(), replace(task([example(8)]), named=named)).memory
    assert (found.reference, found.reward) == (round(2e6 / 2**30, 3), round(8e6 / 2**30, 3))


def test_a_gpu_that_is_too_small_is_a_warning() -> None:
    needed = estimate(recipe(tuning={"full": {}}), task([example(2000)] * 16))
    assert estimates.warnings(needed, MACHINE) == []
    (sentence,) = estimates.warnings(needed, MACHINE.replace(memory_gib=10))
    assert sentence.startswith(
        f"about {needed.memory_gib:.3g} GiB of GPU memory are needed and NVIDIA-H200 has 10: lower"
    )


def kept_bytes(layers: Any, weights: Sequence[Any], num_tokens: int) -> int:
    """Bytes of everything but weights that autograd keeps of a forward pass through the layers."""
    kept: dict[int, int] = {}
    own = {weight.untyped_storage().data_ptr() for weight in weights}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = layers(input_ids=torch.arange(num_tokens)[None], use_cache=False)
    assert output.last_hidden_state.requires_grad
    return sum(kept.values())


@pytest.mark.parametrize("precision", ["fp32", "auto"])
@pytest.mark.parametrize("kind", ["full", "lora"])
def test_activations_are_what_autograd_keeps(tmp_path: Path, kind: str, precision: str) -> None:
    config = Qwen2Config(
        vocab_size=1024,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    model: Any = Qwen2ForCausalLM(config)
    model.save_pretrained(tmp_path)
    numbers = {"gradientCheckpointing": False, "precision": precision, "effectiveBatchSize": 1, "maxSteps": 1}
    given = recipe(tuning={kind: {}}, hyperparameters=numbers)
    rows = replace(task([example(1024)]), base=bases.read(tmp_path, "file:///base"))
    layers = model.model
    if kind == "lora":
        model = model.to(torch.float32 if precision == "fp32" else torch.bfloat16)
        model = get_peft_model(model, tuning.lora_config(Lora(), []))
        model.enable_input_require_grads()
        layers = model.base_model.model.model
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "auto"):
        lengths = [kept_bytes(layers.train(), [*model.parameters(), *model.buffers()], count) for count in (512, 1024)]
    # The difference: autocast keeps its copies of the weights too, whatever the rows.
    measured = 2 * (lengths[1] - lengths[0])
    assert estimate(given, rows).memory.activations == pytest.approx(measured / 2**30, rel=0.12)


@pytest.mark.parametrize(
    ("tuning", "hit"),
    [
        ({"lora": {"targetModules": ["q_proj", "v_proj"]}}, {"q_proj": 24, "v_proj": 24}),
        ({"lora": {"targetModules": ["mlp"]}}, {"down_proj": 24, "gate_proj": 24, "up_proj": 24}),
        ({"full": {}}, {}),
    ],
)
def test_the_base_s_facts_name_the_layers_that_the_tuning_hits(tuning: dict[str, Any], hit: dict[str, int]) -> None:
    assert facts.model(QWEN, Tuning.model_validate(tuning)) == ModelReport(
        parameters=QWEN.num_parameters, layers=24, hidden_size=896, vocabulary=VOCABULARY, tuned_modules=hit
    )


def rewarded(method: str = "grpo", **spec: Any) -> Recipe:
    environment = {"dataset": {"uri": "file:///rows.jsonl"}, "rewards": [{"builtin": "exact"}]}
    return recipe(method=method, environment=environment, allowUntunedBase=True, **spec)


PROMPTS = [Prompt(number, [], array("i", range(100)), "7", {}) for number in range(40)]


def test_a_method_that_answers_by_itself_has_each_prompt_s_answers_in_its_tokens() -> None:
    asked = replace(task(PROMPTS), answer_room=28)
    found = estimate(rewarded(grpo={"groupSize": 8, "maxCompletionTokens": 28}), asked, MACHINE)
    assert (found.rows, found.trained_tokens, found.total_tokens) == (40, 40 * 8 * 28, 40 * 8 * 128)
    assert found.total_steps == 20, "of 16 answers each, which are 2 prompts"
    assert (
        found.unpriced == "the model answers by itself: tokens are counted as if every answer were as long as it may be"
    )


def test_answers_that_are_written_at_once_keep_their_keys_and_values() -> None:
    long = [replace(prompt, token_ids=array("i", range(1000))) for prompt in PROMPTS]
    chosen = rewarded(grpo={"maxCompletionTokens": 7192}, hyperparameters={"effectiveBatchSize": 64, "epochs": 1})
    found = estimate(chosen, replace(task(long), answer_room=7192)).memory
    kept = 16384 * 2 * KV * LAYERS * 2 / 2**30
    assert found.rollouts == pytest.approx(max(kept - found.activations - found.logits, 0), abs=2e-3)
    whole = replace(QWEN, shapes={name: shape for name, shape in QWEN.shapes.items() if "k_proj" not in name})
    assert (QWEN.cached_numbers, whole.cached_numbers) == (2 * KV * LAYERS, KV * LAYERS)


def test_colocated_vllm_takes_its_share_of_the_gpu() -> None:
    chosen = rewarded(grpo={"rollout": {"mode": "colocate", "gpuMemoryUtilization": 0.4}})
    found = estimate(chosen, replace(task(PROMPTS), answer_room=512), MACHINE)
    assert found.memory.rollouts == pytest.approx(0.4 * MACHINE.memory_gib, abs=1e-3)


@pytest.mark.parametrize(
    ("method", "tuning", "beta", "has_reference"),
    [
        ("grpo", {"full": {}}, 0.1, True),
        ("grpo", {"full": {}}, 0.0, False),
        ("grpo", {"lora": {}}, 0.1, False),
        ("rloo", {"full": {}}, 0.1, True),
    ],
)
def test_only_a_whole_model_has_a_second_one_to_stay_close_to(
    method: str, tuning: dict[str, Any], beta: float, has_reference: bool
) -> None:
    found = estimate(
        rewarded(method, tuning=tuning, **{method: {"beta": beta}}), replace(task(PROMPTS), answer_room=512)
    )
    expected = QWEN.num_parameters * 4 / 2**30 if has_reference else 0
    assert found.memory.reference == pytest.approx(expected, abs=1e-3)
