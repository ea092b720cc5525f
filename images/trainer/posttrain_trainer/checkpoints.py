"""Named results from the middle of a training: step-N every so many steps, and final where the best is the result.

Each is an artifact like the result. What a training that fails has published before stays.
"""

from collections.abc import Iterable
from typing import Any

import torch
from transformers import TrainerCallback

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.training_run_status import NamedCheckpoint
from posttrain_trainer import progress, steps, tuning
from posttrain_trainer.job import Job
from posttrain_trainer.publication import Publication
from posttrain_trainer.refusal import Refused


class Keeper(TrainerCallback):
    """Publishes the model while it is trained, and removes the steps that `keep` has no place for."""

    def __init__(self, job: Job, publication: Publication) -> None:
        assert job.config.checkpoints is not None
        self._chosen = job.config.checkpoints
        self._job = job
        self._publication = publication
        self._steps: list[NamedCheckpoint] = []
        self._last_step: str | None = None
        self._final: str | None = None
        self._own: set[str] = set()
        """Digests that were not there before this training: nothing else is ever removed."""

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Go on with the steps that an earlier start of this training has published."""
        self._steps = [found for found in self._job.progress.checkpoints if found.name.startswith("step-")]

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        is_last = state.global_step >= state.max_steps
        if not self._is_due(state.global_step, is_last=is_last):
            return
        name = f"step-{state.global_step}"
        if is_last:
            self._last_step = name  # it is the result, or final
            return
        digest = self._published(name)
        if digest is not None:
            self._steps = self._newest([*self._steps, NamedCheckpoint(name=name, digest=digest)])
            self.prune(self._steps)
            self._job.progress.published(self._steps)

    def _is_due(self, step: int, *, is_last: bool) -> bool:
        every = self._chosen.every_steps
        return step % every == 0 if is_last else steps.is_due(step, every, self._job.recipe)

    def on_train_end(self, *_: Any, **__: Any) -> None:
        """Publish the last weights, before the model gets its best ones back."""
        if self._job.gives_best and not self._job.stop.requested:
            self._final = self._published("final")
            self._job.progress.published(self._with_final(self._final))

    def keep_best(self) -> None:
        """Publish the best weights of a training that diverged, which early stopping has given back to the model."""
        digest = self._published("best")
        if digest is not None:
            self._job.progress.published([*self._steps, NamedCheckpoint(name="best", digest=digest)])

    def named(self, result: str) -> list[NamedCheckpoint]:
        """Every name, where the result has this digest: the steps, final, and best where early stopping keeps it."""
        if not self._job.gives_best:
            return self._with_final(result)
        return [*self._with_final(self._final), NamedCheckpoint(name="best", digest=result)]

    def prune(self, named: Iterable[NamedCheckpoint]) -> None:
        """Remove what this training has published and has no name any more."""
        used = {found.digest for found in named}
        for digest in self._own - used:
            self._publication.remove(digest)
        self._own &= used

    def _with_final(self, digest: str | None) -> list[NamedCheckpoint]:
        if digest is None:
            return self._steps
        steps = [*self._steps, *([NamedCheckpoint(name=self._last_step, digest=digest)] if self._last_step else [])]
        return [*self._newest(steps), NamedCheckpoint(name="final", digest=digest)]

    def _newest(self, steps: list[NamedCheckpoint]) -> list[NamedCheckpoint]:
        return steps[-self._chosen.keep :]

    def _published(self, name: str) -> str | None:
        """The digest of the model as it is, published; None where there is nothing in it to be used."""
        model = self._publication.tuned
        if not tuning.is_finite(model):
            return None
        was_training = model.training
        try:
            with torch.random.fork_rng():  # the training goes on as if nothing had been published
                found = self._publication.checkpoint()
        except Refused as error:
            if error.reason not in (Reason.NO_EFFECT, Reason.TRAINING_DIVERGED):
                raise
            progress.say(f"{name} is not published: {error}")
            return None
        finally:
            model.train(was_training)
        progress.say(f"{name} is published as {found.digest}")
        self._own |= {found.digest} if found.is_new else set()
        return found.digest
