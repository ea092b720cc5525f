"""What a case moved: each measure of it, before and after."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from examples.demo.tasks import NUMBERS_TASK, Row

from bench.learning import cases, measure
from bench.learning import rows as data
from bench.learning.cases import Case
from bench.learning.measure import Model
from bench.learning.trainings import KEPT_ROWS, Trained, Trainings

NUM_RANDOM_HEADS = 64


@dataclass(frozen=True)
class Change:
    """A measure of one training, beside what is claimed of it."""

    measure: str
    before: float
    after: float
    claim: float

    @property
    def margin(self) -> float:
        """By how much more it changed than is claimed, in the claimed direction; below 0: the claim is wrong."""
        change = self.after - self.before
        return self.claim - change if self.claim < 0 else change - self.claim


def changes(case: Case, seed: int, trainings: Trainings) -> list[Change]:
    """Train a case and measure what is claimed of it."""
    trained = trainings.trained(case, seed)
    return [Change(name, *MEASURES[name](trained, trainings), claim) for name, claim in case.claims.items()]


Measured = Callable[[Trained, Trainings], tuple[float, float]]


def _both(found: Callable[[Model], float]) -> Measured:
    return lambda trained, _: (found(Model(trained.start)), found(trained.model))


def _by_harness(trained: Trained, trainings: Trainings) -> tuple[float, float]:
    scratch = trainings.scratch / "lm-eval"
    before, after = (
        measure.exact_match_by_harness(model, data.held_out(), scratch)
        for model in (Model(trained.start), trained.model)
    )
    return before, after


def _ranking(found: Callable[[torch.Tensor], torch.Tensor]) -> Measured:
    """The mean of a number of each margin; the start has no head: before is the mean of many random ones."""

    def both(trained: Trained, _: Trainings) -> tuple[float, float]:
        pairs = data.rankings_of(data.held_out(), data.held_out(NUMBERS_TASK))
        torch.manual_seed(trained.seed)
        before = measure.ranking_margins(trained.start, pairs, num_heads=NUM_RANDOM_HEADS)
        after = measure.ranking_margins(trained.folder, pairs)
        return float(found(before).mean()), float(found(after).mean())

    return both


def _divergence(trained: Trained, trainings: Trainings) -> tuple[float, float]:
    teacher = Model(trainings.start(trained.case.runs[0], trained.seed))
    before, after = (
        measure.divergence(model, teacher, data.held_out()) for model in (Model(trained.start), trained.model)
    )
    return before, after


def _score(trained: Trained, _: Trainings) -> tuple[float, float]:
    """Of all answers to some of the prompts, sampled anew, and of those that were kept."""
    asked = data.asked(trained.case.num_rows)
    kept = [json.loads(line)["messages"] for line in (trained.folder / KEPT_ROWS).read_text().splitlines()]
    right = {row.question: row.answer for row in asked}
    hits = [right[turns[-2]["content"]] == turns[-1]["content"] for turns in kept]
    samples = trained.case.block["samples"]
    everything = measure.mean_sampled_score(Model(trained.start), asked, samples=samples, seed=trained.seed)
    return everything, sum(hits) / len(hits)


def _beside_another(rows: Sequence[Row]) -> Measured:
    """Nats a token after the training that the case is compared with, and after its own."""

    def found(trained: Trained, trainings: Trainings) -> tuple[float, float]:
        other = trainings.trained(cases.named(trained.case.runs[0]), trained.seed)
        return measure.mean_nats(other.model, rows), measure.mean_nats(trained.model, rows)

    return found


MEASURES: dict[str, Measured] = {
    "exact match": _both(lambda model: measure.exact_match(model, data.held_out())),
    "exact match, by lm-eval": _by_harness,
    "exact match of numbers": _both(lambda model: measure.exact_match(model, data.held_out(NUMBERS_TASK))),
    "nats a token": _both(lambda model: measure.mean_nats(model, data.held_out())),
    "first task, by full and by osft": _beside_another(data.held_out()),
    "second task, by full and by osft": _beside_another(data.held_out(NUMBERS_TASK)),
    "preference accuracy": _both(lambda model: measure.preference_accuracy(model, data.pairs_of(data.held_out()))),
    "ranking accuracy": _ranking(lambda margins: (margins > 0).float()),
    # One random head can be right by chance, and none is sure of it.
    "ranking loss": _ranking(lambda margins: -torch.nn.functional.logsigmoid(margins)),
    "probability of the desirable answer": _both(lambda model: measure.mean_probability(model, data.held_out())),
    "probability of the undesirable answer": _both(
        lambda model: measure.mean_probability(model, data.held_out_disliked())
    ),
    "divergence from the teacher": _divergence,
    "score of the answers": _score,
}
"""Name of a measure -> its value before and after a training."""
