"""What a generation of scored answers shows, under the names that steps have everywhere."""

import math
import statistics
from collections.abc import Iterator, Sequence

from posttrain_api.v1alpha1.training_run_status import Metrics
from posttrain_trainer.rl import overlong
from posttrain_trainer.rl.samples import Scored

SPREAD = 1e-6
"""Scores that differ by less are the same."""


def of(scored: Sequence[Scored], group_size: int) -> Metrics:
    """reward, success, each reward, lengths and, where there are groups, the share of them without spread.

    Mean and deviation are over the answers of which something was said; what nothing was said of at all is left out.
    """
    found: Metrics = {**_of_scores("reward", "rewardStd", [one.scores.total for one in scored])}
    for name in {name: None for one in scored for name in one.scores.each}:
        values = [one.scores.each.get(name) for one in scored]
        found |= _of_scores(f"reward.{name}", f"rewardStd.{name}", values)
    successes = _known([one.scores.success for one in scored])
    if successes:
        found["success"] = statistics.fmean(successes)
    if group_size > 1:
        groups = list(split(scored, group_size))
        found["noSpreadShare"] = statistics.fmean(not has_spread(group) for group in groups)
    return found | _of_lengths(scored)


def split(scored: Sequence[Scored], group_size: int) -> Iterator[Sequence[Scored]]:
    """The answers to one prompt after the other."""
    for place in range(0, len(scored), group_size):
        yield scored[place : place + group_size]


def has_spread(group: Sequence[Scored]) -> bool:
    """Whether some of these answers score more than others, what is taken off for their length aside."""
    totals = _known([overlong.unpunished(one) for one in group])
    return bool(totals) and max(totals) - min(totals) > SPREAD


def _of_scores(mean: str, deviation: str, values: Sequence[float | None]) -> Metrics:
    known = _known(values)
    if not known:
        return {}
    return {mean: statistics.fmean(known), deviation: statistics.stdev(known) if len(known) > 1 else 0.0}


def _of_lengths(scored: Sequence[Scored]) -> Metrics:
    lengths = [len(one.sample.token_ids) if one.sample.own is None else sum(one.sample.own) for one in scored]
    return {
        "meanTokens": statistics.fmean(lengths),
        "maxTokens": float(max(lengths)),
        "truncatedShare": statistics.fmean(not one.sample.has_ended for one in scored),
    }


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]
