"""Tries rewards with right and with cunning answers, before anything is learned from them.

A model finds every way to a reward, so the right answer has to score the most, and what is not right at most the share
that its form may earn. What counts is the weighted sum of the rewards that teach, over a sample of rows.
"""

import random
import statistics
from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

from posttrain_api.v1alpha1.environment import Environment, Reward
from posttrain_trainer.examples import Prompt
from posttrain_trainer.refusal import Refused
from posttrain_trainer.rewards import candidates, complaint, reliability
from posttrain_trainer.rewards.candidates import Candidate
from posttrain_trainer.scoring import Scorer, Scores

MAX_FORMAT_SHARE, MAX_PARTIAL_SHARE = 0.5, 0.95
"""So far from the worst score to the right answer's may an answer come that is not right; the second where a package
scores, which may give most for what is nearly right, such as a sudoku with one wrong digit."""
NUM_ROWS, NUM_ROWS_WITHOUT_ANSWER = 16, 4
_ONLY_FORM = frozenset({"regex", "json_schema", "length", "repetition"})
"""Builtins that know no right answer."""
_SLACK = 1e-6

_ADVICE: Mapping[str, str] = {
    candidates.RIGHT: "write the right answer as the rewards want it, by environment.answerFormat or as completion, or "
    "correct the reward",
    candidates.WRONG_VALUE: "compare the value with the right one, and give its form less",
    candidates.OTHER_ROW: "compare the value with the right one, and give its form less",
    candidates.OTHER_FORM: "read the value where its form has it and nowhere else, or leave environment.answerFormat "
    "out",
    candidates.EMPTY: "give nothing where there is no answer",
    candidates.SPACE: "give nothing where there is no answer",
    candidates.LONG: "give nothing for length",
    candidates.SEVERAL: "take one answer, the last, and give nothing where there are others",
    candidates.ALL: "take one answer, the last, and give nothing where there are others",
    candidates.ECHO: "read the answer only where it is told to stand",
    candidates.LOOK_ALIKE: "compare the letters as they are: ASCII digits (re.ASCII), no casefold, no normalization",
}


@dataclass(frozen=True)
class Line:
    """What one kind of answer scores."""

    candidate: str
    mean: float
    """Over the rows on which it was tried."""
    worst: float
    """The lowest score of the right answer, the highest of one that is not right."""
    limit: float | None
    """What its mean may be at most; None for the right answer."""
    row: int
    """The row where it scored its worst."""

    def to_json(self) -> dict[str, Any]:
        """As it stands in preflight.json."""
        return {name: round(found, 4) if isinstance(found, float) else found for name, found in asdict(self).items()}


@dataclass(frozen=True)
class _Tried:
    """A candidate with its scores."""

    candidate: Candidate
    scores: Scores

    @property
    def total(self) -> float | None:
        return self.scores.total


_Row = Mapping[str, _Tried]
"""Kind of a candidate -> the one that scored the most, of a row."""


def check(
    scorer: Scorer,
    prompts: Sequence[Prompt],
    environment: Environment,
    *,
    seed: int,
    max_call_seconds: float = reliability.MAX_CALL_SECONDS,
) -> list[Line]:
    """What each kind of answer scores; Refused names the reward, the answer and the scores where one may be cheated."""
    sample = _sample(prompts, seed)
    known = [prompt for prompt in prompts if prompt.right is not None][: 4 * NUM_ROWS]
    tried = [found for prompt in sample for found in candidates.candidates(prompt, known, environment)]
    for name in filter(scorer.is_there, scorer.rewards):
        reliability.check(scorer, name, tried, max_call_seconds)
    teaching = [scorer.rewards[name] for name in _teaching(scorer)]
    if not teaching or not any(found.kind == candidates.RIGHT for found in tried):
        return []
    scores = scorer.score([(found.prompt, found.text) for found in tried])
    rows = _rows([_Tried(*both) for both in zip(tried, scores, strict=True)], teaching)
    _check_right(scorer, rows, teaching)
    is_partial = any(reward.builtin == "verifier" for reward in teaching)
    return _judged(scorer, rows, MAX_PARTIAL_SHARE if is_partial else MAX_FORMAT_SHARE)


def table(lines: Sequence[Line]) -> list[list[str]]:
    """The lines as texts: kind of answer, mean, worst, limit, row."""
    return [
        [line.candidate, f"{line.mean:.3g}", f"{line.worst:.3g}", _shown_number(line.limit), str(line.row)]
        for line in lines
    ]


def _shown_number(number: float | None) -> str:
    return "" if number is None else f"{number:.3g}"


def _sample(prompts: Sequence[Prompt], seed: int) -> list[Prompt]:
    draw = random.Random(seed)
    answered = [prompt for prompt in prompts if prompt.right is not None]
    others = [prompt for prompt in prompts if prompt.right is None]
    return [
        *draw.sample(answered, min(NUM_ROWS, len(answered))),
        *draw.sample(others, min(NUM_ROWS_WITHOUT_ANSWER, len(others))),
    ]


def _rows(tried: Sequence[_Tried], teaching: Sequence[Reward]) -> list[_Row]:
    """The rows with a right answer, without the kinds of answers that are not wrong for these rewards."""
    left_out = _left_out({reward.kind for reward in teaching})
    if any(reward.builtin == "unit_tests" for reward in teaching):
        # Python itself reads such letters as those that they look like.
        left_out |= {candidates.LOOK_ALIKE}
    found: dict[int, dict[str, _Tried]] = {}
    for one in tried:
        kind, row = one.candidate.kind, found.setdefault(one.candidate.prompt.number, {})
        if kind not in left_out and (kind not in row or _less(row[kind].total, one.total)):
            row[kind] = one
    return [row for row in found.values() if candidates.RIGHT in row]


def _left_out(kinds: Set[str]) -> Set[str]:
    """What knows no right answer cannot tell a wrong one of its form."""
    if kinds <= _ONLY_FORM:
        return candidates.ABOUT_VALUES
    return candidates.NO_PROGRAMS if "unit_tests" in kinds else frozenset()


def _less(before: float | None, now: float | None) -> bool:
    return now is not None and (before is None or before < now)


def _check_right(scorer: Scorer, rows: Sequence[_Row], teaching: Sequence[Reward]) -> None:
    """Refused where a right answer does not score the most of its row; opinions count in the mean only."""
    by_opinion = any(reward.model is not None or reward.http is not None for reward in teaching)
    for row in rows:
        right, floor = row[candidates.RIGHT].total, _floor(row)
        others = [one for kind, one in row.items() if kind != candidates.RIGHT and one.total is not None]
        best = max(others, key=lambda one: one.total or 0.0, default=None)
        is_best = best is None or (right or 0.0) >= (best.total or 0.0) - _SLACK
        is_something = floor is None or (right or 0.0) > floor + _SLACK
        if right is None or not (by_opinion or (is_best and is_something)):
            raise _right_refused(scorer, row, best)


def _floor(row: _Row) -> float | None:
    """The worst score of a row. A punishment of length says nothing of the others."""
    left_out = (candidates.RIGHT, candidates.LONG)
    return min((one.total for kind, one in row.items() if kind not in left_out and one.total is not None), default=None)


def _judged(scorer: Scorer, rows: Sequence[_Row], max_share: float) -> list[Line]:
    """A line for each kind; Refused names the one that scores too much, and of several the one that scores the most."""
    found = [_kind(kind, [row for row in rows if kind in row], max_share) for kind in candidates.CHEATS]
    known = [kind for kind in found if kind is not None]
    too_much = [kind for kind in known if kind.mean > kind.limit + _SLACK or kind.right <= kind.floor + _SLACK]
    if too_much:
        raise _cheat_refused(scorer, max(too_much, key=lambda kind: round(kind.mean, 6)))
    rights = [row[candidates.RIGHT] for row in rows]
    least = min(rights, key=lambda one: one.total or 0.0)
    mean = statistics.fmean(one.total or 0.0 for one in rights)
    first = Line(candidates.RIGHT, mean, least.total or 0.0, None, least.candidate.prompt.number)
    return [first, *(kind.line for kind in known)]


@dataclass(frozen=True)
class _Kind:
    """The means of one kind of answer over the rows that have it."""

    worst: _Tried
    """The answer that comes nearest to the right one."""
    mean: float
    right: float
    floor: float
    max_share: float

    @property
    def limit(self) -> float:
        return self.floor + self.max_share * (self.right - self.floor)

    @property
    def line(self) -> Line:
        prompt, kind = self.worst.candidate.prompt, self.worst.candidate.kind
        return Line(kind, self.mean, self.worst.total or 0.0, self.limit, prompt.number)


def _kind(kind: str, rows: Sequence[_Row], max_share: float) -> _Kind | None:
    """None where no answer of the kind is scored."""
    compared = [
        (row[kind], score, right, floor)
        for row in rows
        if (right := row[candidates.RIGHT].total) is not None
        and (floor := _floor(row)) is not None
        and (score := row[kind].total) is not None
    ]
    if not compared:
        return None
    worst, *_ = max(compared, key=lambda one: (one[1] - one[3]) / max(one[2] - one[3], _SLACK))
    return _Kind(worst, *(statistics.fmean(one[place] for one in compared) for place in (1, 2, 3)), max_share)


def _cheat_refused(scorer: Scorer, found: _Kind) -> Refused:
    name = max(_teaching(scorer), key=lambda name: _share(scorer, name, found.worst.scores))
    candidate = found.worst.candidate
    return complaint.refused(
        name,
        f"'{candidate.kind}' scores {found.mean:.3g}, the right answer {found.right:.3g}, and at most "
        f"{found.limit:.3g} may be",
        candidate,
        _ADVICE[candidate.kind],
    )


def _right_refused(scorer: Scorer, row: _Row, best: _Tried | None) -> Refused:
    right = row[candidates.RIGHT]
    name = min(_teaching(scorer), key=lambda name: _share(scorer, name, right.scores))
    than = "" if best is None else f", '{best.candidate.kind}' {complaint.number(best.total)}"
    return complaint.refused(
        name,
        f"the right answer scores {complaint.number(right.total)}{than}",
        right.candidate,
        _ADVICE[candidates.RIGHT],
    )


def _share(scorer: Scorer, name: str, scores: Scores) -> float:
    """What a reward adds to a sum."""
    return scorer.rewards[name].weight * (scores.each[name] or 0.0)


def _teaching(scorer: Scorer) -> list[str]:
    return [name for name, reward in scorer.rewards.items() if reward.teaches and scorer.is_there(name)]
