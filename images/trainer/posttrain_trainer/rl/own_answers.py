"""Puts our prompts, answers and scores into TRL's trainers of groups, which make the advantages and the loss.

The two trainers have no common seam for it, but the same steps: prompts become tokens, tokens are answered, answers are
scored. All three give here what a generation of ours has found already.
"""

import time
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import Trainer, TrainerCallback
from trl.trainer import utils

from posttrain_trainer import fit, reference, steps
from posttrain_trainer.examples import Prompt
from posttrain_trainer.job import Job
from posttrain_trainer.rl import colocation, rollouts
from posttrain_trainer.rl.generations import Generation, Generations
from posttrain_trainer.rl.resumption import Resumption
from posttrain_trainer.rl.samples import Sample

SAMPLING = "sampling_per_token_logps"
"""TRL's name of the log probabilities under the distribution that an answer was drawn from."""


def arguments(job: Job, folder: str) -> dict[str, Any]:
    """What the configurations of both trainers have in common."""
    chosen = rollouts.settings(job)
    given = fit.arguments(job, folder)
    return given | {
        "num_generations": steps.group_size(job.recipe),
        "steps_per_generation": given["gradient_accumulation_steps"] * steps.per_generation(job.recipe),
        "num_iterations": chosen.num_iterations,
        "max_completion_length": chosen.max_completion_tokens,
        "temperature": chosen.temperature,
        "epsilon": chosen.epsilon,
        "beta": chosen.beta,
        "disable_dropout": True,
        "shuffle_dataset": False,
        **colocation.arguments(job),
    }


def train(training: Any) -> None:
    """Let such a trainer train, from where an earlier start was."""
    training.add_callback(training.resumption)
    training.resumption.train(training)


def total_score(**_: Any) -> Sequence[float]:
    """Stands for all rewards: TRL asks to be given one."""
    raise AssertionError("answers are scored before TRL sees them")


class OwnAnswers(Trainer):
    """For a base class before one of TRL's trainers of groups."""

    def __init__(self, *, job: Job, model: Any, **arguments: Any) -> None:
        self._monitor = job.monitor
        self._generations = Generations(job, self._answered)
        self._generation: Generation | None = None
        self._answered_at = 0
        """Optimizer steps that the weights had done which answered last."""
        self._log_probabilities: torch.Tensor
        """Of the latest forward pass, shape [answers, length]."""
        # What ends an answer, in TRL's eyes: read when it is made.
        model.generation_config.eos_token_id = list(job.task.chat.end_of_turn)
        super().__init__(
            model=model,
            reward_funcs=[total_score],
            train_dataset=_places(job),
            processing_class=job.task.chat.tokenizer,
            **arguments,
        )
        reference.without_copy(self.model)
        # Whatever engine answered, TRL then corrects for what it makes of the same weights.
        self.use_vllm = self.use_vllm or rollouts.settings(job).rollout.mode == "server"
        self.add_callback(_Clock(self))
        self.resumption = Resumption(job, self._generations)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """A new generation as TRL's tensors; of the inputs only their number counts."""
        self._answered_at = self.state.global_step
        num_prompts = len(inputs) // self.num_generations
        found = self._generations.next(self.model, num_prompts=num_prompts, version=self._answered_at)
        if self._monitor is not None:
            self._monitor.generated(self.model, found.scored, found.metrics)
        for name, value in found.metrics.items():
            self.note(name, value)
        return self.tensors(found)

    def _answered(self, model: Any, job: Job, prompts: Sequence[Prompt], *, seed: int, version: int) -> list[Sample]:
        """The model's answers; by vLLM on the same GPU where TRL has one, which then gets the weights first."""
        if not self.args.use_vllm:
            return rollouts.answered(model, job, prompts, seed=seed, version=version)
        self.vllm_generation.sync_weights()
        asked = [list(prompt.token_ids) for prompt in prompts]
        _, tokens, scores, _ = self.vllm_generation.generate(asked, None, self.num_generations)
        return [
            rollouts.sample(job.task.chat, prompt, ids, [_number(one[0]) for one in likely], version)
            for prompt, ids, likely in zip(prompts, tokens, scores, strict=True)
        ]

    def tensors(self, generation: Generation) -> dict[str, Any]:
        """A generation as TRL's tensors, with its advantages."""
        self._generation = generation
        output = super()._generate_and_score_completions([{"prompt": place} for place in range(len(self._scored))])
        output[SAMPLING] = self._sampled(output["completion_ids"].shape[1])
        return dict(output)

    def note(self, name: str, value: float | None) -> None:
        """A number of this step, under our name."""
        self._metrics["train"][fit.OWN + name].append(float("nan") if value is None else value)

    def noted(self, name: str) -> float:
        """The sum of this step's numbers of a name."""
        return float(sum(self._metrics["train"].get(fit.OWN + name, [])))

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        inputs = trimmed(inputs)
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        if self.state.global_step == self._answered_at:
            self.note("samplingMismatch", _mean_distance(self._log_probabilities, inputs))
        return loss

    def _get_per_token_logps_and_entropies(self, *given: Any, **named: Any) -> Any:
        found = super()._get_per_token_logps_and_entropies(*given, **named)
        self._log_probabilities = found[0].detach()
        return found

    def _tokenize_prompts(self, _prompts: list[Any]) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [list(one.sample.prompt.token_ids) for one in self._scored], None, {}

    def _calculate_rewards(self, *_: Any) -> torch.Tensor:
        """The score of each answer, shape [answers, 1]; NaN where nothing is said of it, which TRL leaves out."""
        totals = [float("nan") if (total := one.scores.total) is None else total for one in self._scored]
        return torch.tensor(totals, device=self.accelerator.device)[:, None]

    @property
    def _scored(self) -> Any:
        assert self._generation is not None
        return self._generation.scored

    @property
    def _completions(self) -> list[list[int]]:
        return [list(one.sample.token_ids) for one in self._scored]

    def _sampled(self, length: int) -> torch.Tensor:
        """Each token's log probability under the distribution that it was drawn from, shape [answers, length]."""
        found = utils.pad([torch.tensor(one.sample.log_probabilities) for one in self._scored], padding_value=0.0)
        assert found.shape[1] == length
        return found.to(self.accelerator.device)


class _Clock(TrainerCallback):
    """Measures what a step takes beside its answers."""

    def __init__(self, trainer: OwnAnswers) -> None:
        self._trainer = trainer
        self._began = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._began = time.perf_counter()

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        seconds = time.perf_counter() - self._began - self._trainer.noted("rolloutSeconds")
        self._trainer.note("trainingSeconds", seconds)


def trimmed(inputs: dict[str, Any]) -> dict[str, Any]:
    """A part of a generation without the padding that the generation's longest prompt and answer need."""
    before = int((inputs["prompt_mask"].sum(0) == 0).sum())
    width = inputs["completion_mask"].shape[1]
    length = max(int((inputs["completion_mask"].sum(0) > 0).sum()), 1)

    def cut(name: str, value: Any) -> Any:
        if name.startswith("prompt_"):
            return value[:, before:]
        is_by_token = isinstance(value, torch.Tensor) and value.ndim == 2 and value.shape[1] == width
        return value[:, :length] if is_by_token else value

    return {name: cut(name, value) for name, value in inputs.items()}


def _number(value: float | None) -> float:
    """A log probability of vLLM, which has none where it is not a number."""
    return float("nan") if value is None else value


def _mean_distance(trained: torch.Tensor, inputs: dict[str, Any]) -> float | None:
    """Mean of |log probability in training - log probability in sampling| over the tokens that the model wrote; None
    where no number is known."""
    mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)
    distances = (trained - inputs[SAMPLING]).abs()[mask.bool()]
    found = distances[~distances.isnan()]
    return float(found.mean()) if len(found) else None


def _places(job: Job) -> Dataset:
    """As many rows as make our number of steps: what is asked is decided when it is asked."""
    num_prompts = len(job.task.training)
    missing = -num_prompts % steps.prompts_of_generation(job.recipe)
    return Dataset.from_dict({"prompt": list(range(num_prompts + missing))})
