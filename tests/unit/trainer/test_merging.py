"""An adapter merged into its base: the same answers, published once, and never from the wrong bytes."""

import json
import shutil
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tests.unit.trainer import builders
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from posttrain_api.artifact import MANIFEST_FILE, BaseReference, base_digest, canonical_json
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import EXIT_DONE, EXIT_REFUSED, MergeConfig, Report
from posttrain_server.agent.base import Base
from posttrain_trainer import __main__ as command
from posttrain_trainer import adapters, adopt, merging
from posttrain_trainer.places import Places
from posttrain_trainer.refusal import Refused

IDS = torch.tensor([[40, 50, 60, 70, 80]])


def adapter(base: Path, folder: Path, *, seed: int = 1, **options: Any) -> str:
    """Save a LoRA with an effect and a manifest; returns its digest."""
    torch.manual_seed(seed)
    chosen = {"r": 4, "target_modules": ["q_proj", "down_proj"], "init_lora_weights": False} | options
    config = peft.LoraConfig(task_type="CAUSAL_LM", **chosen)
    peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)
    (folder / "README.md").unlink()
    (folder / "chat_template.jinja").write_text(builders.CHATML)
    return adopt.adopt(folder, f"file://{base}", base).digest


@pytest.fixture
def merge(base: Path, tmp_path: Path) -> MergeConfig:
    return MergeConfig(
        run="double",
        uid=builders.UID,
        artifact_uri=f"file://{tmp_path}/adapter",
        artifact_digest=adapter(base, tmp_path / "adapter"),
        base=BaseReference(uri=f"file://{base}", digest=base_digest(base)),
        output="pvc://out",
    )


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS).logits
    return found


def test_the_merged_model_answers_like_base_and_adapter(
    merge: MergeConfig, base: Path, tmp_path: Path, places: Places
) -> None:
    found = merging.merge(merge, places)
    folder = places.path(found.uri)
    assert found.uri == f"pvc://out/double/base-{base_digest(folder).removeprefix('sha256:')}"
    assert (found.digest, found.artifact_digest) == (base_digest(folder), merge.artifact_digest)
    bare = AutoModelForCausalLM.from_pretrained(base)
    untouched = logits(bare)
    expected = logits(peft.PeftModel.from_pretrained(bare, str(tmp_path / "adapter")))
    assert torch.allclose(logits(AutoModelForCausalLM.from_pretrained(folder)), expected, atol=1e-5)
    assert not torch.allclose(untouched, expected, atol=1e-3)
    assert AutoTokenizer.from_pretrained(folder).chat_template == builders.CHATML
    assert GenerationConfig.from_pretrained(folder).eos_token_id[0] == 258, "<|im_end|> ends an answer"
    names = {path.name for path in folder.parent.iterdir()}
    assert names == {folder.name, f"merged-{merge.artifact_digest[7:19]}.json"}


def test_a_second_merge_returns_the_first(merge: MergeConfig, places: Places, tmp_path: Path) -> None:
    first = merging.merge(merge, places)
    shutil.rmtree(tmp_path / "adapter")
    assert merging.merge(merge, places) == first, "it needs the adapter no more"


async def test_a_server_finds_the_merge_to_be_what_its_folder_promises(
    merge: MergeConfig, places: Places, tmp_path: Path
) -> None:
    made = merging.merge(merge, places)
    found = Base(places.path(made.uri), memory=tmp_path / "base.json")

    assert found.promise == ("base", made.digest)
    await found.know()
    assert found.digest == made.digest


def test_a_damaged_merge_is_made_again(merge: MergeConfig, places: Places) -> None:
    first = merging.merge(merge, places)
    (places.path(first.uri) / "config.json").write_text("{}")
    assert merging.merge(merge, places) == first
    assert base_digest(places.path(first.uri)) == first.digest


def test_a_base_in_half_precision_stays_so(base: Path, tmp_path: Path, places: Places, merge: MergeConfig) -> None:
    half = tmp_path / "half"
    shutil.copytree(base, half)
    AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16).save_pretrained(half)
    digest = adapter(half, tmp_path / "of-half")
    reference = BaseReference(uri=f"file://{half}", digest=base_digest(half))
    asked = merge.replace(artifact_uri=f"file://{tmp_path}/of-half", artifact_digest=digest, base=reference)
    folder = places.path(merging.merge(asked, places).uri)
    assert AutoModelForCausalLM.from_pretrained(folder).dtype == torch.bfloat16


def damaged(merge: MergeConfig, folder: Path) -> MergeConfig:
    (folder / "chat_template.jinja").write_text("swapped")
    return merge


def gone(merge: MergeConfig, folder: Path) -> MergeConfig:
    shutil.rmtree(folder)
    return merge


def another(merge: MergeConfig, _folder: Path) -> MergeConfig:
    return merge.replace(artifact_digest="sha256:" + 64 * "0")


def of_kind_model(merge: MergeConfig, folder: Path) -> MergeConfig:
    found = adapters.verified(folder, merge.artifact_uri, merge.artifact_digest).replace(kind="model")
    (folder / MANIFEST_FILE).write_bytes(canonical_json(found.to_json()))
    return merge.replace(artifact_digest=found.digest)


def without_base(merge: MergeConfig, _folder: Path) -> MergeConfig:
    return merge.replace(base=merge.base.replace(uri="file:///nowhere"))


def on_another_base(merge: MergeConfig, folder: Path) -> MergeConfig:
    other = folder.with_name("other")
    shutil.copytree(merge.base.uri.removeprefix("file://"), other)
    (other / "tokenizer_config.json").write_text("{}")
    return merge.replace(base=merge.base.replace(uri=f"file://{other}"))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (damaged, Reason.DIGEST_MISMATCH),
        (another, Reason.DIGEST_MISMATCH),
        (gone, Reason.ADAPTER_NOT_FOUND),
        (of_kind_model, Reason.UNSUPPORTED_ADAPTER),
        (without_base, Reason.MODEL_NOT_FOUND),
        (on_another_base, Reason.BASE_MISMATCH),
    ],
)
def test_what_is_not_what_it_says_is_refused(
    merge: MergeConfig, places: Places, tmp_path: Path, spoil: Any, reason: Reason
) -> None:
    with pytest.raises(Refused) as refused:
        merging.merge(spoil(merge, tmp_path / "adapter"), places)
    assert refused.value.reason == reason
    assert not (places.claims / "out" / "double").exists()


def test_the_command_line_reports_the_merge(merge: MergeConfig, places: Places, tmp_path: Path) -> None:
    message = tmp_path / "message.json"
    options = ["--termination-message", str(message), "--claims-root", str(places.claims)]
    assert command.main(["--merge", json.dumps(merge.to_json()), *options]) == EXIT_DONE
    report = Report.model_validate_json(message.read_bytes())
    assert report.merged == merging.merge(merge, places)
    assert (report.uid, report.failure, report.training) == (builders.UID, None, None)
    assert command.main(["--merge", '{"run": 1}', *options]) == EXIT_REFUSED
    failure = Report.model_validate_json(message.read_bytes()).failure
    assert failure is not None
    assert failure.message.startswith("--merge: run: Input should be a valid string")
