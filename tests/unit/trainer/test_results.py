"""What each tuning publishes: that it loads elsewhere, answers as the trained model did, and says so."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tests.unit.trainer import builders
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from posttrain_api.artifact import BaseReference, Manifest, base_digest
from posttrain_api.trainer_contract import Source
from posttrain_trainer import model, probe, results, task, tuning
from posttrain_trainer.job import Job
from posttrain_trainer.methods import sft
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Refused, Stop

IDS = torch.tensor([[40, 50, 60, 70, 80]])
PARENT = "sha256:" + 64 * "a"


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return builders.json_lines(tmp_path_factory.mktemp("data") / "rows.jsonl", builders.exchanges(60))


def trained(base: Path, dataset: Path, chosen: dict[str, Any], *, steps: int = 3) -> results.Result:
    """The result of a short training."""
    settings = {"maxSteps": steps or 1, "effectiveBatchSize": 4, "learningRate": 0.01, "maxLength": 128}
    config = builders.run(base, dataset, tuning=chosen, hyperparameters=settings, evaluation={"metrics": ["loss"]})
    source = Source(run="first", uri=f"file://{base}", digest=PARENT, kind="lora")
    config = config.replace(sources={"baseModel": source})
    places, precision = Places(), model.Precision("cpu", "float32")
    prepared = task.prepare(config, places, Stop())
    job = Job(config, places, prepared, precision, Progress(config.name), Stop())
    tuned = tuning.applied(model.load(config, places, precision), job)
    if steps:
        tuned = sft.train(tuned, job)
    reference = BaseReference(uri=f"file://{base}", digest=base_digest(base))
    return results.Result(tuned.eval(), config, places, prepared.chat, reference)


def logits(found: Any) -> torch.Tensor:
    with torch.no_grad():
        return found(input_ids=IDS).logits[:, -IDS.shape[1] :]


def written(result: results.Result, folder: Path) -> Manifest:
    folder.mkdir()
    found = result.write(folder)
    assert not list(folder.glob("*.bin")), "no pickles"
    assert found.parents == [PARENT]
    assert max(map(probe.distance, found.probes)) > probe.NOISE["float32"]
    return found


@pytest.mark.parametrize(
    ("chosen", "rank"),
    [
        pytest.param({"init": "gaussian"}, 4, id="gaussian"),
        pytest.param({"init": "eva"}, 4, id="eva"),
        pytest.param({"init": "olora"}, 8, id="olora"),
        pytest.param({"init": "pissa"}, 8, id="pissa"),
        pytest.param({"init": "pissa", "rankStabilized": True}, 8, id="pissa, rank-stabilized"),
        pytest.param({"rankStabilized": True, "targetModules": ["attention"]}, 4, id="rank-stabilized"),
    ],
)
def test_an_adapter_is_plain_lora_on_the_untouched_base(
    base: Path, dataset: Path, tmp_path: Path, chosen: dict[str, Any], rank: int
) -> None:
    result = trained(base, dataset, {"lora": {"rank": 4, "alpha": 8, **chosen}})
    expected = logits(result.tuned)
    found = written(result, tmp_path / "artifact")
    assert (found.kind, found.rank) == ("lora", rank)
    assert json.loads((tmp_path / "artifact" / "adapter_config.json").read_text())["init_lora_weights"] is True
    bare = AutoModelForCausalLM.from_pretrained(base)
    before = logits(bare)
    loaded = peft.PeftModel.from_pretrained(bare, str(tmp_path / "artifact")).eval()
    assert torch.allclose(logits(loaded), expected, atol=1e-4)
    with loaded.disable_adapter():
        assert torch.equal(logits(loaded), before)


@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param({"lora": {"rank": 4, "dora": True}}, id="dora"),
        pytest.param({"full": {}}, id="full"),
        pytest.param({"osft": {"unfreezeRankRatio": 0.5}}, id="osft"),
    ],
)
def test_a_whole_model_is_a_complete_checkpoint(
    base: Path, dataset: Path, tmp_path: Path, chosen: dict[str, Any]
) -> None:
    result = trained(base, dataset, chosen)
    expected = logits(result.tuned)
    folder = tmp_path / "artifact"
    found = written(result, folder)
    assert (found.kind, found.rank, found.target_modules) == ("model", None, [])
    assert base_digest(folder).startswith("sha256:")
    assert torch.allclose(logits(AutoModelForCausalLM.from_pretrained(folder).eval()), expected, atol=1e-4)
    assert torch.equal(logits(result.tuned), expected), "the model in memory may go on learning"
    assert AutoTokenizer.from_pretrained(folder).chat_template == builders.CHATML
    settings = GenerationConfig.from_pretrained(folder)
    assert (settings.eos_token_id[0], settings.max_new_tokens) == (258, None)
    assert AutoModelForCausalLM.from_pretrained(folder).config.use_cache
    bare = AutoModelForCausalLM.from_pretrained(base).eval()
    assert [each.base for each in found.probes] == probe.scores(bare, result.chat)


def test_a_whole_model_keeps_its_bases_number_format(base: Path, dataset: Path, tmp_path: Path) -> None:
    half = tmp_path / "half"
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(half)
    builders.tokenizer(half)
    result = trained(half, dataset, {"full": {}})
    written(result, tmp_path / "artifact")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "artifact").dtype == torch.bfloat16
    assert {weight.dtype for weight in result.tuned.parameters()} == {torch.float32}


def test_a_tuned_prompt_is_of_its_own_kind(base: Path, dataset: Path, tmp_path: Path) -> None:
    chosen = {"promptTuning": {"virtualTokens": 4, "initText": "Double the number"}}
    result = trained(base, dataset, chosen)
    expected = logits(result.tuned)
    found = written(result, tmp_path / "artifact")
    assert (found.kind, found.rank, found.target_modules) == ("prompt", None, [])
    assert str(base) not in (tmp_path / "artifact" / "adapter_config.json").read_text().replace(f"file://{base}", "")
    bare = AutoModelForCausalLM.from_pretrained(base)
    assert torch.allclose(logits(peft.PeftModel.from_pretrained(bare, str(tmp_path / "artifact"))), expected, atol=1e-5)


@pytest.mark.parametrize("chosen", [{"full": {}}, {"lora": {"init": "pissa"}}, {"lora": {"rank": 4}}])
def test_what_did_not_learn_is_refused(base: Path, dataset: Path, tmp_path: Path, chosen: dict[str, Any]) -> None:
    result = trained(base, dataset, chosen, steps=0)
    with pytest.raises(Refused, match="answers like its base"):
        result.write(tmp_path)
