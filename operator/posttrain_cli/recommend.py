"""`kubectl posttrain recommend`: from what a person has to a method, the reason and a manifest. Pure."""

import textwrap
from dataclasses import dataclass
from typing import Any

import yaml

from posttrain_api.v1alpha1 import API_VERSION, training_run
from posttrain_api.v1alpha1.methods import RL
from posttrain_cli.documents import Document
from posttrain_cli.failure import Failure
from posttrain_cli.faults import faults
from posttrain_cli.situation import MANY_ROWS, Have, Situation

FEW_ROWS = 200
"""Below, a step of the usual 16 rows would leave too few steps."""
FEW_ANSWERS = 32
"""The model's own answers in a step where there are few rows: whole groups of 8."""
REWARDS = [{"builtin": "exact"}]
ENOUGH_PAIRS = 1_000
"""Below, there is too little for two runs, one after the other."""
COMMENT_WIDTH = 100

Object = dict[str, Any]


@dataclass(frozen=True)
class Advice:
    """What to do, and why."""

    method: str
    """The method, or two in their order."""
    reason: str
    """One or two sentences."""
    runs: list[Object]
    """TrainingRuns."""

    def to_yaml(self) -> str:
        """A file of YAML that begins with method and reason as comments."""
        comment = textwrap.indent(textwrap.fill(f"{self.method}: {self.reason}", COMMENT_WIDTH), "# ")
        return f"{comment}\n{yaml.safe_dump_all(self.runs, sort_keys=False, explicit_start=True)}"


def recommend(situation: Situation) -> Advice:
    """The advice; Failure where an answer, such as a URI, can stand in no manifest."""
    if situation.rows < 1:
        raise Failure("rows: write how many there are, at least 1")
    found = _advice(situation)
    for run in found.runs:
        for fault in faults(Document("manifest", run)):
            raise Failure(f"{run['metadata']['name']}: such a run cannot be: {fault}")
    return found


def _advice(situation: Situation) -> Advice:
    match situation.have:
        case Have.EXAMPLES:
            return _from_examples(situation)
        case Have.PAIRS:
            return _from_pairs(situation)
        case Have.THUMBS:
            return _from_thumbs(situation)
        case Have.SCORER:
            return _from_scorer(situation)
        case Have.TEACHER:
            return _from_teacher(situation)


def _from_examples(situation: Situation) -> Advice:
    if not (situation.teaches_knowledge and situation.rows >= MANY_ROWS):
        reason = (
            "Right answers are learned best by imitation, and LoRA holds a new form or task without moving the base."
        )
        return Advice("sft", reason, [_run(situation, "sft")])
    if situation.is_tuned:
        reason = (
            "So many rows of new knowledge need more than an adapter. Orthogonal subspace fine-tuning moves only what "
            "the model needs least, so that it forgets little of what it can do."
        )
        return Advice("sft with osft", reason, [_run(situation, "sft", tuning={"osft": {"unfreezeRankRatio": 0.25}})])
    reason = (
        "So many rows of new knowledge need more than an adapter, and a base without instructions has no manners to "
        "forget: every weight may move."
    )
    return Advice("sft of the whole model", reason, [_run(situation, "sft", tuning={"full": {}})])


def _from_pairs(situation: Situation) -> Advice:
    if situation.is_tuned:
        reason = (
            "Pairs say which of two answers is better, and the base answers already: DPO moves it towards the better "
            "one while it stays near itself. Where answers grow too long, write method: simpo, which goes by the "
            "mean of a token."
        )
        return Advice("dpo", reason, [_run(situation, "dpo")])
    if situation.rows < ENOUGH_PAIRS:
        reason = (
            "The base was never tuned, and there are too few pairs for two runs: ORPO learns to answer and to prefer "
            "in one."
        )
        return Advice("orpo", reason, [_run(situation, "orpo")])
    first = _run(situation, "sft", name=f"{situation.name}-sft", columns={"chosen": "completion"})
    second = _run(situation, "dpo", start={"fromRun": {"name": f"{situation.name}-sft"}})
    reason = (
        "The base was never tuned, so it first learns the better answers by imitation; DPO then teaches the "
        "difference, from the accepted result."
    )
    return Advice("sft, then dpo", reason, [first, second])


def _from_thumbs(situation: Situation) -> Advice:
    reason = "Answers that are good or bad on their own are what KTO learns from; it needs some of both."
    if situation.is_tuned:
        return Advice("kto", reason, [_run(situation, "kto")])
    caution = " The base was never tuned: it is better to start from an sft run by baseModel.fromRun."
    return Advice("kto", reason + caution, [_run(situation, "kto", allowUntunedBase=True)])


def _from_scorer(situation: Situation) -> Advice:
    scored = (
        "What can be scored needs no answers of yours: the model answers, and what scores more than its other answers "
        "to a question is reinforced. "
    )
    choice = " Choose the reward that scores, and try it by `kubectl posttrain env test` before a GPU is taken."
    if situation.is_tuned:
        return Advice("grpo", scored.strip() + choice, [_run(situation, "grpo", rewards=REWARDS)])
    best, start = f"{situation.name}-best", f"{situation.name}-sft"
    first = _run(situation, "bestOf", name=best, rewards=REWARDS)
    second = _run(situation, "sft", name=start, dataset={"fromRun": {"name": best}})
    third = _run(situation, "grpo", start={"fromRun": {"name": start}}, rewards=REWARDS)
    reason = (
        "The base was never tuned, so hardly one of its answers is right: its best ones are kept, it learns to answer "
        "from them, and goes on from there."
    )
    return Advice("bestOf, then sft, then grpo", scored + reason + choice, [first, second, third])


def _from_teacher(situation: Situation) -> Advice:
    reason = (
        "A teacher of the same vocabulary says of each token how likely it would have been, which tells more than its "
        "answers alone."
    )
    return Advice("distill", reason, [_run(situation, "distill", distill={"teacher": {"uri": situation.teacher}})])


def _run(
    situation: Situation,
    method: str,
    *,
    name: str = "",
    start: Object | None = None,
    dataset: Object | None = None,
    columns: dict[str, str] | None = None,
    rewards: list[Object] | None = None,
    **spec: Any,
) -> Object:
    """A TrainingRun of this method with what the situation says."""
    rows = {"uri": situation.data, **({"columns": columns} if columns else {})}
    environment = {"dataset": dataset or rows, **({"rewards": rewards} if rewards else {})}
    base = {"uri": situation.base, **({"tuned": True} if situation.is_tuned else {})}
    few = {"effectiveBatchSize": FEW_ANSWERS if method in RL else 4}
    smaller_steps = {"hyperparameters": few} if situation.rows < FEW_ROWS else {}
    return {
        "apiVersion": API_VERSION,
        "kind": training_run.KIND,
        "metadata": {"name": name or situation.name},
        "spec": {"method": method, "baseModel": start or base, "environment": environment, **spec, **smaller_steps},
    }
