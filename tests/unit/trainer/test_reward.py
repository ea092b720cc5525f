"""A reward model of a tiny base: what it learns to prefer, what is published of it, and how it is loaded to score."""

import shutil
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.unit.trainer import builders
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from posttrain_api.artifact import MANIFEST_FILE, BaseReference, Manifest, base_digest, canonical_json, folder_name
from posttrain_api.conditions import Reason
from posttrain_trainer import base as base_model
from posttrain_trainer import model, reward_model, task, training, tuning
from posttrain_trainer.examples import Pair
from posttrain_trainer.job import Job
from posttrain_trainer.methods import reward
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Refused, Stop
from posttrain_trainer.task import Task
from posttrain_trainer.template import ChatFormat

DIGEST = "sha256:" + 64 * "0"
SETTINGS = {"maxSteps": 25, "effectiveBatchSize": 8, "learningRate": 0.01, "maxLength": 128}


def chat_of(folder: Path) -> ChatFormat:
    return ChatFormat(model_tokenizer(folder), builders.CHATML)


def model_tokenizer(folder: Path) -> Any:
    return AutoTokenizer.from_pretrained(folder)


def pairs(chat: ChatFormat, numbers: range) -> list[Pair]:
    """The chosen answer is polite, the rejected one is not; both are as long."""

    def answer(text: str) -> "array[int]":
        return array("i", [*chat.tokenizer(text)["input_ids"], chat.end_of_turn[0]])

    prompts = [chat.question([{"role": "user", "content": f"Add {number}"}]) for number in numbers]
    return [
        Pair(number, array("i", prompt), answer(f"Please {number}"), answer(f"Go {number} away"))
        for number, prompt in zip(numbers, prompts, strict=True)
    ]


@pytest.fixture
def job(base: Path, tmp_path: Path) -> Callable[..., Job]:
    """A reward run of a tiny base; keywords replace parts of its spec."""

    def made(**spec: Any) -> Job:
        spec = {"method": "reward", "hyperparameters": SETTINGS} | spec
        config = builders.run(base, tmp_path / "rows.jsonl", **spec)
        chat = chat_of(base)
        given = Task(
            base=base_model.read(base, f"file://{base}"),
            chat=chat,
            training=pairs(chat, range(40)),
            held_out=[],
            questions=[],
            dataset_digest=DIGEST,
            evaluation_digest=None,
            warnings=[],
            held_out_rows=pairs(chat, range(40, 60)),
        )
        return Job(config, Places(claims=tmp_path), given, model.precision("auto"), Progress("double"), Stop())

    return made


def trained(job: Job) -> Any:
    start = model.load(job.config, job.places, job.precision)
    return reward.train(tuning.applied(start, job), job)


def published(job: Job, folder: Path, base: Path) -> Manifest:
    result = trained(job)
    reward_model.write(result, job.task.chat, folder)
    found = reward_model.manifest(
        result,
        job.task.chat,
        folder,
        base=BaseReference(uri=f"file://{base}", digest=base_digest(base)),
        recipe_digest=DIGEST,
        parents=[],
    )
    (folder / MANIFEST_FILE).write_bytes(canonical_json(found.to_json()))
    return found


def test_the_chosen_answer_of_new_pairs_scores_higher(job: Callable[..., Job]) -> None:
    found = job()
    held_out = found.task.held_out_rows
    result = trained(found)
    chosen = reward_model.scores(result, [[*pair.prompt, *pair.chosen] for pair in held_out], between=lambda: None)
    rejected = reward_model.scores(result, [[*pair.prompt, *pair.rejected] for pair in held_out], between=lambda: None)
    assert all(better > worse for better, worse in zip(chosen, rejected, strict=True))


def test_plain_transformers_loads_the_published_model_with_its_head_and_gets_the_probes(
    job: Callable[..., Job], base: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "artifact"
    found = published(job(), folder, base)
    assert (found.kind, found.rank, found.target_modules) == ("reward-model", None, [])
    assert sorted(found.files) == [
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    loaded, info = AutoModelForSequenceClassification.from_pretrained(folder, output_loading_info=True)
    assert (loaded.config.architectures, loaded.config.num_labels) == (["Qwen2ForSequenceClassification"], 1)
    assert not info["missing_keys"], "the head is in the checkpoint"
    for probe in found.probes:
        with torch.no_grad():
            score = loaded.eval()(torch.tensor([probe.token_ids])).logits[0, 0].item()
        assert (probe.base, probe.result) == ([], [pytest.approx(score, abs=2e-4)])


def test_a_published_reward_model_scores_conversations_under_its_own_template(
    job: Callable[..., Job], base: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "artifact"
    found = published(job(), folder, base)
    scorer = reward_model.load(folder, "pvc://out/artifact", found.digest, "cpu")
    question = [{"role": "user", "content": "Add 70"}]
    polite, rude = scorer.scores([(question, "Please 70"), (question, "Go 70 away")])
    assert polite > rude
    assert scorer.scores([(question, "Please 70")]) == [pytest.approx(polite, abs=1e-5)], "padding changes nothing"


def test_a_conversation_is_scored_as_a_server_writes_it(job: Callable[..., Job], base: Path, tmp_path: Path) -> None:
    """With what the template writes behind the end of the turn: there the score is read, in training as afterwards."""
    folder = tmp_path / "artifact"
    found = published(job(), folder, base)
    messages = [{"role": "user", "content": "Add 70"}, {"role": "assistant", "content": "Please 70"}]
    rendered = AutoTokenizer.from_pretrained(folder).apply_chat_template(messages)["input_ids"]
    with torch.no_grad():
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        expected = model(torch.tensor([rendered])).logits[0, 0].item()
    scorer = reward_model.load(folder, "pvc://out/artifact", found.digest, "cpu")
    assert scorer.scores([(messages[:1], "Please 70")]) == [pytest.approx(expected, abs=1e-5)]

    rows = [{"prompt": f"Add {n}", "chosen": f"Please {n}", "rejected": f"Go {n} away"} for n in range(70, 90)]
    builders.json_lines(tmp_path / "rows.jsonl", rows)
    config = builders.run(base, tmp_path / "rows.jsonl", method="reward", hyperparameters=SETTINGS)
    prepared = task.prepare(config, Places(claims=tmp_path), Stop())
    (pair,) = (row for row in [*prepared.training, *prepared.held_out_rows] if row.number == 1)
    assert isinstance(pair, Pair)
    assert [*pair.prompt, *pair.chosen] == rendered


def test_a_damaged_reward_model_is_refused(job: Callable[..., Job], base: Path, tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    found = published(job(hyperparameters=SETTINGS | {"maxSteps": 1}), folder, base)
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    for where, digest in ((copy, found.digest), (folder, DIGEST)):
        with pytest.raises(Refused, match="is not here whole: run its training again") as refused:
            reward_model.load(where, "pvc://out/artifact", digest, "cpu")
        assert refused.value.reason == Reason.ARTIFACT_MISSING


def test_the_padding_token_ends_no_conversation(job: Callable[..., Job]) -> None:
    chat = job().task.chat
    assert chat.tokenizer.pad_token_id in chat.end_of_turn
    assert reward_model.pad_token_id(chat) not in chat.end_of_turn


def test_lora_leaves_the_layers_but_moves_the_head(job: Callable[..., Job]) -> None:
    found = job()
    start = tuning.applied(model.load(found.config, found.places, found.precision), found)
    moving = {name for name, weight in start.named_parameters() if weight.requires_grad}
    assert any("score" in name for name in moving)
    assert all("lora_" in name or "score" in name for name in moving)


def test_a_whole_run_is_judged_by_preference_and_publishes_the_merged_classifier(base: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"Add {number}", "chosen": f"Please {number}", "rejected": f"Go {number} away"}
        for number in range(60)
    ]
    dataset = builders.json_lines(tmp_path / "rows.jsonl", rows)
    config = builders.run(base, dataset, method="reward", hyperparameters=SETTINGS)
    report = training.train(config, Places(claims=tmp_path), Progress("double"), Stop())
    assert report.evaluation.after == {"preferenceAccuracy": 1.0}
    folder = tmp_path / "out" / "double" / folder_name(report.artifact.digest)
    assert report.artifact.kind == "reward-model"
    assert AutoModelForSequenceClassification.from_pretrained(folder).score.weight.shape == (1, 32)
