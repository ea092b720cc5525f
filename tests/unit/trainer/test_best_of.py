"""Rejection sampling with a tiny base: which answers are kept, and that a killed run goes on where it stopped."""

import json
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import builders
from transformers import AutoTokenizer

from posttrain_api.artifact import MANIFEST_FILE, BaseReference, Manifest, base_digest, differences, folder_name
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import Source, TrainingReport
from posttrain_trainer import base as base_model
from posttrain_trainer import model
from posttrain_trainer.examples import Prompt
from posttrain_trainer.job import Job
from posttrain_trainer.methods import best_of
from posttrain_trainer.places import Places
from posttrain_trainer.progress import Progress
from posttrain_trainer.refusal import Refused, Stop, Stopped
from posttrain_trainer.scoring import Scorer
from posttrain_trainer.task import Task
from posttrain_trainer.template import ChatFormat

DIGEST = "sha256:" + 64 * "0"
BEST_OF = {"samples": 6, "maxCompletionTokens": 6}
NUM_PROMPTS = 8


def prompts(chat: ChatFormat, gold: str | None) -> list[Prompt]:
    found = []
    for number in range(NUM_PROMPTS):
        messages = [{"role": "user", "content": f"Say {number}"}]
        found.append(Prompt(number, messages, array("i", chat.question(messages)), gold, {}))
    return found


class CountedStop(Stop):
    """A request to end that comes after so many prompts."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self._left = after

    def check(self, where: str) -> None:
        self._left -= 1
        self.requested = self._left <= 0
        super().check(where)


@pytest.fixture
def job(base: Path, tmp_path: Path) -> Callable[..., Job]:
    """A bestOf run of a tiny base; `spec` replaces parts of it."""

    def made(*, gold: str | None = "7", stop: Stop | None = None, **spec: Any) -> Job:
        wanted = {"method": "bestOf", "bestOf": BEST_OF, "tuning": {}, "hyperparameters": {}} | spec
        dataset = tmp_path / "rows.jsonl"
        rewards = wanted.pop("rewards", [{"builtin": "numeric"}])
        wanted["environment"] = {
            "dataset": {"uri": f"file://{dataset}"},
            "chatTemplate": {"inline": builders.CHATML},
            "rewards": rewards,
        }
        config = builders.run(base, dataset, **wanted)
        chat = ChatFormat(AutoTokenizer.from_pretrained(base), builders.CHATML)
        task = Task(
            base=base_model.read(base, f"file://{base}"),
            chat=chat,
            training=prompts(chat, gold),
            held_out=[],
            questions=[],
            dataset_digest=DIGEST,
            evaluation_digest=None,
            warnings=[],
        )
        places = Places(claims=tmp_path / "claims")
        return Job(config, places, task, model.precision("auto"), Progress("double"), stop or Stop())

    return made


class CountedModel:
    """The base, which counts how often it is asked."""

    def __init__(self, job: Job) -> None:
        self._model = model.load(job.config, job.places, job.precision)
        self.device = self._model.device
        self.calls = 0

    def generate(self, *arguments: Any, **options: Any) -> Any:
        self.calls += 1
        return self._model.generate(*arguments, **options)


def ran(job: Job, base: Path) -> tuple[TrainingReport, int]:
    """The report of a run, and how often the model was asked."""
    asked = CountedModel(job)
    return best_of.run(asked, job, BaseReference(uri=f"file://{base}", digest=base_digest(base))), asked.calls


def test_the_kept_rows_score_higher_than_all_and_are_an_artifact(job: Callable[..., Job], base: Path) -> None:
    run = job(rewards=[{"builtin": "numeric"}, {"builtin": "exact", "weight": 2.0}], bestOf=BEST_OF | {"samples": 64})
    found, _ = ran(run, base)
    folder = run.places.claims / "out" / "double" / folder_name(found.artifact.digest)
    manifest = Manifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    assert (manifest.kind, manifest.probes, list(differences(folder, manifest.files))) == ("dataset", [], [])
    rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    assert [row["row"] for row in rows] == list(range(NUM_PROMPTS))
    assert all(row["messages"][-1]["role"] == "assistant" and row["messages"][-1]["content"] for row in rows)
    assert found.evaluation.after["reward"] > found.evaluation.before["reward"]
    assert found.evaluation.after["reward"] == pytest.approx(sum(row["score"] for row in rows) / len(rows))
    assert (found.steps_planned, found.steps_completed, found.evaluation.rows) == (0, 0, NUM_PROMPTS)
    status = run.progress.status
    assert (status.stage, status.step, status.total_steps) == ("Done", NUM_PROMPTS, NUM_PROMPTS)
    assert list(run.progress.seconds) == ["Loading", "Sampling", "Evaluating", "Publishing"]
    assert "| reward | " in (folder / "README.md").read_text()


def test_a_stopped_run_goes_on_where_it_was_and_ends_with_the_same_digest(
    job: Callable[..., Job], base: Path, tmp_path: Path
) -> None:
    whole, calls = ran(job(), base)
    assert calls == NUM_PROMPTS
    with pytest.raises(Stopped, match="with the answers to 3 of 8 prompts, which the next start keeps"):
        ran(job(stop=CountedStop(3)), base)
    written = next((tmp_path / "claims" / "out" / "double").glob("*/0/answers.jsonl"))
    with written.open("a") as file:
        file.write('[3, ["half a li')
    again, calls = ran(job(), base)
    assert (again.artifact.digest, calls) == (whole.artifact.digest, NUM_PROMPTS - 3)
    assert not written.exists(), "what is published need not be sampled again"


def test_an_answer_below_the_least_score_is_not_kept(job: Callable[..., Job], base: Path) -> None:
    with pytest.raises(Refused, match=r"the best scores 0: lower bestOf.minScore, or raise bestOf.samples") as refused:
        ran(job(gold="123456789", bestOf=BEST_OF | {"minScore": 0.5}), base)
    assert refused.value.reason == Reason.NO_EFFECT


def test_the_best_is_the_first_of_equals_and_never_empty(job: Callable[..., Job]) -> None:
    run = job()
    prompt = run.task.training[0]
    assert isinstance(prompt, Prompt)
    answers = [best_of.Scored(prompt, text, score) for text, score in ((" ", 9.0), ("a", 1.0), ("b", 2.0), ("c", 2.0))]
    assert [answer.answer for answer in best_of.best([answers, answers[:1]], best_of.settings(run))] == ["b"]


def test_an_answer_is_kept_as_the_model_wrote_it(job: Callable[..., Job], tmp_path: Path) -> None:
    run = job(bestOf=BEST_OF | {"samples": 32, "temperature": 3.0})
    bare = model.load(run.config, run.places, run.precision)
    found = [answer for answers in best_of.sampled(bare, run, tmp_path / "answers").values() for answer in answers]
    assert any(answer != answer.strip() for answer in found)


def test_a_row_without_the_right_answer_cannot_be_compared(job: Callable[..., Job], base: Path) -> None:
    with pytest.raises(Refused, match="row 0: reward numeric needs the right answer: write"):
        ran(job(gold=None), base)


def test_a_reward_of_a_run_that_made_no_reward_model_is_refused(job: Callable[..., Job]) -> None:
    run = job(rewards=[{"model": {"fromRun": {"name": "judge"}}}])
    source = Source(run="judge", uri="pvc://out/judge", digest=DIGEST, kind="lora")
    config = run.config.model_copy(update={"sources": {"environment.rewards.0": source}})
    with pytest.raises(Refused, match="run judge made a lora: name a run with method reward") as refused:
        Scorer(config, run.places, "cpu")
    assert refused.value.reason == Reason.RUN_UNSUITABLE
