"""Whether there is anything to learn: the start model's answers to a few prompts, before the optimizer is built."""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from posttrain_api.conditions import Reason
from posttrain_trainer import steps
from posttrain_trainer.job import Job
from posttrain_trainer.refusal import Refused
from posttrain_trainer.rl import generations, measures, rollouts
from posttrain_trainer.rl.samples import Scored
from posttrain_trainer.rl.solved import Judge

NUM_PROMPTS = 32
MAX_SECONDS = 60.0
_AT_ONCE = 4
"""Prompts after which the clock is looked at."""
_GROUP_SIZE = 8
"""Answers to each prompt, for a method that has no groups."""


@dataclass(frozen=True)
class Signal:
    """What the start model's answers show."""

    prompts: int
    answers: int
    pass_rate: float
    """Share of answers that are right."""
    no_spread_share: float
    """Share of prompts whose answers all score the same."""

    @property
    def findings(self) -> dict[str, float]:
        """For report.json and the model card."""
        return {
            "prompts": self.prompts,
            "answers": self.answers,
            "passRate": round(self.pass_rate, 4),
            "noSpreadShare": round(self.no_spread_share, 4),
        }


def check(model: Any, job: Job, *, clock: Callable[[], float] = time.monotonic) -> None:
    """Refused where the start model answers nothing rightly, or everything, unless the recipe allows it."""
    job.progress.enter("Sampling")
    answers = sampled(model, job, clock=clock)
    if job.monitor is not None:
        job.monitor.begin(model, [one.sample for one in answers])
    found = measured(answers, job)
    job.progress.findings["signal"] = found.findings
    why = problem(found, job)
    if why is not None and not job.recipe.environment.allow_no_signal:
        raise Refused(Reason.NO_SIGNAL, f"{why}; environment.allowNoSignal: true begins all the same")


def sampled(model: Any, job: Job, *, clock: Callable[[], float] = time.monotonic) -> list[Scored]:
    """A group of scored answers to each of some prompts, as many as there is time for."""
    prompts = job.task.prompts
    draw = random.Random(f"{job.recipe.hyperparameters.seed} signal")
    chosen = draw.sample(prompts, min(NUM_PROMPTS, len(prompts)))
    found: list[Scored] = []
    began = clock()
    for place in range(0, len(chosen), _AT_ONCE):
        asked = [prompt for prompt in chosen[place : place + _AT_ONCE] for _ in range(_group_size(job))]
        samples = rollouts.answered(model, job, asked, seed=draw.getrandbits(63))
        found += generations.scored(job, samples)
        job.stop.check("while it looked for a signal")
        if clock() - began > MAX_SECONDS:
            break
    return found


def measured(scored: Sequence[Scored], job: Job) -> Signal:
    """What these answers show."""
    judge = Judge(job.scorer)
    judge.see(scored)
    groups = list(measures.split(scored, _group_size(job)))
    return Signal(
        len(groups),
        len(scored),
        pass_rate=statistics.fmean(judge.is_right(one) for one in scored),
        no_spread_share=statistics.fmean(not measures.has_spread(group) for group in groups),
    )


def _group_size(job: Job) -> int:
    size = steps.group_size(job.recipe)
    return size if size > 1 else _GROUP_SIZE


def problem(found: Signal, job: Job) -> str | None:
    """Why nothing would be learned, and what to do; None where something would."""
    method, size = job.recipe.method, _group_size(job)
    more = f"raise {method}.groupSize above {size}" if steps.group_size(job.recipe) > 1 else "take more rows"
    asked = f"of {found.answers} answers of the start model to {found.prompts} prompts"
    if found.pass_rate == 0:
        return (
            f"0 % {asked} are right, so nothing right would be reinforced: train with method sft first and start from "
            f"that run by baseModel.fromRun, take easier rows, or {more}"
        )
    if found.pass_rate == 1:
        return f"100 % {asked} are right, so there is nothing left to learn: take harder rows"
    if found.no_spread_share == 1:
        return (
            f"{found.pass_rate:.0%} {asked} are right, but all answers to each prompt score the same, so none is "
            f"better than another: {more}, raise {method}.temperature, or take rows that are neither easy nor hopeless"
        )
    return None
