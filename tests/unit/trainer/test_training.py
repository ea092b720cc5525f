"""A whole training of a tiny model: what it teaches, what it publishes, and what it never publishes."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import safetensors.torch
import torch
from tests.unit.trainer import builders
from transformers import AutoModelForCausalLM, AutoTokenizer

from posttrain_api.artifact import MANIFEST_FILE, Manifest, base_digest, differences, digest_of, folder_name
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig, TrainingReport
from posttrain_trainer import model, task, training, tuning
from posttrain_trainer.job import Job
from posttrain_trainer.methods import sft
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Refused, Stop, Stopped

ALL_METRICS = {"metrics": ["loss", "tokenAccuracy", "exactMatch"]}
LAYERS = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


@pytest.fixture(scope="session")
def config(base: Path, tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    dataset = builders.json_lines(tmp_path_factory.mktemp("data") / "rows.jsonl", builders.exchanges(60))
    return builders.run(base, dataset, evaluation=ALL_METRICS)


@pytest.fixture(scope="session")
def trained(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingReport, Path]:
    """The report of a training, and the claim that it published on."""
    places = Places(claims=tmp_path_factory.mktemp("claims"))
    return training.train(config, places, Progress(config.name), Stop()), places.claims / "out"


def test_the_report_names_the_artifact_and_every_step(config: RunConfig, trained: tuple[TrainingReport, Path]) -> None:
    report, claim = trained
    folder = claim / "double" / folder_name(report.artifact.digest)
    manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    assert (manifest.digest, list(differences(folder, manifest.files))) == (report.artifact.digest, [])
    assert report.artifact.uri == f"pvc://out/double/{folder.name}"
    assert (report.artifact.rank, report.artifact.target_modules) == (4, LAYERS)
    assert report.artifact.base.digest == base_digest(Path(config.recipe.base_model.uri.removeprefix("file://")))
    assert manifest.recipe_digest == digest_of(config.recipe.to_json())
    assert (report.steps_completed, report.steps_planned, report.evaluation.rows) == (3, 3, 3)
    assert set(report.metrics) == {"loss", "tokenAccuracy", "entropy", "learningRate", "gradNorm"}
    assert list(report.evaluation.before) == list(report.evaluation.after) == ALL_METRICS["metrics"]
    assert report.evaluation.after["loss"] != report.evaluation.before["loss"]


def test_the_artifact_holds_its_proof_and_what_lies_beside_it(trained: tuple[TrainingReport, Path]) -> None:
    report, claim = trained
    folder = claim / "double" / folder_name(report.artifact.digest)
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "chat_template.jinja",
        "manifest.json",
        "metrics.jsonl",
        "report.json",
        "samples.jsonl",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert (folder / "chat_template.jinja").read_text() == builders.CHATML
    modules = json.loads((folder / "adapter_config.json").read_text())["target_modules"]
    assert modules == sorted(modules), "in a set's order they would change the digest from process to process"
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3]
    assert [list(sample) for sample in samples] == [["row", "messages", "right", "before", "after"]] * 3
    assert json.loads((folder / "report.json").read_text())["training"] == report.to_json()
    assert [path.name for path in (claim / "double").iterdir()] == [folder.name]


def test_plain_peft_and_transformers_load_it_and_get_the_manifests_probabilities(
    base: Path, trained: tuple[TrainingReport, Path]
) -> None:
    report, claim = trained
    folder = claim / "double" / folder_name(report.artifact.digest)
    manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    loaded = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder)).eval()
    builders.check_probes(loaded, manifest)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_the_same_recipe_has_the_same_digest_and_is_published_once(
    config: RunConfig, trained: tuple[TrainingReport, Path]
) -> None:
    report, claim = trained
    folder = claim / "double" / folder_name(report.artifact.digest)
    before = (folder / "report.json").stat().st_mtime_ns
    again = training.train(config, Places(claims=claim.parent), Progress(config.name), Stop())
    assert again.artifact == report.artifact
    assert (folder / "report.json").stat().st_mtime_ns == before


def test_trl_counts_exactly_what_our_mask_counts(config: RunConfig, tmp_path: Path) -> None:
    prepared = task.prepare(config, Places(claims=tmp_path), Stop())
    precision = model.Precision("cpu", "float32")
    base = model.load(config, Places(), precision)
    job = Job(config, Places(), prepared, precision, Progress(config.name), Stop())
    trainer = sft.trainer(tuning.applied(base, job), job, str(tmp_path))
    decode = prepared.chat.tokenizer.decode
    pairs: list[tuple[str, str]] = []
    for batch in (part for step in trainer.get_train_dataloader() for part in step["parts"]):
        for ids, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
            counted = [token for token in labels if token != -100]
            assert [label for label in labels if label != -100] == [
                token for token, label in zip(ids, labels, strict=True) if label != -100
            ]
            question = decode(ids).partition("Double ")[2].partition("<|im_end|>")[0]
            pairs.append((question, decode(counted)))
    assert sorted(pairs) == sorted((str(n), f"{2 * n}<|im_end|>") for n in trained_numbers(prepared))
    assert len(pairs) == 57


def trained_numbers(prepared: task.Task) -> list[int]:
    """Row n doubles n - 1."""
    return [example.number - 1 for example in prepared.training]


@pytest.fixture
def sigterm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("sigterm")
def test_sigterm_ends_at_a_step_and_publishes_nothing(config: RunConfig, tmp_path: Path) -> None:
    class Watched(Progress):
        def step(self, step: int, **numbers: Any) -> None:
            super().step(step, **numbers)
            if step == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    stop = Stop()
    stop.listen()
    places = Places(claims=tmp_path)
    with pytest.raises(Stopped, match=r"^stopped by SIGTERM at step 2 of 3$"):
        training.train(config, places, Watched("double"), stop)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_loss_that_is_no_number_ends_the_training_and_publishes_nothing(config: RunConfig, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(config.recipe.base_model.uri.removeprefix("file://"), base)
    weights = safetensors.torch.load_file(base / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    safetensors.torch.save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    broken = builders.run(base, Path(str(config.recipe.environment.dataset.uri).removeprefix("file://")))
    progress = Progress("double")
    with pytest.raises(Refused) as refused:
        training.train(broken, Places(claims=tmp_path), progress, Stop())
    assert (refused.value.reason, str(refused.value)) == (
        Reason.TRAINING_DIVERGED,
        "at step 1 of 3: the loss is not a number any more: lower hyperparameters.learningRate",
    )
    assert progress.status.to_json()["metrics"]["loss"] is None
    assert list((tmp_path / "out").iterdir()) == []


def test_a_training_that_changes_nothing_is_not_published(config: RunConfig, tmp_path: Path) -> None:
    dataset = Path(str(config.recipe.environment.dataset.uri).removeprefix("file://"))
    base = Path(config.recipe.base_model.uri.removeprefix("file://"))
    idle = builders.run(base, dataset, hyperparameters={"maxSteps": 1, "learningRate": 1e-30, "maxLength": 128})
    with pytest.raises(Refused, match=r"^the result answers like its base: ") as refused:
        training.train(idle, Places(claims=tmp_path), Progress("double"), Stop())
    assert refused.value.reason == Reason.NO_EFFECT
    assert list((tmp_path / "out" / "double").iterdir()) == []


def test_bf16_without_a_gpu_is_refused() -> None:
    if torch.cuda.is_available():
        assert model.precision("auto").device == "cuda"
        return
    assert model.precision("auto") == model.precision("fp32") == model.Precision("cpu", "float32")
    with pytest.raises(Refused, match="bf16 needs a GPU: write auto or fp32") as refused:
        model.precision("bf16")
    assert refused.value.reason == Reason.PRECISION_UNSUPPORTED
