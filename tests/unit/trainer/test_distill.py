"""On-policy distillation of a tiny base from a tiny teacher."""

import shutil
from array import array
from pathlib import Path

import pytest
import torch
from tests.unit.trainer import builders
from transformers import AutoModelForCausalLM, AutoTokenizer

from posttrain_trainer import base as base_model
from posttrain_trainer import divergence, model, tuning
from posttrain_trainer.examples import Prompt
from posttrain_trainer.job import Job
from posttrain_trainer.methods import distill
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Stop
from posttrain_trainer.task import Task
from posttrain_trainer.template import ChatFormat


@pytest.fixture
def teacher(base: Path, tmp_path: Path) -> Path:
    """The base with other weights in the layers that LoRA can move."""
    folder = shutil.copytree(base, tmp_path / "teacher")
    found = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(1)
    for name, weight in found.named_parameters():
        if "proj" in name and weight.ndim == 2:
            weight.data += 0.2 * torch.randn_like(weight)
    found.save_pretrained(folder)
    return folder


def job(base: Path, teacher: Path, tmp_path: Path) -> Job:
    config = builders.run(
        base,
        tmp_path / "rows.jsonl",
        method="distill",
        distill={"teacher": {"uri": f"file://{teacher}"}, "maxCompletionTokens": 8},
        tuning={"lora": {"rank": 32, "alpha": 64}},
        hyperparameters={"maxSteps": 40, "effectiveBatchSize": 8, "learningRate": 0.01, "maxLength": 128},
        evaluation={"maxCompletionTokens": 8},
    )
    chat = ChatFormat(AutoTokenizer.from_pretrained(base), builders.CHATML)
    messages = [[{"role": "user", "content": f"Say {number}"}] for number in range(16)]
    prompts = [
        Prompt(number, said, array("i", chat.question(said)), "yes" if number % 2 else None, {})
        for number, said in enumerate(messages)
    ]
    task = Task(
        base=base_model.read(base, f"file://{base}"),
        chat=chat,
        training=prompts[:10],
        held_out=[],
        questions=[],
        dataset_digest="sha256:" + 64 * "0",
        evaluation_digest=None,
        warnings=[],
        held_out_rows=prompts[10:],
    )
    return Job(config, Places(claims=tmp_path), task, model.precision("auto"), Progress("double"), Stop())


def test_the_divergence_from_the_teacher_falls(base: Path, teacher: Path, tmp_path: Path) -> None:
    run = job(base, teacher, tmp_path)
    student = model.load(run.config, run.places, run.precision)
    before = divergence.divergence(student, run, between=lambda: None)
    assert divergence.divergence(run.teacher, run, between=lambda: None) == pytest.approx(0, abs=1e-6)
    trained = distill.train(tuning.applied(student, run), run)
    assert divergence.divergence(trained, run, between=lambda: None) < 0.8 * before
    assert run.progress.status.step == 40


def test_a_batch_that_is_not_full_is_filled(base: Path, teacher: Path, tmp_path: Path) -> None:
    assert len(distill.dataset(job(base, teacher, tmp_path))) == 16
