"""DAPO's soft punishment of answers that come near the longest that may be generated."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from posttrain_api.v1alpha1.methods import Grpo, Ppo, Rloo
from posttrain_trainer.rl.samples import Scored

NAME = "overlong"
"""What it is called among the rewards in metrics."""


def buffer_tokens(chosen: Grpo | Rloo | Ppo) -> int:
    """In so many tokens before the longest answer a score falls by up to 1; 0: it does not."""
    if not isinstance(chosen, Grpo):
        return 0
    if chosen.overlong_buffer_tokens is not None:
        return chosen.overlong_buffer_tokens
    return chosen.max_completion_tokens // 5 if chosen.loss == "dapo" else 0


def punishment(length: int, *, longest: int, buffer: int) -> float:
    """0 up to the buffer's beginning, then falling to -1 at the longest answer (equation 13 of the paper)."""
    return min((longest - buffer - length) / buffer, 0.0) if buffer else 0.0


def punished(chosen: Grpo | Rloo | Ppo, scored: Iterable[Scored]) -> Iterator[Scored]:
    """The answers with their punishment as a part of the score; where nothing else is said of one, nothing is."""
    buffer = buffer_tokens(chosen)
    for one in scored:
        found = punishment(len(one.sample.token_ids), longest=chosen.max_completion_tokens, buffer=buffer)
        yield _with(one, found) if buffer else one


def unpunished(one: Scored) -> float | None:
    """The score of an answer as the rewards have it."""
    return None if one.scores.total is None else one.scores.total - (one.scores.each.get(NAME) or 0.0)


def _with(one: Scored, found: float) -> Scored:
    total = None if one.scores.total is None else one.scores.total + found
    return replace(one, scores=replace(one.scores, each={**one.scores.each, NAME: found}, total=total))
