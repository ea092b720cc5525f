"""The status of a TrainingRun: what was observed of it."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from posttrain_api.artifact import ArtifactSummary
from posttrain_api.conditions import Condition
from posttrain_api.model import Model, list_map

Metrics = dict[str, float | None]
"""Metric name -> value; null where it is not a number."""


class Display(Model):
    """Texts for the printed columns, which cannot format."""

    progress: str = ""
    """How far the training is, such as 24%."""
    metric: str = ""
    """The latest loss, or the result."""
    eta: str = ""
    """Time left, such as 14m."""
    step: str = ""
    """Step of all steps, such as 120/500."""
    reason: str = ""
    """Why the run is where it is."""


class Estimate(Model):
    """What preflight computed before a GPU was taken."""

    rows: int
    """Rows to train on."""
    trained_tokens: int
    """Tokens in one pass that the loss counts."""
    total_tokens: int
    """Tokens in one pass."""
    total_steps: int
    """Optimizer steps."""
    trainable_parameters: int
    """Weights that move."""
    memory_gib: float
    """Memory of weights, gradients, optimizer and activations, in GiB: an estimate."""


class Progress(Model):
    """How far the training is."""

    stage: str
    """What the trainer does now: Loading, Evaluating, Training, Publishing."""
    step: int
    """Optimizer steps done."""
    total_steps: int
    """Optimizer steps planned."""
    percent: int
    """Share of the steps, in percent."""
    eta_seconds: float | None = None
    """Seconds of training left: an estimate."""
    epoch: float | None = None
    """Passes over the data done."""
    tokens_per_second: float | None = None
    """Tokens that are trained on in a second."""
    updated_at: datetime
    """When the trainer said so."""


class EvaluationResult(Model):
    """The same measurement before and after training."""

    before: Metrics
    """The base model's metrics on the held-out rows."""
    after: Metrics
    """The result's metrics on the same rows."""
    rows: int
    """Number of held-out rows."""


class Lineage(Model):
    """Where the result comes from."""

    base_model: dict[str, str] = {}
    """uri and digest of the base model."""
    dataset_digest: str | None = None
    """sha256 of the training data's bytes."""
    evaluation_digest: str | None = None
    """sha256 of the held-out data's bytes, where they are a dataset of their own."""
    recipe_digest: str
    """Digest of the frozen recipe."""
    image: str | None = None
    """The trainer's image as the node resolved it."""
    libraries: dict[str, str] = {}
    """Versions of the libraries that trained."""
    seed: int
    """Seed of everything random."""


class TrainingRunStatus(Model):
    """What was observed of a run. `Ready` means: the artifact is complete, proven and judged."""

    observed_generation: int = -1
    """The generation of the spec that this status speaks of."""
    phase: Annotated[str, Field(max_length=32)] | None = None
    """One word for people, derived from the conditions: Pending, Preflight, Training, Succeeded or Failed."""
    conditions: Annotated[list[Condition], list_map("type", max_items=32)] = []
    """Validated, Trained, Evaluated, Accepted, Succeeded, Ready; Reconciling and Stalled only while they hold."""
    resolved: (
        Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})] | None
    ) = None
    """The recipe with every default filled in, frozen at the first reconcile."""
    display: Display | None = None
    """Texts for the printed columns."""
    estimate: Estimate | None = None
    """What preflight computed."""
    mask: Annotated[str, Field(max_length=1024)] | None = None
    """One row as the trainer sees it; the text that the loss counts stands between ⟦ and ⟧."""
    warnings: Annotated[list[str], Field(max_length=8)] = []
    """What preflight found odd but not wrong."""
    progress: Progress | None = None
    """How far the training is."""
    metrics: Metrics | None = None
    """The trainer's latest metrics."""
    evaluation: EvaluationResult | None = None
    """The measurement before and after."""
    artifact: ArtifactSummary | None = None
    """The published result."""
    lineage: Lineage | None = None
    """Where the result comes from."""
    finished_at: datetime | None = None
    """When the run ended."""
