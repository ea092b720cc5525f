"""Whether a reward can be relied on, whatever it says: it fails on no answer, says the same twice, and is fast."""

import math
import time
from collections.abc import Iterator, Sequence

from posttrain_api.conditions import Reason
from posttrain_trainer.refusal import Refused
from posttrain_trainer.rewards import complaint
from posttrain_trainer.rewards.candidates import Candidate
from posttrain_trainer.rewards.failure import RewardFailed
from posttrain_trainer.scoring import Said, Scorer

MAX_CALL_SECONDS, MAX_JUDGE_SECONDS = 5.0, 20.0
"""95 of 100 single calls end within so long; a judge is waited for by many at once."""
NUM_TIMED = 20
_SLACK = 1e-6


def check(scorer: Scorer, name: str, tried: Sequence[Candidate], max_call_seconds: float) -> None:
    """Refused where a reward fails, says something else the second time, or is slow."""
    first = _asked(scorer, name, tried)
    reward = scorer.rewards[name]
    if reward.model is not None:
        return
    scorer.forget()
    for candidate, before, after in zip(tried, first, _asked(scorer, name, tried), strict=True):
        if not _is_same(before, after):
            what = f"scores {complaint.number(before)} and then {complaint.number(after)} for {candidate.kind}"
            raise complaint.refused(name, what, candidate, "make it depend on the answer and the row alone")
    # A package is loaded for each call.
    is_slow_to_ask = reward.http is not None or reward.builtin == "verifier"
    limit = MAX_JUDGE_SECONDS if is_slow_to_ask else max_call_seconds
    seconds = sorted(_timed(scorer, name, tried))
    slow = seconds[math.ceil(0.95 * len(seconds)) - 1]
    if slow > limit:
        raise Refused(
            Reason.REWARD_INVALID,
            f"environment.rewards {name}: one call takes {slow:.2g} s, and at most {limit:g} s may be: it is called "
            "for every answer of every step, so prepare outside the function what does not depend on the answer",
        )


def _asked(scorer: Scorer, name: str, tried: Sequence[Candidate]) -> list[float | None]:
    """What a reward says; Refused names an answer on which it fails."""
    said = scorer.of(name, [(candidate.prompt, candidate.text) for candidate in tried])
    if any(isinstance(score, RewardFailed) for score in said):
        candidate, failure = _culprit(scorer, name, list(zip(tried, said, strict=True)))
        raise complaint.refused(
            name, f"fails on {candidate.kind}: {failure}", candidate, "return a number or None for each"
        )
    return [None if isinstance(score, RewardFailed) else score for score in said]


def _culprit(scorer: Scorer, name: str, said: Sequence[tuple[Candidate, Said]]) -> tuple[Candidate, Said]:
    """An answer on which a reward fails alone, of those that failed together: one of each kind is tried."""
    failed = [both for both in said if isinstance(both[1], RewardFailed)]
    if len(failed) == len(said):
        kinds = {(candidate.kind, candidate.prompt.right is None): candidate for candidate, _ in reversed(failed)}
        for candidate in reversed(kinds.values()):
            [alone] = scorer.of(name, [(candidate.prompt, candidate.text)])
            if isinstance(alone, RewardFailed):
                return candidate, alone
    return failed[0]


def _timed(scorer: Scorer, name: str, tried: Sequence[Candidate]) -> Iterator[float]:
    """Seconds of single calls."""
    for candidate in tried[:: max(len(tried) // NUM_TIMED, 1)][:NUM_TIMED]:
        scorer.forget()
        began = time.perf_counter()
        scorer.of(name, [(candidate.prompt, candidate.text)])
        yield time.perf_counter() - began


def _is_same(before: float | None, after: float | None) -> bool:
    if before is None or after is None:
        return before is after
    return math.isclose(before, after, rel_tol=_SLACK, abs_tol=_SLACK)
