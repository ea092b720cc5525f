"""How far a model has moved from its start: on the same few texts each time, whatever the method compares with."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from posttrain_trainer.batching import ones, padded, padded_left
from posttrain_trainer.model import Precision
from posttrain_trainer.rl.samples import Sample

_MAX_ANSWERS = 8
_MAX_TOKENS = 64
"""Tokens of an answer that are looked at: a step's own tokens are many times more."""
_MAX_NUMBERS = 2**24
"""Log probabilities that are kept of the start: 64 MiB, which are a hundred tokens of a large vocabulary."""


class Probe:
    """The start's distributions over the next token, at fixed places of its own answers."""

    def __init__(self, start: Any, samples: Sequence[Sample], *, pad: int, precision: Precision) -> None:
        """`samples`: what the start has answered, one sample or more."""
        self._samples = _of_different_prompts(samples)
        self._pad = pad
        self._precision = precision
        self._places = self._spread_places(start.config.get_text_config().vocab_size)
        self._start = self._log_probabilities(start).cpu()

    @property
    def num_places(self) -> int:
        """Tokens that are looked at."""
        return len(self._places)

    def distance(self, model: Any) -> float:
        """Nats a token: KL(model || start), exact over the vocabulary and averaged over the places."""
        now = self._log_probabilities(model)
        return float((now.exp() * (now - self._start.to(now.device))).sum(-1).mean())

    def _spread_places(self, vocabulary: int) -> list[tuple[int, int]]:
        """Answer and place in it of each token that is looked at, evenly spread."""
        every = [
            (row, place)
            for row, sample in enumerate(self._samples)
            for place in range(len(sample.token_ids[:_MAX_TOKENS]))
        ]
        stride = -(-len(every) * vocabulary // _MAX_NUMBERS)
        return every[:: max(stride, 1)]

    def _log_probabilities(self, model: Any) -> torch.Tensor:
        """Of every next token at each place, shape [places, vocabulary]."""
        device = self._precision.device
        prompts = [list(sample.prompt.token_ids) for sample in self._samples]
        answers = [list(sample.token_ids[:_MAX_TOKENS]) for sample in self._samples]
        ids = torch.cat([padded_left(prompts, self._pad, device), padded(answers, self._pad, device)], 1)
        attention = torch.cat([padded_left(ones(prompts), 0, device), padded(ones(answers), 0, device)], 1)
        kept = max(len(answer) for answer in answers) + 1
        rows, places = (list(part) for part in zip(*self._places, strict=True))
        with _reading(model, self._precision):
            logits = model(input_ids=ids, attention_mask=attention, use_cache=False, logits_to_keep=kept).logits
        return logits[rows, places].float().log_softmax(-1)


@contextmanager
def _reading(model: Any, precision: Precision) -> Iterator[None]:
    """The model as it answers: without dropout, without gradients."""
    was_training = model.training
    model.eval()
    dtype = getattr(torch, precision.dtype)
    try:
        with torch.no_grad(), torch.autocast(precision.device, dtype=dtype, enabled=dtype != torch.float32):
            yield
    finally:
        model.train(was_training)


def _of_different_prompts(samples: Sequence[Sample]) -> list[Sample]:
    return list({sample.prompt.number: sample for sample in samples}.values())[:_MAX_ANSWERS]
