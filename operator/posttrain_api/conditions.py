"""Conditions as the Kubernetes API conventions have them: the truth of a status, from which the phase is derived."""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from posttrain_api.model import Model


class Reason(StrEnum):
    """Why a condition is as it is: the closed list for both kinds."""

    # going well
    SUCCEEDED = "Succeeded"
    PREFLIGHT_PASSED = "PreflightPassed"
    PREFLIGHT_SKIPPED = "PreflightSkipped"
    NO_GATES = "NoGates"
    GATES_PASSED = "GatesPassed"
    READY = "Ready"
    # waiting
    PENDING = "Pending"
    PREFLIGHT_RUNNING = "PreflightRunning"
    TRAINING = "Training"
    UNSCHEDULABLE = "Unschedulable"
    PULLING_IMAGE = "PullingImage"
    WAITING_FOR_RUN = "WaitingForRun"
    MERGING = "Merging"
    RETRAINING = "Retraining"
    STARTING = "Starting"
    LOADING = "Loading"
    SCALED_TO_ZERO = "ScaledToZero"
    # failed: what the user gave
    INVALID_SPEC = "InvalidSpec"
    DATASET_INVALID = "DatasetInvalid"
    MODEL_NOT_FOUND = "ModelNotFound"
    MODEL_INVALID = "ModelInvalid"
    CHAT_TEMPLATE_MISSING = "ChatTemplateMissing"
    CHAT_TEMPLATE_INVALID = "ChatTemplateInvalid"
    TARGET_MODULES_INVALID = "TargetModulesInvalid"
    PRECISION_UNSUPPORTED = "PrecisionUnsupported"
    RUN_FAILED = "RunFailed"
    RUN_NOT_FOUND = "RunNotFound"
    RUN_UNSUITABLE = "RunUnsuitable"
    REFERENCE_CYCLE = "ReferenceCycle"
    GATE_FAILED = "GateFailed"
    EVALUATION_INVALID = "EvaluationInvalid"
    TEACHER_INVALID = "TeacherInvalid"
    ADAPTERS_DIFFER = "AdaptersDiffer"
    TUNING_UNSUPPORTED = "TuningUnsupported"
    REWARD_INVALID = "RewardInvalid"
    PACKAGE_MISSING = "PackageMissing"
    MERGE_FAILED = "MergeFailed"
    # failed: what happened
    OUT_OF_MEMORY = "OutOfMemory"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    POD_REFUSED = "PodRefused"
    EVICTED = "Evicted"
    PREEMPTED = "Preempted"
    NODE_LOST = "NodeLost"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    TRAINER_FAILED = "TrainerFailed"
    TRAINER_STOPPED = "TrainerStopped"
    TRAINING_DIVERGED = "TrainingDiverged"
    ARTIFACT_MISSING = "ArtifactMissing"
    OUTPUT_UNWRITABLE = "OutputUnwritable"
    NO_EFFECT = "NoEffect"
    REWARD_FAILED = "RewardFailed"
    JOB_DELETED = "JobDeleted"
    # health of reinforcement learning: types of conditions too
    NO_SIGNAL = "NoSignal"
    ENTROPY_COLLAPSED = "EntropyCollapsed"
    KL_DRIFT = "KLDrift"
    REWARD_HACKING = "RewardHacking"
    LENGTH_EXPLOSION = "LengthExplosion"
    POLICY_MISMATCH = "PolicyMismatch"
    # adapters
    ADAPTER_NOT_FOUND = "AdapterNotFound"
    DIGEST_MISMATCH = "DigestMismatch"
    BASE_MISMATCH = "BaseMismatch"
    RANK_TOO_LARGE = "RankTooLarge"
    UNSUPPORTED_ADAPTER = "UnsupportedAdapter"
    BEHAVIOUR_MISMATCH = "BehaviourMismatch"
    LOAD_FAILED = "LoadFailed"
    ENGINE_FAILED = "EngineFailed"
    OVER_CAPACITY = "OverCapacity"


class Condition(Model):
    """One condition of an object."""

    type: Annotated[str, Field(max_length=316)]
    """Name of the condition."""
    status: Literal["True", "False", "Unknown"]
    """Whether it holds."""
    reason: Annotated[str, Field(max_length=128)]
    """Why, as one word."""
    message: Annotated[str, Field(max_length=4096)]
    """Why, for people."""
    last_transition_time: datetime
    """When status last changed."""
    observed_generation: int | None = None
    """The generation of the spec that it speaks of."""


def condition(
    type: str, holds: bool | None, reason: Reason, message: str, *, generation: int, now: datetime
) -> Condition:
    """A condition as observed now; None is Unknown."""
    return Condition(
        type=type,
        status="Unknown" if holds is None else "True" if holds else "False",
        reason=reason.value,
        message=message[:4096],
        last_transition_time=now,
        observed_generation=generation,
    )


def carry_times(new: Iterable[Condition], old: Iterable[Condition]) -> list[Condition]:
    """The new conditions, each with the transition time of its old namesake where the status is the same."""
    before = {condition.type: condition for condition in old}
    return [
        condition.replace(last_transition_time=before[condition.type].last_transition_time)
        if condition.type in before and before[condition.type].status == condition.status
        else condition
        for condition in new
    ]
