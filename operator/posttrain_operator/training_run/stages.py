"""Where a run stands, and the children that its next step needs: in preflight, then in training. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from posttrain_api.conditions import Reason
from posttrain_api.trainer_contract import RunConfig, Source, recipe_digest
from posttrain_api.uri import claim_of
from posttrain_api.v1alpha1.training_run import DEFAULT_CLAIM, TrainingRun
from posttrain_operator import merge, pod_waiting
from posttrain_operator.actions import Manifest
from posttrain_operator.followed_run import Missing
from posttrain_operator.jobs import JobSeen
from posttrain_operator.metadata import is_current
from posttrain_operator.settings import Settings
from posttrain_operator.training_run import outcome, resources, result, sources, status
from posttrain_operator.training_run.observe import Observed
from posttrain_operator.training_run.outcome import Identity, Outcome
from posttrain_operator.training_run.status import Frozen, Situation


@dataclass(frozen=True)
class Run:
    """A run, its recipe as it was frozen, and its old status."""

    parsed: TrainingRun
    config: Manifest
    """run.json."""
    frozen: Frozen
    old: Mapping[str, Any]
    missing: Missing | None = None
    """Why it cannot begin, or not yet."""

    @property
    def round(self) -> int:
        """Number of the recipe, counted from 0."""
        return int(self.config.get("round", 0))

    @property
    def identity(self) -> Identity:
        """Whom reports must speak of."""
        return Identity(self.parsed.metadata.uid, self.frozen.digest)


@dataclass(frozen=True)
class Decision:
    """Where a run stands, and what is to be made for it."""

    situation: Situation
    create: tuple[Manifest, ...] = ()
    apply: tuple[Manifest, ...] = ()
    recheck_at: datetime | None = None
    """When it is something else by the passing of time alone."""
    next_round: Run | None = None
    """The run with its next recipe, where a gate has failed and another round follows."""


def run(parsed: TrainingRun, observed: Observed, old: Mapping[str, Any], *, settings: Settings, now: datetime) -> Run:
    """The run with its frozen recipe: what is in the ConfigMap, or was, is never resolved again."""
    if observed.recipe:
        return _run(parsed, json.loads(observed.recipe["data"]["run.json"]), old)
    config = _config(parsed, old, settings=settings)
    found = _sources(parsed, observed, config["recipe"], now=now)
    if isinstance(found, Missing):
        return _run(parsed, config, old, found)
    config["sources"] = {path: source.to_json() for path, source in found.items()}
    return _run(parsed, config, old)


def _run(parsed: TrainingRun, config: Manifest, old: Mapping[str, Any], missing: Missing | None = None) -> Run:
    frozen = Frozen(config["recipe"], recipe_digest(config), config.get("sources", {}))
    return Run(parsed, config, frozen, old, missing)


def _config(parsed: TrainingRun, old: Mapping[str, Any], *, settings: Settings) -> Manifest:
    """run.json as it is to be frozen, without its sources."""
    round = old.get("round", 0)
    config = RunConfig(
        name=parsed.metadata.name,
        namespace=parsed.metadata.namespace,
        uid=parsed.metadata.uid,
        round=round,
        recipe=parsed.spec.recipe(round=round),
        checkpoints=parsed.spec.checkpoints,
        machine=resources.machine(parsed, settings=settings),
    ).to_json()
    return {**config, "recipe": old.get("resolved") or config["recipe"]}


def _sources(
    parsed: TrainingRun, observed: Observed, recipe: Manifest, *, now: datetime
) -> Mapping[str, Source] | Missing:
    if observed.training.job:
        # It trains already: only the ConfigMap was deleted, and the pod has its copy.
        return {}
    name, created = parsed.metadata.name, parsed.metadata.creation_timestamp
    return sources.resolve(name, sources.references(recipe), observed.upstream, created=created, now=now)


def decide(run: Run, observed: Observed, *, settings: Settings, now: datetime) -> Decision:
    """Where the run stands: before its sources, in preflight, or beyond it; the recipe is frozen before all else."""
    if run.missing:
        return _waiting(run.missing, settings=settings)
    decision = _stage(run, observed, settings=settings, now=now)
    if observed.recipe or decision.situation.is_over:
        return decision
    frozen = resources.recipe(run.parsed, run.config)
    return replace(decision, create=_claims(run, observed, settings=settings), apply=(frozen, *decision.apply))


def _waiting(found: Missing, *, settings: Settings) -> Decision:
    situation = Situation(found.reason, found.message, is_stalled=found.is_failed, waits_for=found.run)
    # The Job that makes the base belongs to the run whose adapter it merges.
    create = (merge.job(*found.to_merge, settings=settings),) if found.to_merge else ()
    return Decision(situation, create=create, recheck_at=found.recheck_at)


def _claims(run: Run, observed: Observed, *, settings: Settings) -> tuple[Manifest, ...]:
    is_wanted = claim_of(run.parsed.spec.output.uri) == DEFAULT_CLAIM and not observed.has_default_claim
    return (resources.default_claim(run.parsed, settings=settings),) if is_wanted else ()


def _stage(run: Run, observed: Observed, *, settings: Settings, now: datetime) -> Decision:
    validated = _known_validation(run)
    if validated:
        return _in_training(run, Situation(Reason.PENDING, "", validated), observed, settings=settings, now=now)
    decision = _in_preflight(run, observed.preflight, settings=settings, now=now)
    if decision.situation.validated:
        return _in_training(run, decision.situation, observed, settings=settings, now=now)
    return decision


def _known_validation(run: Run) -> Reason | None:
    """Why the run needs no preflight any more: the preflight's pod may be gone since."""
    if run.parsed.spec.preflight == "Skip":
        return Reason.PREFLIGHT_SKIPPED
    known = _condition(run.old, "Validated")
    return Reason.PREFLIGHT_PASSED if known and known["status"] == "True" else None


def _condition(old: Mapping[str, Any], type_: str) -> Mapping[str, Any] | None:
    return next((known for known in old.get("conditions") or [] if known["type"] == type_), None)


def _in_preflight(run: Run, seen: JobSeen, *, settings: Settings, now: datetime) -> Decision:
    if seen.job is None:
        job = resources.preflight(run.parsed, run.config, settings=settings)
        return Decision(Situation(Reason.PENDING, pod_waiting.WAITING_FOR_A_NODE), apply=(job,))
    found = outcome.outcome(seen, identity=run.identity, now=now)
    if found.stage == "Running":
        return Decision(Situation(Reason.PREFLIGHT_RUNNING, "The rows are being read."), recheck_at=found.recheck_at)
    if found.stage == "Waiting":
        return Decision(Situation(found.reason, found.message), recheck_at=found.recheck_at)
    return Decision(_after_preflight(found))


def _after_preflight(found: Outcome) -> Situation:
    if found.report and found.report.preflight:
        return Situation(Reason.PENDING, "", Reason.PREFLIGHT_PASSED, preflight=found.report.preflight)
    if found.report or found.reason is Reason.ARTIFACT_MISSING:
        return Situation(Reason.TRAINER_FAILED, "Preflight ended without a report of its own.", is_over=True)
    return Situation(found.reason, found.message, is_over=True)


def _in_training(run: Run, so_far: Situation, observed: Observed, *, settings: Settings, now: datetime) -> Decision:
    so_far = replace(so_far, has_trained=True)
    policy = resources.policy(run.parsed, settings=settings)
    missing = () if is_current(policy, observed.policy) else (policy,)
    if observed.training.job:
        decision = _of_training(run, so_far, observed, now=now)
        return decision if decision.situation.is_over else replace(decision, apply=(*missing, *decision.apply))
    if _condition(run.old, "Trained"):
        message = "The training Job was deleted before it ended."
        return Decision(replace(so_far, reason=Reason.JOB_DELETED, message=message, is_over=True))
    waiting = replace(so_far, reason=Reason.PENDING, message=pod_waiting.WAITING_FOR_A_NODE)
    return Decision(waiting, apply=(*missing, resources.training(run.parsed, run.config, settings=settings)))


def _of_training(run: Run, so_far: Situation, observed: Observed, *, now: datetime) -> Decision:
    found = outcome.outcome(observed.training, identity=run.identity, now=now)
    if found.stage == "Running":
        message = "The model is being trained."
        situation = replace(so_far, reason=Reason.TRAINING, message=message, trainer=observed.trainer)
    elif found.stage == "Waiting":
        situation = replace(so_far, reason=found.reason, message=found.message)
    else:
        situation = result.after_training(found, observed.training, so_far, recipe=run.frozen.recipe)
    if situation.is_rejected and _has_rounds_left(run):
        return _next_round(run, situation, observed, now=now)
    return Decision(situation, recheck_at=found.recheck_at)


def _has_rounds_left(run: Run) -> bool:
    on_failure = run.parsed.spec.evaluation.on_failure
    return on_failure.action == "Retrain" and run.round + 1 < on_failure.max_attempts


def _next_round(run: Run, judged: Situation, observed: Observed, *, now: datetime) -> Decision:
    """Another recipe on the same sources; the Jobs of the round before it are left, with their logs."""
    round = run.round + 1
    config = {**run.config, "round": round, "recipe": run.parsed.spec.recipe(round=round).to_json()}
    # Of the status only what is about the run as a whole stays: what preflight and training said was of another recipe.
    old = {name: run.old[name] for name in ("conditions", "display") if name in run.old}
    rounds = status.rounds(judged, run.frozen, run.old)
    following = _run(run.parsed, config, {**old, "round": round, "rounds": rounds})
    message = f"Round {run.round}: {judged.message} Round {round} begins with the recipe for it."
    # Without the ConfigMap the sources are not known here: they are resolved anew then.
    recipe = (resources.recipe(run.parsed, config),) if observed.recipe else ()
    return Decision(Situation(Reason.RETRAINING, message), apply=recipe, recheck_at=now, next_round=following)
