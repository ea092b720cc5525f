"""What operator and trainer say to each other: the frozen recipe in, progress while it runs, one report at the end."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field

from posttrain_api.artifact import ArtifactSummary, digest_of
from posttrain_api.conditions import Reason
from posttrain_api.meta import KeyReference
from posttrain_api.model import Model
from posttrain_api.v1alpha1.training_run import Recipe
from posttrain_api.v1alpha1.training_run_status import Estimate, EvaluationResult, Metrics

CONTAINER = "trainer"
STATUS_PORT = 9400
"""GET /status is a TrainerStatus, GET /metrics is for Prometheus."""
RUN_FOLDER = PurePosixPath("/etc/posttrain/run")
RUN_FILE = RUN_FOLDER / "run.json"
CONFIG_MAPS = PurePosixPath("/etc/posttrain/config-maps")
"""A ConfigMap that a recipe names is mounted at CONFIG_MAPS/<name>."""
TERMINATION_MESSAGE = PurePosixPath("/dev/termination-log")
MAX_MESSAGE_BYTES = 4000
"""The kubelet keeps 4,096 bytes of a termination message."""
MAX_MASK_CHARACTERS = 600
MASK_OPEN, MASK_CLOSE = "⟦", "⟧"

EXIT_DONE = 0
EXIT_UNEXPECTED = 1
EXIT_REFUSED = 3
"""The recipe, its data or its base cannot be trained: trying again would not help."""
EXIT_STOPPED = 4
"""Stopped by SIGTERM before the end."""


class RunConfig(Model):
    """run.json: one round of one run."""

    schema_version: Literal[1] = 1
    name: str
    """Name of the run."""
    namespace: str = "default"
    """Its namespace."""
    uid: str
    """Its UID: what is not published yet lies under it."""
    round: Annotated[int, Field(ge=0)] = 0
    """Number of the recipe, counted from 0."""
    recipe: Recipe
    """What to train, with nothing left to decide."""


def recipe_digest(run: Mapping[str, Any]) -> str:
    """Digest of the recipe in a run.json, as parsed JSON.

    Of the JSON as it was frozen, not of a parsed model: a later version, whose model has more fields, finds the same.
    """
    return digest_of(run["recipe"])


def config_map_path(reference: KeyReference) -> PurePosixPath:
    """Where a pod finds a key of a ConfigMap that its recipe names."""
    return CONFIG_MAPS / reference.name / reference.key


class TrainerStatus(Model):
    """GET /status: what the trainer does now."""

    stage: Literal["Loading", "Evaluating", "Training", "Publishing", "Done"]
    """What it does now."""
    step: int = 0
    """Optimizer steps done."""
    total_steps: int = 0
    """Optimizer steps planned; 0 while unknown."""
    eta_seconds: float | None = None
    """Seconds of training left: an estimate."""
    epoch: float | None = None
    """Passes over the data done."""
    tokens_per_second: float | None = None
    """Tokens that are trained on in a second."""
    metrics: Metrics = {}
    """The latest metrics, such as loss."""
    updated_at: datetime
    """When something of this changed last."""


class PreflightReport(Model):
    """What preflight found where nothing is wrong."""

    estimate: Estimate
    """Rows, tokens, steps, memory and time."""
    mask: str
    """One row as the trainer sees it; the trained text stands between MASK_OPEN and MASK_CLOSE."""
    warnings: list[str] = []
    """What is odd but not wrong."""
    dataset_digest: str
    """sha256 of the training data's bytes."""


class TrainingReport(Model):
    """What training published. Complete only where steps_completed = steps_planned."""

    artifact: ArtifactSummary
    """The published artifact."""
    steps_completed: int
    """Optimizer steps done."""
    steps_planned: int
    """Optimizer steps of the recipe."""
    metrics: Metrics
    """The last training metrics."""
    evaluation: EvaluationResult
    """The measurement before and after."""
    dataset_digest: str
    """sha256 of the training data's bytes."""
    evaluation_digest: str | None = None
    """sha256 of the held-out data's bytes, where they are a dataset of their own."""
    libraries: dict[str, str]
    """Versions of the libraries that trained."""


class Failure(Model):
    """Why it ended without a result."""

    reason: Reason
    """As one word."""
    message: str
    """For people: names the file, the row or the limit, and what to write instead."""


class Report(Model):
    """The termination message of a trainer container: exactly one of the three, at most MAX_MESSAGE_BYTES as JSON."""

    uid: str
    """UID of the run that it speaks of."""
    recipe_digest: str
    """Digest of the recipe that it speaks of."""
    preflight: PreflightReport | None = None
    training: TrainingReport | None = None
    failure: Failure | None = None
