"""A run's status from its situation: conditions are the truth, phase and columns are derived from them. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from posttrain_api.conditions import Condition, Reason, carry_times, condition
from posttrain_api.trainer_contract import PreflightReport, TrainerStatus, TrainingReport
from posttrain_api.v1alpha1.training_run_status import (
    EvaluationResult,
    GateResult,
    Lineage,
    NamedCheckpoint,
    Progress,
    Round,
    TrainingRunStatus,
)
from posttrain_operator.actions import Event, Manifest
from posttrain_operator.training_run import display, health

STICKY = (
    *("estimate", "model", "data", "mask", "warnings", "progress", "metrics", "health", "lineage", "rounds"),
    "checkpoints",
)
"""Fields that stay as they were once observed: the pods that said so may be gone."""
MAX_WARNINGS = 8
PHASES = {
    Reason.WAITING_FOR_RUN: "Waiting",
    Reason.MERGING: "Merging",
    Reason.PREFLIGHT_RUNNING: "Preflight",
    Reason.TRAINING: "Training",
}
"""Why a run goes on -> one word for people; Pending for all else."""
PREFLIGHT_SENTENCES = {
    Reason.PREFLIGHT_PASSED: "Every row was read and can be trained on.",
    Reason.PREFLIGHT_SKIPPED: "spec.preflight is Skip: the rows were not read before a GPU was taken.",
}


@dataclass(frozen=True)
class Situation:
    """Where a run stands."""

    reason: Reason
    message: str
    validated: Reason | None = None
    """PreflightPassed or PreflightSkipped, once that is so."""
    has_trained: bool = False
    """The training Job was made: where it is not there, it was deleted."""
    is_over: bool = False
    """The run ended; without a training report it has failed."""
    is_stalled: bool = False
    """It goes on only when somebody changes something."""
    waits_for: str | None = None
    """The run that it waits for."""
    preflight: PreflightReport | None = None
    trainer: TrainerStatus | None = None
    training: TrainingReport | None = None
    checkpoints: Sequence[NamedCheckpoint] = ()
    """What a training that failed had published before."""
    image: str | None = None
    """The trainer's image as the node resolved it."""

    @property
    def is_rejected(self) -> bool:
        """There is a result, and it has not passed its gates."""
        return self.training is not None and any(not gate.passed for gate in self.training.evaluation.gates)

    @property
    def is_accepted(self) -> bool:
        """There is a result, and it may be used."""
        return self.training is not None and not self.is_rejected


@dataclass(frozen=True)
class Frozen:
    """The recipe as it was frozen, and its digest."""

    recipe: Manifest
    digest: str
    sources: Mapping[str, Manifest] = field(default_factory=dict)
    """Where in it another run is named -> what is used of that run."""


def status(
    situation: Situation, old: Mapping[str, Any], *, generation: int, frozen: Frozen | None, now: datetime
) -> Manifest:
    """The whole new status."""
    now = now.replace(microsecond=0)
    before = [Condition.model_validate(known) for known in old.get("conditions") or []]
    kept = {name: old[name] for name in STICKY if name in old}
    told = {**kept, **_findings(situation, frozen, now=now)}
    shown = {name: value for name, value in told.items() if value != []}
    observed = [*conditions(situation, generation=generation, now=now), *health.conditions(shown, generation, now)]
    found = carry_times(observed, before)
    if frozen and situation.training and situation.training.evaluation.gates:
        shown["rounds"] = rounds(situation, frozen, old)
    round, waits_for = old.get("round", 0), situation.waits_for
    head = TrainingRunStatus(
        observed_generation=generation,
        phase=phase(found),
        conditions=found,
        resolved=frozen.recipe if frozen else None,
        display=display.display(situation.reason, _gates(situation), shown, round=round, waits_for=waits_for),
        round=round,
        finished_at=now if situation.is_over else None,
    )
    return {**shown, **{name: value for name, value in head.to_json().items() if value != []}}


def rounds(situation: Situation, frozen: Frozen, old: Mapping[str, Any]) -> list[Manifest]:
    """The rounds that were judged, with the one that was judged now."""
    assert situation.training is not None
    judged = Round(
        round=old.get("round", 0),
        recipe_digest=frozen.digest,
        artifact_digest=situation.training.artifact.digest,
        gates=situation.training.evaluation.gates,
    )
    return [*old.get("rounds", []), judged.to_json()]


def conditions(situation: Situation, *, generation: int, now: datetime) -> list[Condition]:
    """The conditions of a situation, as observed now."""
    facts = [_validated(situation), *_trained(situation), *_verdict(situation)]
    return [
        condition(type_, holds, reason, message, generation=generation, now=now)
        for type_, holds, reason, message in facts
    ]


Fact = tuple[str, bool | None, Reason, str]
"""Type of a condition, whether it holds (None: unknown), why, why for people."""


def _validated(situation: Situation) -> Fact:
    if situation.validated:
        return "Validated", True, situation.validated, PREFLIGHT_SENTENCES[situation.validated]
    holds = False if situation.is_over or situation.is_stalled else None
    return "Validated", holds, situation.reason, situation.message


def _trained(situation: Situation) -> Iterable[Fact]:
    why, message = situation.reason, situation.message
    if not situation.has_trained:
        return
    if situation.training is None:
        yield "Trained", False if situation.is_over else None, why, message
        return
    digest = situation.training.artifact.digest
    yield "Trained", True, Reason.SUCCEEDED, f"{health.steps(situation.training)}, published as {digest}."
    measured = situation.training.evaluation
    yield "Evaluated", True, Reason.SUCCEEDED, f"Measured on {measured.rows} held-out rows, before and after."
    yield _accepted(situation, measured.gates)


def _accepted(situation: Situation, gates: Sequence[GateResult]) -> Fact:
    """What AdapterDeployments and other runs go by."""
    if situation.is_rejected:
        return "Accepted", False, Reason.GATE_FAILED, situation.message
    if not gates:
        return "Accepted", True, Reason.NO_GATES, "The run names no gates."
    return "Accepted", True, Reason.GATES_PASSED, f"Passed {display.of_all(gates)} gates."


def _gates(situation: Situation) -> Sequence[GateResult]:
    return situation.training.evaluation.gates if situation.training else ()


def _verdict(situation: Situation) -> Iterable[Fact]:
    why, message, is_trained = situation.reason, situation.message, situation.training is not None
    if situation.is_over:
        yield "Succeeded", is_trained, Reason.SUCCEEDED if is_trained else why, message
    yield "Ready", situation.is_accepted, why, message
    if not situation.is_accepted:
        is_stuck = situation.is_over or situation.is_stalled
        yield "Stalled" if is_stuck else "Reconciling", True, why, message


def phase(found: Iterable[Condition]) -> str:
    """One word for people, from the conditions."""
    held = {known.type: known for known in found if known.status == "True"}
    if "Ready" in held:
        return "Succeeded"
    if "Stalled" in held:
        return "Rejected" if held["Stalled"].reason == Reason.GATE_FAILED else "Failed"
    return PHASES.get(Reason(held["Reconciling"].reason), "Pending")


def _findings(situation: Situation, frozen: Frozen | None, *, now: datetime) -> Manifest:
    """What preflight, the trainer and its report tell, where they tell it now."""
    found: Manifest = {}
    if situation.preflight:
        found["estimate"] = situation.preflight.estimate.to_json()
        found["mask"] = situation.preflight.mask
        for name in ("model", "data"):
            report = getattr(situation.preflight, name)
            found |= {name: report.to_json()} if report else {}
        found["warnings"] = [text[:1024] for text in situation.preflight.warnings[:MAX_WARNINGS]]
    if situation.trainer:
        found["progress"] = _progress(situation.trainer).to_json()
        found["metrics"] = _numbers(situation.trainer.metrics)
    said = situation.training or situation.trainer
    if said:
        found["health"] = health.known(said.health)
    checkpoints = situation.checkpoints or (situation.trainer.checkpoints if situation.trainer else ())
    if checkpoints:
        found["checkpoints"] = [checkpoint.to_json() for checkpoint in checkpoints]
    if situation.training:
        found |= _results(situation.training, now=now)
    if frozen:
        found["lineage"] = _lineage(situation, frozen).to_json()
    return found


def _progress(trainer: TrainerStatus) -> Progress:
    return Progress(
        stage=trainer.stage,
        step=trainer.step,
        total_steps=trainer.total_steps,
        percent=_percent(trainer.step, trainer.total_steps),
        eta_seconds=trainer.eta_seconds,
        epoch=trainer.epoch,
        tokens_per_second=trainer.tokens_per_second,
        updated_at=trainer.updated_at,
    )


def _percent(step: int, total: int) -> int:
    return min(100, 100 * step // total) if total else 0


def _results(report: TrainingReport, *, now: datetime) -> Manifest:
    done, planned = report.steps_completed, report.steps_planned
    percent = _percent(done, planned) if planned else 100
    progress = Progress(stage="Done", step=done, total_steps=planned, percent=percent, eta_seconds=0.0, updated_at=now)
    return {
        "progress": progress.to_json(),
        "metrics": _numbers(report.metrics),
        "evaluation": _evaluation(report.evaluation).to_json(),
        "artifact": report.artifact.to_json(),
        "checkpoints": [found.to_json() for found in report.checkpoints],
    }


def _evaluation(measured: EvaluationResult) -> EvaluationResult:
    return measured.replace(before=_numbers(measured.before), after=_numbers(measured.after))


def _numbers(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """The metrics that are numbers: a merge patch cannot write null."""
    return {name: value for name, value in metrics.items() if value is not None}


def _base_model(frozen: Frozen) -> dict[str, str]:
    """Its folder, where that is known yet."""
    uri = frozen.sources.get("baseModel", frozen.recipe["baseModel"]).get("uri")
    return {"uri": uri} if uri else {}


def _lineage(situation: Situation, frozen: Frozen) -> Lineage:
    known = Lineage(
        base_model=_base_model(frozen),
        recipe_digest=frozen.digest,
        parents={path: source["digest"] for path, source in frozen.sources.items()},
        seed=frozen.recipe["hyperparameters"]["seed"],
    )
    report = situation.training
    if report is None:
        return known
    return known.replace(
        base_model={"uri": report.artifact.base.uri, "digest": report.artifact.base.digest},
        dataset_digest=report.dataset_digest,
        evaluation_digest=report.evaluation_digest,
        image=situation.image,
        libraries=report.libraries,
    )


def events(situation: Situation, old: Mapping[str, Any]) -> tuple[Event, ...]:
    """What to tell: a rule of health that broke, that it trains, why it does not, how it ended. Waiting is the pod's to
    tell."""
    said = situation.training or situation.trainer
    return (*health.events(said.health if said else (), old), *_transition(situation, old))


def _transition(situation: Situation, old: Mapping[str, Any]) -> tuple[Event, ...]:
    before = (old.get("display") or {}).get("reason")
    if before == situation.reason:
        return ()
    has_failed = not situation.is_accepted and (situation.is_over or situation.is_stalled)
    if has_failed or situation.reason is Reason.IMAGE_PULL_FAILED:
        return (Event("Warning", situation.reason, situation.message),)
    if situation.is_over or situation.reason in (Reason.TRAINING, Reason.RETRAINING):
        return (Event("Normal", situation.reason, situation.message),)
    return ()
