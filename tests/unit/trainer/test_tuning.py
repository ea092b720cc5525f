"""Tunings: which weights move, and how they begin."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer import builders

from posttrain_api.conditions import Reason
from posttrain_trainer import base as bases
from posttrain_trainer import model, task, tuning
from posttrain_trainer.base import Base
from posttrain_trainer.job import Job
from posttrain_trainer.methods import sft
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Refused, Stop

ATTENTION = ["k_proj", "o_proj", "q_proj", "v_proj"]
MLP = ["down_proj", "gate_proj", "up_proj"]
IDS = torch.tensor([[40, 50, 60, 70, 80]])


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return builders.json_lines(tmp_path_factory.mktemp("data") / "rows.jsonl", builders.exchanges(60))


def job(base: Path, dataset: Path, chosen: dict[str, Any]) -> tuple[Any, Job]:
    """The base model of a run with this tuning, and the run's job."""
    config = builders.run(base, dataset, tuning=chosen, evaluation={"metrics": ["loss"]})
    places, precision = Places(), model.Precision("cpu", "float32")
    prepared = task.prepare(config, places, Stop())
    return model.load(config, places, precision), Job(
        config, places, prepared, precision, Progress(config.name), Stop()
    )


def logits(found: Any) -> torch.Tensor:
    with torch.no_grad():
        return found(input_ids=IDS).logits[:, -IDS.shape[1] :]


def test_lora_starts_as_its_base_and_has_rank_times_both_dimensions(base: Path, dataset: Path) -> None:
    bare, chosen = job(base, dataset, {"lora": {"rank": 4, "alpha": 8}})
    before = logits(bare)
    tuned = tuning.applied(bare, chosen)
    assert torch.equal(logits(tuned), before)
    trained = {name: weight.numel() for name, weight in tuned.named_parameters() if weight.requires_grad}
    assert all(".lora_" in name for name in trained)
    # Of each of two layers: four projections of 32 by 32, three of 32 by 64.
    assert sum(trained.values()) == 2 * 4 * (4 * (32 + 32) + 3 * (32 + 64))


@pytest.mark.parametrize(
    ("chosen", "moves"),
    [
        pytest.param({"lora": {"rank": 4}}, {"lora_A", "lora_B"}, id="lora"),
        pytest.param({"lora": {"rank": 4, "init": "gaussian"}}, {"lora_A", "lora_B"}, id="gaussian"),
        pytest.param({"lora": {"rank": 4, "init": "olora"}}, {"lora_A", "lora_B"}, id="olora"),
        pytest.param({"lora": {"rank": 4, "init": "pissa"}}, {"lora_A", "lora_B"}, id="pissa"),
        pytest.param({"lora": {"rank": 4, "init": "eva"}}, {"lora_A", "lora_B"}, id="eva"),
        pytest.param({"lora": {"rank": 4, "dora": True}}, {"lora_A", "lora_B", "lora_magnitude_vector"}, id="dora"),
        pytest.param({"osft": {}}, {"osf_svd_params"}, id="osft"),
        pytest.param({"promptTuning": {"virtualTokens": 3}}, {"prompt_encoder"}, id="prompt tuning"),
        pytest.param(
            {"promptTuning": {"virtualTokens": 3, "initText": "Double it"}}, {"prompt_encoder"}, id="prompt text"
        ),
        pytest.param({"full": {}}, {"embed_tokens", "q_proj", "norm", "down_proj"}, id="full"),
    ],
)
def test_training_moves_what_the_tuning_names_and_nothing_else(
    base: Path, dataset: Path, chosen: dict[str, Any], moves: set[str]
) -> None:
    bare, work = job(base, dataset, chosen)
    tuned = tuning.applied(bare, work)
    before = {name: weight.detach().clone() for name, weight in tuned.named_parameters()}
    trained = sft.train(tuned, work)
    moved = {name for name, weight in trained.named_parameters() if not torch.equal(weight, before[name])}
    for part in moves:
        assert any(part in name for name in moved), f"{part} did not move"
    if "full" not in chosen:
        assert all(any(part in name for part in moves) for name in moved), sorted(moved)
    else:
        assert moved == set(before)


@pytest.mark.parametrize("init", ["olora", "pissa"])
def test_an_initialization_from_the_base_starts_as_the_base_and_keeps_its_start(
    base: Path, dataset: Path, init: str
) -> None:
    bare, work = job(base, dataset, {"lora": {"rank": 4, "alpha": 8, "init": init}})
    before = logits(bare)
    tuned = tuning.applied(bare, work)
    assert torch.allclose(logits(tuned), before, atol=1e-4)
    start = tuning.starting_point(tuned)
    assert len(start) == 2 * 2 * 7
    assert all(bool(weight.any()) for weight in start.values())


def test_eva_begins_with_the_directions_of_the_data(base: Path, dataset: Path) -> None:
    bare, work = job(base, dataset, {"lora": {"rank": 4, "init": "eva"}})
    before = logits(bare)
    tuned = tuning.applied(bare, work)
    assert torch.equal(logits(tuned), before)
    for layer in (layer for name, layer in tuned.named_modules() if name.endswith("q_proj")):
        begin = layer.lora_A["default"].weight
        assert begin.shape == (4, 32)
        assert torch.allclose(begin @ begin.T, torch.eye(4), atol=1e-3), "components are orthonormal, random A is not"


def test_eva_on_too_few_tokens_is_refused(base: Path, tmp_path: Path) -> None:
    rows = builders.json_lines(tmp_path / "rows.jsonl", builders.exchanges(2))
    bare, work = job(base, rows, {"lora": {"rank": 32, "init": "eva"}})
    with pytest.raises(Refused, match="too few tokens for rank 32: add rows, or write init: default") as refused:
        tuning.applied(bare, work)
    assert refused.value.reason == Reason.DATASET_INVALID


def test_full_tuning_learns_in_float32(base: Path, dataset: Path) -> None:
    bare, work = job(base, dataset, {"full": {}})
    tuned = tuning.applied(bare.bfloat16(), work)
    assert {weight.dtype for weight in tuned.parameters()} == {torch.float32}


def test_a_method_without_tuning_gets_its_base_back(base: Path, dataset: Path) -> None:
    merge = {"merge": {"runs": [{"name": "a"}, {"name": "b"}]}, "method": "merge", "tuning": {}}
    config = builders.run(base, dataset, **merge, hyperparameters={}, evaluation={"metrics": ["loss"]})
    bare, work = job(base, dataset, {})
    assert tuning.applied(bare, Job(config, work.places, work.task, work.precision, work.progress, work.stop)) is bare


@pytest.mark.skipif(torch.cuda.is_available(), reason="it is refused without a GPU only")
def test_nf4_without_a_gpu_is_refused(base: Path, dataset: Path) -> None:
    config = builders.run(
        base, dataset, tuning={"lora": {"quantization": "nf4"}}, resources={"gpus": 1, "memory": "1Gi"}
    )
    with pytest.raises(Refused, match=r"^tuning.lora.quantization nf4 needs a GPU: write none") as refused:
        model.load(config, Places(), model.Precision("cpu", "float32"))
    assert refused.value.reason == Reason.TUNING_UNSUPPORTED


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        pytest.param(["attention"], ATTENTION, id="attention"),
        pytest.param(["mlp"], MLP, id="mlp"),
        pytest.param(["mlp", "q_proj"], ["down_proj", "gate_proj", "q_proj", "up_proj"], id="a preset and a name"),
        pytest.param(["q_proj", "v_proj"], ["q_proj", "v_proj"], id="names"),
        pytest.param([], [], id="all of them"),
    ],
)
def test_presets_become_the_models_own_names(base: Path, targets: list[str], expected: list[str]) -> None:
    assert bases.read(base, "file:///base").targets(targets) == expected


def test_a_preset_names_layers_in_full_where_their_short_names_are_not_unique() -> None:
    layers = ["h.0.attn.c_attn", "h.0.attn.c_proj", "h.0.mlp.c_fc", "h.0.mlp.c_proj"]
    found = Base("file:///gpt2", {}, {f"{name}.weight": (8, 8) for name in layers})
    assert found.targets(["attention"]) == layers[:2]
    assert found.targets(["mlp"]) == layers[2:]


def test_a_preset_that_chooses_nothing_is_refused() -> None:
    found = Base("file:///odd", {}, {"block.0.mixer.proj.weight": (8, 8)})
    with pytest.raises(Refused, match="has no linear layer 'attention': write some of proj"):
        found.targets(["attention"])
