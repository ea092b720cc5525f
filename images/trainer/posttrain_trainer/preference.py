"""preferenceAccuracy: whether a model takes the better answer for the better one."""

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import torch

from posttrain_trainer.batching import batches, max_tokens, ones, padded
from posttrain_trainer.examples import Labelled, Pair

Answered = tuple[Sequence[int], Sequence[int]]
"""A prompt and an answer, in token ids."""
Scores = Callable[[Sequence[Answered]], list[float]]
"""A score for each answer: the higher, the better."""


def accuracy(rows: Sequence[Pair] | Sequence[Labelled], scores: Scores) -> float:
    """Of pairs: the share whose chosen answer scores higher. Of labelled rows: the share of all pairs of a desirable
    and an undesirable one in which the desirable one does; equal scores count half."""
    pairs = [row for row in rows if isinstance(row, Pair)]
    if pairs:
        chosen = scores([(row.prompt, row.chosen) for row in pairs])
        rejected = scores([(row.prompt, row.rejected) for row in pairs])
        return statistics.fmean(_order(*both) for both in zip(chosen, rejected, strict=True))
    labelled = [row for row in rows if isinstance(row, Labelled)]
    scored = scores([(row.prompt, row.completion) for row in labelled])
    desirable = [score for row, score in zip(labelled, scored, strict=True) if row.is_desirable]
    undesirable = [score for row, score in zip(labelled, scored, strict=True) if not row.is_desirable]
    return statistics.fmean(_order(better, worse) for better in desirable for worse in undesirable)


def _order(better: float, worse: float) -> float:
    # What is not a number makes the whole metric one that is not.
    return better - worse if better != better or worse != worse else (better > worse) + (better == worse) / 2


def likelihoods(model: Any, rows: Sequence[Answered], pad: int, *, between: Callable[[], None]) -> list[float]:
    """The mean log probability of each answer's tokens under its prompt, in nats."""
    found: dict[int, float] = {}
    for batch in batches(list(enumerate(rows)), lambda item: _length(item[1]), max_tokens(model)):
        texts = [[*prompt, *answer] for _, (prompt, answer) in batch]
        labels = [[*[-100] * len(prompt), *answer] for _, (prompt, answer) in batch]
        ids, wanted = padded(texts, pad, model.device), padded(labels, -100, model.device)[:, 1:]
        attention = padded(ones(texts), 0, model.device)
        logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, :-1].float()
        losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), wanted, reduction="none")
        means = -losses.sum(1) / (wanted != -100).sum(1)
        found |= {place: mean for (place, _), mean in zip(batch, means.tolist(), strict=True)}
        between()
    return [found[place] for place in range(len(rows))]


def _length(row: Answered) -> int:
    prompt, answer = row
    return len(prompt) + len(answer)
