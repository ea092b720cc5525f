"""Rejection sampling: several answers to each prompt are scored, and the best are published as a dataset for sft.

Nothing is trained. Each prompt has its own seed, and its answers are written down as soon as they are there: a run that
was killed goes on where it stopped, and ends with the rows that it would have had.
"""

import json
import os
import random
import shutil
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from posttrain_api import uri
from posttrain_api.artifact import ArtifactSummary, BaseReference, Manifest, digest_of
from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import TrainingReport
from posttrain_api.v1alpha1.methods import BestOf
from posttrain_api.v1alpha1.training_run_status import EvaluationResult
from posttrain_trainer import batching, card, export, preflight, report
from posttrain_trainer.examples import Prompt
from posttrain_trainer.job import Job
from posttrain_trainer.refusal import Refused
from posttrain_trainer.scoring import Scorer

ROWS = "rows.jsonl"
_ANSWERS = "answers.jsonl"


@dataclass(frozen=True)
class Scored:
    """An answer with its score."""

    prompt: Prompt
    answer: str
    score: float

    @property
    def row(self) -> dict[str, Any]:
        """As a row that sft reads."""
        answer = {"role": "assistant", "content": self.answer}
        return {"messages": [*self.prompt.messages, answer], "score": round(self.score, 6), "row": self.prompt.number}


def run(model: Any, job: Job, base: BaseReference) -> TrainingReport:
    """Sample, score, keep the best and publish them; Refused where no answer is good enough."""
    progress = job.progress
    folder = _folder(job) / job.config.uid / str(job.config.round)
    try:
        progress.enter("Sampling")
        answers = sampled(model, job, folder)
        progress.enter("Evaluating")
        scored = [_scored(job.scorer, prompt, answers[prompt.number]) for prompt in job.task.prompts]
        kept = best(scored, settings(job))
        progress.enter("Publishing")
        found = _published(job, base, scored, kept)
        progress.enter("Done")
        shutil.rmtree(folder.parent, ignore_errors=True)
    except OSError as error:
        raise preflight.unwritable(job.recipe.output.uri, _folder(job), error) from error
    return found


def settings(job: Job) -> BestOf:
    """The recipe's block, or its defaults."""
    return job.recipe.best_of or BestOf()


def sampled(model: Any, job: Job, folder: Path) -> dict[int, list[str]]:
    """Number of a row -> its answers. Those that lie in the folder are not sampled again."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _ANSWERS
    found = dict(_recovered(path))
    prompts = job.task.prompts
    job.progress.begin_sampling(done=len(found), total=len(prompts))
    with path.open("a") as file:
        for prompt in prompts:
            if prompt.number not in found:
                found[prompt.number] = _answers(model, job, prompt)
                file.write(json.dumps([prompt.number, found[prompt.number]], ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
                job.progress.sampled(len(found))
            job.stop.check(f"with the answers to {len(found)} of {len(prompts)} prompts, which the next start keeps")
    return found


def best(scored: Sequence[Sequence[Scored]], chosen: BestOf) -> list[Scored]:
    """The best answer that says something to each prompt, the first of equals, where it reaches the least score."""
    spoken = [[answer for answer in answers if answer.answer.strip()] for answers in scored]
    winners = [max(answers, key=lambda answer: answer.score) for answers in spoken if answers]
    kept = [winner for winner in winners if chosen.min_score is None or winner.score >= chosen.min_score]
    if not kept:
        reached = f"the best scores {max(winner.score for winner in winners):g}" if winners else "all are empty"
        raise Refused(
            Reason.NO_EFFECT,
            f"no answer is good enough to be kept: {reached}: lower bestOf.minScore, or raise bestOf.samples",
        )
    return kept


def _folder(job: Job) -> Path:
    return job.places.path(job.recipe.output.uri) / job.config.name


def _recovered(path: Path) -> Iterator[tuple[int, list[str]]]:
    """What an earlier start sampled; a line that it could not finish is removed."""
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        os.truncate(path, len(whole))
    for line in whole.splitlines():
        number, answers = json.loads(line)
        yield number, answers


def _answers(model: Any, job: Job, prompt: Prompt) -> list[str]:
    chosen, chat = settings(job), job.task.chat
    torch.manual_seed(random.Random(f"{job.recipe.hyperparameters.seed} {prompt.number}").getrandbits(63))
    sampling = GenerationConfig(
        do_sample=True,
        temperature=chosen.temperature,
        top_k=0,
        top_p=1.0,
        repetition_penalty=1.0,  # what is left open here would be the base's own
        max_new_tokens=chosen.max_completion_tokens,
        pad_token_id=chat.tokenizer.pad_token_id,
        eos_token_id=list(chat.end_of_turn),
    )
    at_once = max(batching.MAX_TOKENS // (len(prompt.token_ids) + chosen.max_completion_tokens), 1)
    found: list[str] = []
    while len(found) < chosen.samples:
        ids = torch.tensor([list(prompt.token_ids)] * min(at_once, chosen.samples - len(found)), device=model.device)
        with torch.inference_mode():
            output = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=sampling)
        found += [chat.answer(tokens) for tokens in output[:, ids.shape[1] :].tolist()]
    return found


def _scored(scorer: Scorer, prompt: Prompt, answers: Sequence[str]) -> list[Scored]:
    scores = scorer.scores([(prompt, answer) for answer in answers])
    return [Scored(prompt, answer, score) for answer, score in zip(answers, scores, strict=True)]


def _published(job: Job, base: BaseReference, scored: Sequence[Sequence[Scored]], kept: list[Scored]) -> TrainingReport:
    found: list[TrainingReport] = []
    location = uri.child(job.recipe.output.uri, job.config.name)

    def write(folder: Path) -> Manifest:
        lines = [json.dumps(answer.row, ensure_ascii=False, allow_nan=False) + "\n" for answer in kept]
        (folder / ROWS).write_text("".join(lines))
        made = _manifest(job, base, folder)
        found.append(_report(job, export.summary(made, export.location(location, made)), scored, kept))
        told = {"warnings": job.task.warnings, "seconds": job.progress.seconds}
        report.write_result(folder, job.config, found[0], **told)
        (folder / card.CARD_FILE).write_text(card.card(job.config, found[0], job.task.chat))
        return made

    export.publish(_folder(job), location, f"{job.config.uid}-{job.config.round}", write)
    return found[0]


def _manifest(job: Job, base: BaseReference, folder: Path) -> Manifest:
    return export.manifest(
        folder,
        kind="dataset",
        method="bestOf",
        base=base,
        recipe_digest=digest_of(job.recipe.to_json()),
        parents=job.config.parents,
        end_of_turn=job.task.chat.end_of_turn,
        dtype=job.precision.dtype,
        probes=[],
    )


def _report(
    job: Job, artifact: ArtifactSummary, scored: Sequence[Sequence[Scored]], kept: Sequence[Scored]
) -> TrainingReport:
    everything = statistics.fmean(answer.score for answers in scored for answer in answers)
    return TrainingReport(
        artifact=artifact,
        steps_completed=0,
        steps_planned=0,
        metrics={},
        evaluation=EvaluationResult(
            before={"reward": everything},
            after={"reward": statistics.fmean(answer.score for answer in kept)},
            rows=len(scored),
        ),
        dataset_digest=job.task.dataset_digest,
        evaluation_digest=job.task.evaluation_digest,
        libraries=report.libraries(),
    )
