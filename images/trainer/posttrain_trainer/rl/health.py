"""The rules of health: what the numbers of the steps say where learning from rewards goes wrong. Pure.

A rule looks at all steps so far and says what is wrong now, since which step and what to do, or nothing. Numbers that
a step does not have are passed over.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Step = Mapping[str, Any]
"""The metrics of a step under our names, with its number as `step`; None where one is not a number."""
History = Sequence[Step]
"""Every step so far, in order."""

WINDOW = 10
"""Steps that are judged together. A step has few prompts, each as hard as it is: the mean of fewer steps is noise."""
START = 3
"""Steps that say how it was before it learned: a model may change much in ten."""
NOISE, RISEN, HOPE = 5.0, 3.0, 2.0
"""Standard errors that a mean must move by: to have fallen from its best, to have risen, and to be perhaps rising. The
best of all windows is lucky: with 3 for 5, three of four trainings of 300 steps looked wrong in which success stayed as
it was."""
SOLVED = 0.95
"""Success from which on a task is solved: to be sure of every token is right then."""

COLLAPSED_SHARE, COLLAPSED_NATS = 0.1, 0.05
"""Entropy below both, of its start and in nats a token: a model that learns well loses much of it, too, but one that
writes one answer in ten differently still has more than this."""
NO_SPREAD_SHARE, NO_SPREAD_WINDOW = 0.9, 20
"""Share of groups without spread, over more steps than elsewhere: a step may have two groups only."""
DRIFTED_NATS = 2.0
"""Nats a token: the start would write each token of the model with a seventh of its probability. Half of it is what an
answer of a few tokens needs to become right."""
LEAST_FALL = 0.1
"""Share of its best that success must have lost: less is not worth a warning, however sure it is."""
CHEAP_SUCCESS, CHEAP_STEPS = 0.1, 30
"""Success below which a score that rises is made of something else, when so many steps were enough to raise it."""
GROWTH, CUT_SHARE, ALL_CUT_SHARE = 1.5, 0.3, 0.95
"""Answers this much longer than at the start and this often cut off; or nearly all cut off, however they began."""
MISMATCHED_NATS, MISMATCH_WINDOW = 0.1, 5
"""Mean distance of a token's two log probabilities. Rounding to bfloat16 in two engines makes a third of it."""
DIVERGED_NORM, DIVERGED_TIMES, DIVERGED_STEPS = 100.0, 100.0, 3
"""Length of a gradient: more than this, and than so many times the median of those that are not, so many steps in
succession. One such step is clipped and does no harm."""


def entropy_collapse(history: History) -> str | None:
    """The model is sure of every token, though the task is not solved."""
    start = _mean(history[:START], "entropy")
    if start is None or _is_solved(history):
        return None
    bound = min(COLLAPSED_SHARE * start, COLLAPSED_NATS)
    low = _streak(history, "entropy", lambda value: value < bound)
    if len(low) < WINDOW:
        return None
    return (
        f"entropy is {low[-1]['entropy']:.3g} nats a token, below {bound:.3g} since step {low[0]['step']}, and was "
        f"{start:.3g} in the first steps: the model tries nothing new: lower hyperparameters.learningRate, or raise "
        "the method's temperature, epsilonHigh or beta"
    )


def no_signal(history: History) -> str | None:
    """Nearly all groups score without spread."""
    last = history[-NO_SPREAD_WINDOW:]
    share = _mean(last, "noSpreadShare")
    if len(last) < NO_SPREAD_WINDOW or share is None or share <= NO_SPREAD_SHARE:
        return None
    return (
        f"{share:.0%} of the groups scored without spread since step {last[0]['step']}, so hardly anything is "
        f"learned: {_way_to_signal(_mean(last, 'success'))}"
    )


def kl_drift(history: History) -> str | None:
    """The model has left its start far behind, and not for one step only."""
    far = _streak(history, "kl", lambda value: value > DRIFTED_NATS)
    if len(far) < WINDOW:
        return None
    return (
        f"the model is {far[-1]['kl']:.3g} nats a token from its start, and further than {DRIFTED_NATS:g} since step "
        f"{far[0]['step']}: what the start knew may be lost: raise the method's beta or lower "
        "hyperparameters.learningRate"
    )


def reward_hacking(history: History) -> str | None:
    """The score rises, while success falls from its best or stays next to nothing."""
    windows = [found for found in _windows(history) if found.reward and found.success]
    if len(windows) < 2:
        return None
    last = windows[-1]
    best = max(windows[:-1], key=lambda found: statistics.fmean(found.success))
    return _falling(best, last) or _cheap(windows[0], last, len(history))


def length_explosion(history: History) -> str | None:
    """Answers have grown until many are cut off, or nearly all are."""
    if len(history) < 2 * WINDOW:
        return None
    first, last = history[:START], history[-WINDOW:]
    before, now, cut = _mean(first, "meanTokens"), _mean(last, "meanTokens"), _mean(last, "truncatedShare")
    if before is None or now is None or cut is None:
        return None
    if cut <= ALL_CUT_SHARE and (now < GROWTH * before or cut <= CUT_SHARE):
        return None
    return (
        f"{cut:.0%} of the answers were cut off since step {last[0]['step']}, and their mean length is {now:.4g} "
        f"tokens, {before:.4g} in the first steps: raise the method's maxCompletionTokens where right answers are so "
        "long, else add the reward length or repetition"
    )


def policy_mismatch(history: History) -> str | None:
    """Tokens were drawn with other probabilities than the training computes for them."""
    far = _streak(history, "samplingMismatch", lambda value: value > MISMATCHED_NATS)
    if len(far) < MISMATCH_WINDOW:
        return None
    return (
        f"log probabilities of the same tokens differ by {far[-1]['samplingMismatch']:.3g} nats between answering and "
        f"training, and by more than {MISMATCHED_NATS:g} since step {far[0]['step']}: it learns from answers that are "
        "not its own: write precision: fp32 or rollout.mode: transformers, and in the base's config.json no dropout"
    )


def training_diverged(history: History) -> str | None:
    """The loss or the gradient is no number, or the gradient out of all bounds for several steps."""
    last = history[-1]
    for name in ("loss", "gradNorm"):
        if name in last and last[name] is None:
            return f"{name} is not a number at step {last['step']}: lower hyperparameters.learningRate"
    norms = _values(history, "gradNorm") or [0.0]
    usual = statistics.median([norm for norm in norms if norm <= DIVERGED_NORM] or norms)
    bound = max(DIVERGED_NORM, DIVERGED_TIMES * usual)
    long = _streak(history, "gradNorm", lambda value: value > bound)
    if len(long) < DIVERGED_STEPS:
        return None
    return (
        f"gradNorm is {last['gradNorm']:.3g}, above {bound:.3g} since step {long[0]['step']}: lower "
        "hyperparameters.learningRate or maxGradNorm, or a weight of environment.rewards that is far above the others"
    )


RULES: Mapping[str, Callable[[History], str | None]] = {
    "entropy_collapse": entropy_collapse,
    "no_signal": no_signal,
    "kl_drift": kl_drift,
    "reward_hacking": reward_hacking,
    "length_explosion": length_explosion,
    "policy_mismatch": policy_mismatch,
    "training_diverged": training_diverged,
}
"""Attribute of spec.health -> its rule."""


def broken(history: History) -> dict[str, str]:
    """Attribute of spec.health -> what is wrong now, of every rule that is broken."""
    found = {name: rule(history) for name, rule in RULES.items()} if history else {}
    return {name: message for name, message in found.items() if message is not None}


@dataclass(frozen=True)
class _Window:
    """Some steps that follow each other."""

    first_step: int
    reward: list[float]
    success: list[float]


def _windows(history: History) -> list[_Window]:
    """Whole windows that overlap the last one nowhere: the first of all, and those side by side up to the last."""
    ends = range(len(history), WINDOW - 1, -WINDOW)
    parts = [history[end - WINDOW : end] for end in ends][::-1]
    if len(parts) > 1:
        parts.insert(0, history[:WINDOW])
    return [_Window(part[0]["step"], _values(part, "reward"), _values(part, "success")) for part in parts]


def _falling(best: _Window, last: _Window) -> str | None:
    before, now = statistics.fmean(best.success), statistics.fmean(last.success)
    if before - now < LEAST_FALL * abs(before) or _moved(best.success, last.success) > -NOISE:
        return None
    if _moved(best.reward, last.reward) < RISEN:
        return None
    return (
        f"since step {best.first_step} reward rose from {_means(best.reward, last.reward)}, and success fell from "
        f"{before:.3g} to {now:.3g}: the model has found a way to score without being right: read its answers, and "
        "correct the reward that pays for them"
    )


def _cheap(first: _Window, last: _Window, num_steps: int) -> str | None:
    is_low = statistics.fmean(last.success) < CHEAP_SUCCESS and _moved(first.success, last.success) < HOPE
    if num_steps < CHEAP_STEPS or not is_low or _moved(first.reward, last.reward) < RISEN:
        return None
    return (
        f"since step {first.first_step} reward rose from {_means(first.reward, last.reward)}, and success stays low: "
        f"{_means(first.success, last.success)}: the model learns what is cheap, such as the form of an answer: train "
        "with sft first, write groupSize: 8 or more, and pay less for the form"
    )


def _means(before: Sequence[float], after: Sequence[float]) -> str:
    return f"{statistics.fmean(before):.3g} to {statistics.fmean(after):.3g}"


def _way_to_signal(success: float | None) -> str:
    if success is not None and success >= SOLVED:
        return f"success is {success:.0%}, the rows are solved: take harder ones, or end here"
    right = "" if success is None else f"success is {success:.1%}: "
    return f"{right}train with sft first, take easier rows, or raise the method's groupSize or temperature"


def _is_solved(history: History) -> bool:
    success = _mean(history[-WINDOW:], "success")
    return success is not None and success >= SOLVED


def _streak(history: History, name: str, holds: Callable[[float], bool]) -> History:
    """The last steps that have a number of this name, as long as it holds for every one of them."""
    known = [step for step in history if step.get(name) is not None]
    ends = next((place for place in range(len(known), 0, -1) if not holds(known[place - 1][name])), 0)
    return known[ends:]


def _values(steps: History, name: str) -> list[float]:
    return [step[name] for step in steps if step.get(name) is not None]


def _mean(steps: History, name: str) -> float | None:
    """The mean over the steps that have the number; None where less than half of them do."""
    values = _values(steps, name)
    return statistics.fmean(values) if values and 2 * len(values) >= len(steps) else None


def _moved(before: Sequence[float], after: Sequence[float]) -> float:
    """By how many standard errors a mean has risen; below 0 where it fell."""
    change = statistics.fmean(after) - statistics.fmean(before)
    error = math.sqrt(sum(_noise(part) / len(part) for part in (before, after)))
    if error == 0.0:
        return math.copysign(math.inf, change) if change else 0.0
    return change / error


def _noise(values: Sequence[float]) -> float:
    """The variance of a step's number, from how much it differs from the next one's: what it moves by in a whole
    window is no noise."""
    pairs = list(itertools.pairwise(values))
    return sum((later - earlier) ** 2 for earlier, later in pairs) / (2 * len(pairs)) if pairs else 0.0
