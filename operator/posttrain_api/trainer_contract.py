"""What operator and trainer say to each other: the frozen recipe in, progress while it runs, one report at the end."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field

from posttrain_api.artifact import ArtifactSummary, BaseReference, Digest, Kind, digest_of
from posttrain_api.conditions import Reason
from posttrain_api.meta import KeyReference
from posttrain_api.model import Model
from posttrain_api.uri import WritableUri
from posttrain_api.v1alpha1.health import HealthFinding
from posttrain_api.v1alpha1.training_run import Checkpoints, Recipe
from posttrain_api.v1alpha1.training_run_status import (
    DataReport,
    Estimate,
    EvaluationResult,
    MergedBase,
    Metrics,
    ModelReport,
    NamedCheckpoint,
)

CONTAINER = "trainer"
REWARDS_CONTAINER = "rewards"
"""The native sidecar that runs reward code which is not ours."""
REWARDS_FOLDER = PurePosixPath("/run/posttrain-rewards")
REWARDS_SOCKET = REWARDS_FOLDER / "socket"
"""Where it listens, in a folder that it shares with the trainer."""
ROLLOUT_CONTAINER = "rollout"
"""The native sidecar that answers with vLLM, for rollout.mode server."""
ROLLOUT_PORT = 8100
"""Where it listens, on the pod's own loopback address only."""
ROLLOUT_FOLDER = PurePosixPath("/run/posttrain-rollout")
"""Where the trainer puts adapters for it."""
TOKENS_FOLDER = PurePosixPath("/etc/posttrain/tokens")
"""The token of environment.rewards.N.http is the file TOKENS_FOLDER/N/token."""
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


class Source(Model):
    """The result of another run that a recipe names, as it was accepted when this run began."""

    run: str
    """Name of that run."""
    uri: str
    """Folder to read: of the artifact, or, where it is used as a base model, of the model with it merged in."""
    digest: Digest
    """Digest of the artifact."""
    base_digest: Digest | None = None
    """Digest of the model in that folder, where an adapter was merged into its base."""
    kind: Kind
    """Kind of the artifact."""


class Machine(Model):
    """What is known of the GPU that a run will get: from the chart's gpus.table, for the estimate."""

    gpu: Annotated[str, Field(max_length=64)]
    """Name in the table."""
    memory_gib: float
    """Memory of one GPU, in GiB."""
    teraflops: float
    """Dense bf16 throughput that a training reaches, in 1e12 operations a second."""
    price_per_hour: float
    """Price of one GPU for an hour."""
    currency: str
    """Currency of the price."""


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
    sources: dict[str, Source] = {}
    """Where in the recipe another run is named -> what is used of it. The keys are paths such as baseModel,
    distill.teacher, environment.dataset, environment.rewards.0, evaluation.dataset, evaluation.retention.dataset and
    merge.runs.0."""
    checkpoints: Checkpoints | None = None
    """What to publish from the middle of the training."""
    machine: Machine | None = None
    """For the estimate; None where the GPU is not known."""

    @property
    def base_uri(self) -> str:
        """Folder of the model that training starts from."""
        source = self.sources.get("baseModel")
        found = source.uri if source else self.recipe.base_model.uri
        assert found is not None, "baseModel.fromRun without its source"
        return found

    @property
    def parents(self) -> list[str]:
        """Digests of the results that this run builds on, sorted."""
        return sorted({source.digest for source in self.sources.values()})


class MergeConfig(Model):
    """What `--merge` is given as JSON: an adapter to merge into its base, once for everything that builds on it."""

    run: str
    """Name of the run that made the adapter."""
    uid: str
    """Its UID."""
    artifact_uri: str
    """The adapter's folder."""
    artifact_digest: Digest
    """Its digest."""
    base: BaseReference
    """The adapter's base."""
    output: WritableUri
    """The run's output: the merged model is published as <output>/<run>/base-<digest of the merged model>."""


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

    stage: Literal["Loading", "Evaluating", "Training", "Sampling", "Publishing", "Done"]
    """What it does now."""
    step: int = 0
    """Optimizer steps done; for bestOf prompts answered."""
    total_steps: int = 0
    """Optimizer steps planned, for bestOf prompts; 0 while unknown."""
    eta_seconds: float | None = None
    """Seconds of training left: an estimate."""
    epoch: float | None = None
    """Passes over the data done."""
    tokens_per_second: float | None = None
    """Tokens that are trained on in a second."""
    metrics: Metrics = {}
    """The latest metrics, such as loss."""
    checkpoints: Annotated[list[NamedCheckpoint], Field(max_length=16)] = []
    """Named results that are published already, the newest last."""
    health: Annotated[list[HealthFinding], Field(max_length=8)] = []
    """The rules of health that are broken now."""
    updated_at: datetime
    """When something of this changed last."""


class PreflightReport(Model):
    """What preflight found where nothing is wrong."""

    estimate: Estimate
    """Rows, tokens, steps, memory, time and cost."""
    model: ModelReport | None = None
    """What the base model is."""
    data: DataReport | None = None
    """What is in the rows."""
    mask: str
    """One row as the trainer sees it; the trained text stands between MASK_OPEN and MASK_CLOSE."""
    warnings: list[str] = []
    """What is odd but not wrong."""
    dataset_digest: str
    """sha256 of the training data's bytes."""


class TrainingReport(Model):
    """What training published. Complete only where steps_completed = steps_planned, or stopped_early."""

    artifact: ArtifactSummary
    """The published artifact."""
    steps_completed: int
    """Optimizer steps done."""
    steps_planned: int
    """Optimizer steps of the recipe; 0 for a method without steps."""
    stopped_early: bool = False
    """The recipe's early stopping ended the training: fewer steps are enough."""
    checkpoints: Annotated[list[NamedCheckpoint], Field(max_length=16)] = []
    """Named results, the newest last."""
    metrics: Metrics
    """The last training metrics."""
    health: Annotated[list[HealthFinding], Field(max_length=8)] = []
    """The rules of health that were broken at the end."""
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
    checkpoints: Annotated[list[NamedCheckpoint], Field(max_length=16)] = []
    """Results from the middle of the training that were published before it failed, the newest last."""


class Report(Model):
    """The termination message of a trainer container: exactly one of the four, at most MAX_MESSAGE_BYTES as JSON."""

    uid: str
    """UID of the run that it speaks of."""
    recipe_digest: str
    """Digest of the recipe that it speaks of."""
    preflight: PreflightReport | None = None
    training: TrainingReport | None = None
    merged: MergedBase | None = None
    failure: Failure | None = None
