"""Proximal policy optimization: our own loop, TRL has none any more.

A generation is one answer to each of effectiveBatchSize * miniBatches prompts. Each of numIterations divides it anew
into miniBatches optimizer steps. Dropout is off: the probability of a token changes by learning only.
"""

import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments, get_scheduler
from trl.trainer.utils import disable_dropout_in_model

from posttrain_api.v1alpha1.methods import Ppo
from posttrain_api.v1alpha1.training_run_status import Metrics
from posttrain_trainer import evaluate, fit, steps
from posttrain_trainer.job import Job
from posttrain_trainer.rl import measures, ppo_math
from posttrain_trainer.rl.actor_critic import ActorCritic, Read
from posttrain_trainer.rl.generations import Generations
from posttrain_trainer.rl.samples import Sample, Scored

_SECONDS = ("rolloutSeconds", "trainingSeconds")
"""What a generation takes; each of its steps has its share."""


def train(model: Any, job: Job) -> Any:
    """Train a tuned model on the scores of its own answers; returns it in evaluation mode."""
    disable_dropout_in_model(model)
    if job.recipe.hyperparameters.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    with tempfile.TemporaryDirectory(prefix="posttrain-") as folder:
        arguments = TrainingArguments(**fit.arguments(job, folder))
        _Loop(ActorCritic(model, job), job, arguments).run()
    return fit.ended(model, job)


@dataclass(frozen=True)
class Seen:
    """An answer when it was given: tensors of shape [length]."""

    sample: Sample
    score: float
    old: torch.Tensor
    """Log probabilities under the policy."""
    reference: torch.Tensor
    """Log probabilities under the start; those of the policy where it is not known."""
    values: torch.Tensor
    """What was expected before each token."""
    entropies: torch.Tensor

    @property
    def log_ratio(self) -> torch.Tensor:
        """How far the policy is from the start."""
        return self.old - self.reference


@dataclass(frozen=True)
class Experience:
    """An answer and what is to be learned from it: tensors of shape [length]."""

    sample: Sample
    old: torch.Tensor
    values: torch.Tensor
    returns: torch.Tensor
    """What came from each token on."""
    advantages: torch.Tensor
    """By how much that was more than expected, whitened over all answers of the generation."""


def judged(scored: Sequence[Scored], networks: ActorCritic) -> list[Seen]:
    """Answers as the models see them now; without those of which the rewards say nothing."""
    usable = [one for one in scored if one.scores.total is not None]
    return [one for part in networks.parts(usable) for one in _judged(part, networks)]


def _judged(scored: Sequence[Scored], networks: ActorCritic) -> Iterator[Seen]:
    samples = [one.sample for one in scored]
    with torch.no_grad():
        read = networks.read(samples)
        reference = networks.reference(samples) if networks.has_reference else read.log_probabilities
    lengths = [len(sample.token_ids) for sample in samples]
    parts = (read.log_probabilities, reference, read.values, read.entropies)
    for one, *tensors in zip(scored, *(part.split(lengths) for part in parts), strict=True):
        yield Seen(one.sample, one.scores.total or 0.0, *tensors)


def experiences(seen: Sequence[Seen], chosen: Ppo, beta: float) -> list[Experience]:
    """What is to be learned from the answers of a generation."""
    if not seen:
        return []
    rewards = [ppo_math.token_rewards(one.score, one.log_ratio, beta) for one in seen]
    raw = [
        ppo_math.advantages(reward, one.values, gamma=chosen.gamma, gae_lambda=chosen.gae_lambda)
        for reward, one in zip(rewards, seen, strict=True)
    ]
    whitened = ppo_math.whitened(torch.cat(raw)).split([len(part) for part in raw])
    return [
        Experience(one.sample, one.old, one.values, returns=one.values + gained, advantages=advantages)
        for one, gained, advantages in zip(seen, raw, whitened, strict=True)
    ]


def losses(read: Read, given: Sequence[Experience], chosen: Ppo) -> dict[str, torch.Tensor]:
    """Sums over the tokens of some answers; `loss` is what is to fall."""
    old, values, returns, advantages = (
        torch.cat([getattr(one, name) for one in given]) for name in ("old", "values", "returns", "advantages")
    )
    new = read.log_probabilities
    policy = ppo_math.policy_loss(new, old, advantages, chosen.epsilon).sum()
    value = ppo_math.value_loss(read.values, values, returns, chosen.value_epsilon).sum()
    return {
        "loss": policy + chosen.value_coefficient * value,
        "policyLoss": policy,
        "valueLoss": value,
        "clippedShare": ppo_math.is_clipped(new, old, advantages, chosen.epsilon).sum(),
    }


def shown(seen: Sequence[Seen], given: Sequence[Experience]) -> Metrics:
    """What the probabilities and values of a generation show, as means over its tokens."""
    if not seen:
        return {}
    drawn = torch.tensor([score for one in seen for score in one.sample.log_probabilities])
    old = torch.cat([one.old for one in seen])
    values, returns = (torch.cat([getattr(one, name) for one in given]) for name in ("values", "returns"))
    return {
        "entropy": _mean([one.entropies for one in seen]),
        "samplingMismatch": evaluate.finite(float((old.cpu() - drawn).abs().mean())),
        "explainedVariance": evaluate.finite(ppo_math.explained_variance(values, returns)),
    }


class _Loop:
    """Answers are drawn and learned from, until all steps are done or something ends it."""

    def __init__(self, networks: ActorCritic, job: Job, arguments: TrainingArguments) -> None:
        assert job.recipe.ppo is not None
        self._networks = networks
        self._job = job
        self._arguments = arguments
        self._chosen: Ppo = job.recipe.ppo
        self._beta = self._chosen.beta
        self._generations = Generations(job)
        self._num_prompts = steps.prompts_of_generation(job.recipe)
        self._num_steps = self._chosen.mini_batches * self._chosen.num_iterations
        num_rows = len(job.task.training)
        self._steps_per_epoch = self._num_steps * steps.per_epoch(num_rows, self._num_prompts)
        self._state = TrainerState(max_steps=steps.planned(num_rows, job.recipe), epoch=0.0)
        self._control = TrainerControl()
        self._watchers = fit.watchers(job)
        self._optimizer = _optimizer(networks.trained, arguments)
        self._scheduler = get_scheduler(
            arguments.lr_scheduler_type,
            self._optimizer,
            num_warmup_steps=arguments.get_warmup_steps(self._state.max_steps),
            num_training_steps=self._state.max_steps,
        )
        self._num_tokens = 0

    def run(self) -> None:
        """Every step, with all who watch."""
        self._tell("on_train_begin")
        while not self._has_ended:
            given, metrics = self._generation()
            for batch in self._batches(given):
                if not self._has_ended:
                    self._step(batch, metrics)
        self._tell("on_train_end")

    @property
    def _has_ended(self) -> bool:
        return self._control.should_training_stop or self._state.global_step >= self._state.max_steps

    def _tell(self, event: str, **given: Any) -> None:
        """As transformers tells its callbacks."""
        for watcher in self._watchers:
            getattr(watcher, event)(self._arguments, self._state, self._control, model=self._networks.policy, **given)

    def _generation(self) -> tuple[list[Experience], Metrics]:
        """Answers to the next prompts: what is to be learned from them, and what they show."""
        policy = self._networks.policy
        found = self._generations.next(policy, num_prompts=self._num_prompts, version=self._state.global_step)
        if self._job.monitor is not None:
            self._job.monitor.generated(policy, found.scored, found.metrics)
        began = time.perf_counter()
        seen = judged(found.scored, self._networks)
        given = experiences(seen, self._chosen, self._beta)
        metrics = {
            **found.metrics,
            **shown(seen, given),
            **self._divergence(seen),
            "noSpreadShare": float(not measures.has_spread(found.scored)),
            "trainingSeconds": time.perf_counter() - began,
        }
        return given, metrics | {name: (metrics[name] or 0.0) / self._num_steps for name in _SECONDS}

    def _divergence(self, seen: Sequence[Seen]) -> Metrics:
        """How far the answers are from the start, where it is known; sets beta for the next ones where there is a
        target."""
        target, used = self._chosen.kl_target, self._beta
        if not seen or not self._networks.has_reference:
            return {}
        found: Metrics = {"kl": _mean([ppo_math.divergence(one.log_ratio) for one in seen])}
        if target is None:
            return found
        of_answers = statistics.fmean(one.log_ratio.sum().item() for one in seen)
        self._beta = ppo_math.adapted(used, divergence=of_answers, target=target)
        return {**found, "beta": used, "klOfAnswers": of_answers}

    def _batches(self, given: Sequence[Experience]) -> Iterator[Sequence[Experience]]:
        """What each step of a generation learns from: in each iteration each answer once."""
        for iteration in range(self._chosen.num_iterations):
            order = random.Random(f"{self._arguments.seed} {self._state.global_step} {iteration}")
            shuffled = order.sample(given, len(given))
            for place in range(self._chosen.mini_batches):
                yield shuffled[place :: self._chosen.mini_batches]

    def _step(self, batch: Sequence[Experience], shown: Metrics) -> None:
        began = time.perf_counter()
        metrics = shown | self._learn(batch)
        metrics["trainingSeconds"] = (metrics["trainingSeconds"] or 0.0) + time.perf_counter() - began
        self._state.global_step += 1
        self._state.epoch = self._state.global_step / self._steps_per_epoch
        self._num_tokens += sum(len(one.sample.prompt.token_ids) + len(one.sample.token_ids) for one in batch)
        self._tell("on_step_end")
        named = {fit.OWN + name: value for name, value in metrics.items()}
        self._tell("on_log", logs={**named, "loss": metrics["loss"], "num_tokens": self._num_tokens})

    def _learn(self, batch: Sequence[Experience]) -> Metrics:
        """One optimizer step, by means over the tokens of all these answers."""
        count = max(sum(len(one.old) for one in batch), 1)
        means = dict.fromkeys(("loss", "policyLoss", "valueLoss", "clippedShare"), 0.0)
        self._networks.policy.train()
        for part in self._networks.parts(batch):
            found = losses(self._networks.read([one.sample for one in part]), part, self._chosen)
            (found["loss"] / count).backward()
            means = {name: mean + found[name].item() / count for name, mean in means.items()}
        return {**means, **self._move()}

    def _move(self) -> Metrics:
        rate = self._scheduler.get_last_lr()[0]
        norm = torch.nn.utils.clip_grad_norm_(self._networks.trained, self._arguments.max_grad_norm)
        self._optimizer.step()
        self._scheduler.step()
        self._optimizer.zero_grad()
        return {"learningRate": rate, "gradNorm": norm.item()}


def _mean(parts: Sequence[torch.Tensor]) -> float | None:
    return evaluate.finite(float(torch.cat(list(parts)).mean()))


def _optimizer(weights: Sequence[torch.nn.Parameter], arguments: TrainingArguments) -> torch.optim.Optimizer:
    """The one that transformers would take; weight decay is for matrices."""
    kind, settings = Trainer.get_optimizer_cls_and_kwargs(arguments)
    matrices = [weight for weight in weights if weight.ndim > 1]
    vectors = [weight for weight in weights if weight.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": arguments.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    made: torch.optim.Optimizer = kind(groups, **settings)
    return made
