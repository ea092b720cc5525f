"""The models of proximal policy optimization, which share what they can.

In memory there is one base. With LoRA it is the policy with its adapter on, and the reference with its adapter off;
other tunings keep a copy of the start, where ppo.beta is not 0. The value model is a linear layer on what the policy's
output layer reads: its loss moves the policy's weights, too, by ppo.valueCoefficient.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from peft import LoraConfig, PeftModel

from posttrain_trainer import batching, micro_batches
from posttrain_trainer.job import Job
from posttrain_trainer.rl import rollouts
from posttrain_trainer.rl.samples import Sample


class _HasSample(Protocol):
    @property
    def sample(self) -> Sample:
        """An answer."""


T = TypeVar("T", bound=_HasSample)


@dataclass(frozen=True)
class Read:
    """What a model says of the tokens of some answers, one answer behind the other: shape [tokens] each."""

    log_probabilities: torch.Tensor
    entropies: torch.Tensor
    values: torch.Tensor
    """What is expected before each token."""


class ActorCritic:
    """The policy, its value model, and the start of both."""

    def __init__(self, model: Any, job: Job) -> None:
        self.policy = model
        self.value_head = _value_head(model)
        shares_base = isinstance(model, PeftModel) and isinstance(model.active_peft_config, LoraConfig)
        self.has_reference = shares_base or rollouts.settings(job).beta > 0
        """The start is known still."""
        needs_copy = self.has_reference and not shares_base
        self._start = copy.deepcopy(model).requires_grad_(False).eval() if needs_copy else None
        self.trained = [
            weight for weight in (*model.parameters(), *self.value_head.parameters()) if weight.requires_grad
        ]
        """The weights that move."""
        self._pad = job.task.chat.tokenizer.pad_token_id
        self._temperature = rollouts.settings(job).temperature
        self._is_bf16 = job.precision.dtype == "bfloat16"
        limits = micro_batches.limits(job)
        self._max_tokens, self._max_padding = min(limits.tokens, batching.max_tokens(model)), limits.padding
        job.progress.findings["memory"] = self._in_memory()

    def parts(self, answers: Sequence[T]) -> Iterator[list[T]]:
        """Answers of similar lengths that go through the models together, so that memory is bounded."""
        return batching.batches(answers, _length, self._max_tokens, max_padding=self._max_padding)

    def read(self, answers: Sequence[Sample]) -> Read:
        """What policy and value model say of answers that fit into memory together."""
        return self._read(self.policy, answers)

    def reference(self, answers: Sequence[Sample]) -> torch.Tensor:
        """Log probabilities of the tokens under the start, which must be known still, shape [tokens]."""
        if self._start is not None:
            return self._read(self._start, answers).log_probabilities
        with self.policy.disable_adapter():
            return self._read(self.policy, answers).log_probabilities

    def _read(self, model: Any, answers: Sequence[Sample]) -> Read:
        rows = [[*answer.prompt.token_ids, *answer.token_ids] for answer in answers]
        ids = batching.padded(rows, self._pad, model.device)
        row, place = _places(answers, model.device)
        first = int(place.min()) - 1
        with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=self._is_bf16):
            output = model(
                input_ids=ids,
                attention_mask=batching.padded(batching.ones(rows), 0, model.device),
                use_cache=False,
                output_hidden_states=True,
                logits_to_keep=ids.shape[1] - first,
            )
        # What stands before a token foretells it.
        scores = (output.logits[row, place - 1 - first].float() / self._temperature).log_softmax(-1)
        return Read(
            log_probabilities=scores.gather(1, ids[row, place, None])[:, 0],
            entropies=-(scores.exp() * scores).sum(-1).detach(),
            values=self.value_head(output.hidden_states[-1][row, place - 1].float())[:, 0],
        )

    def _in_memory(self) -> dict[str, str]:
        policy, head = (sum(weight.numel() for weight in m.parameters()) for m in (self.policy, self.value_head))
        shared = "the policy without its adapter" if self.has_reference else "none, as ppo.beta is 0"
        return {
            "policy": f"{policy} weights",
            "reference": shared if self._start is None else f"a copy of {policy} weights",
            "valueModel": f"a layer of {head} weights on the policy, which is no part of the artifact",
        }


def _value_head(model: Any) -> torch.nn.Linear:
    """Expects 0 at first."""
    head = torch.nn.Linear(model.config.get_text_config().hidden_size, 1, device=model.device)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    return head


def _places(answers: Sequence[Sample], device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Row and place of each token of the answers where a row is a prompt with its answer, shape [tokens] each."""
    begins = [(len(answer.prompt.token_ids), len(answer.token_ids)) for answer in answers]
    rows = [row for row, (_, length) in enumerate(begins) for _ in range(length)]
    places = [place for begin, length in begins for place in range(begin, begin + length)]
    return torch.tensor(rows, device=device), torch.tensor(places, device=device)


def _length(answer: _HasSample) -> int:
    return len(answer.sample.prompt.token_ids) + len(answer.sample.token_ids)
