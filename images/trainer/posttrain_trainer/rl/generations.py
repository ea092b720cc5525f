"""One generation of answers after the other: asked, answered, scored and, where groups teach nothing, asked again."""

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from posttrain_api.v1alpha1.methods import Grpo
from posttrain_api.v1alpha1.training_run_status import Metrics
from posttrain_trainer import steps
from posttrain_trainer.job import Job
from posttrain_trainer.rl import measures, overlong, rollouts
from posttrain_trainer.rl.curriculum import Lessons
from posttrain_trainer.rl.samples import Sample, Scored
from posttrain_trainer.rl.solved import Judge
from posttrain_trainer.scoring import Scores

Group = Sequence[Scored]
"""The answers to one prompt."""
Answer = Callable[..., list[Sample]]


@dataclass(frozen=True)
class Generation:
    """The answers that the next steps learn from."""

    scored: Sequence[Scored]
    """A group of answers to each prompt, one group behind the other."""
    metrics: Metrics
    """What they show, under our names."""


class Generations:
    """Makes a training's generations; the same seed and weights make the same ones."""

    def __init__(self, job: Job, answered: Answer = rollouts.answered) -> None:
        """`answered`: what gives the answers, with the same arguments as rollouts.answered."""
        self._job = job
        self._answered = answered
        self._chosen = rollouts.settings(job)
        self._group_size = steps.group_size(job.recipe)
        self._seed = job.recipe.hyperparameters.seed
        self._judge = Judge(job.scorer)
        self._number = 0
        self._draws = 0
        self.lessons = Lessons(job.task.prompts, seed=self._seed, chosen=self._chosen.curriculum)

    def next(self, model: Any, *, num_prompts: int, version: int) -> Generation:
        """Ask so many prompts and score the answers; `version`: optimizer steps that the model has done."""
        began = time.perf_counter()
        self._number, self._draws = self._number + 1, 0
        first = self._asked(model, num_prompts, version)
        groups = self._resampled(first, model, version)
        scored = _together(groups)
        found = measures.of(_together(first), self._group_size) | {"rolloutSeconds": time.perf_counter() - began}
        if self._rounds:
            # What the answers to the first prompts show of the model stays; what is learned from is another matter.
            found["noSpreadShare"] = measures.of(scored, self._group_size)["noSpreadShare"]
            replaced = [new is not old for new, old in zip(groups, first, strict=True)]
            found["resampledShare"] = statistics.fmean(replaced)
        return Generation(scored, found | self._left_out())

    def state(self) -> dict[str, Any]:
        """What `restore` needs, as JSON."""
        return {"number": self._number, "lessons": self.lessons.state(), "judge": self._judge.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where another was."""
        self._number = state["number"]
        self.lessons.restore(state["lessons"])
        self._judge.restore(state["judge"])

    @property
    def _rounds(self) -> int:
        return self._chosen.dynamic_sampling_rounds if isinstance(self._chosen, Grpo) else 0

    def _asked(self, model: Any, num_prompts: int, version: int) -> list[Group]:
        """A scored group of answers to each of the next prompts."""
        asked = [prompt for prompt in self.lessons.take(num_prompts) for _ in range(self._group_size)]
        self._draws += 1
        seed = random.Random(f"{self._seed} {self._number} {self._draws}").getrandbits(63)
        samples = self._answered(model, self._job, asked, seed=seed, version=version)
        groups = list(measures.split(scored(self._job, samples), self._group_size))
        self._remember(groups)
        return groups

    def _resampled(self, groups: Sequence[Group], model: Any, version: int) -> list[Group]:
        """The groups, in which those without spread have made room for others that have some."""
        found = list(groups)
        for _ in range(self._rounds):
            flat = [place for place, group in enumerate(found) if not measures.has_spread(group)]
            fresh = self._asked(model, len(flat), version) if flat else []
            for place, group in zip(flat, fresh, strict=True):
                found[place] = group if measures.has_spread(group) else found[place]
        return found

    def _left_out(self) -> Metrics:
        if self._chosen.curriculum is None:
            return {}
        self._job.progress.findings["curriculum"] = self.lessons.findings
        return {"droppedPrompts": float(self.lessons.num_left_out)}

    def _remember(self, groups: Sequence[Group]) -> None:
        if self._chosen.curriculum is None:
            return
        for group in groups:
            self._judge.see(group)
        for group in groups:
            self.lessons.judged(group[0].sample.prompt, self._judge.outcome(group))


def scored(job: Job, samples: Sequence[Sample]) -> list[Scored]:
    """Answers with what the rewards say of them, asked once for all, and what is taken off for their length."""
    return list(overlong.punished(rollouts.settings(job), map(Scored, samples, _scores(job, samples))))


def _scores(job: Job, samples: Sequence[Sample]) -> list[Scores]:
    if job.recipe.environment.tools is None:
        return job.scorer.score([(sample.prompt, sample.text) for sample in samples])
    # Tools that go away take all answers with them.
    is_lost = any(sample.lost for sample in samples)
    nothing = [Scores({}, None, None)] * len(samples)
    found = nothing if is_lost else job.scorer.score([(sample.prompt, sample.text) for sample in samples])
    return job.scorer.with_tools(found, [sample.lost or sample.earned for sample in samples])


def _together(groups: Sequence[Group]) -> list[Scored]:
    return [one for group in groups for one in group]
