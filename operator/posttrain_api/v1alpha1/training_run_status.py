"""The status of a TrainingRun: what was observed of it."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from posttrain_api.artifact import ArtifactSummary
from posttrain_api.conditions import Condition
from posttrain_api.model import Model, list_map
from posttrain_api.v1alpha1.health import HealthFinding

Metrics = dict[str, float | None]
"""Metric name -> value; null where it is not a number."""
MAX_TUNED_MODULES = 32


class Display(Model):
    """Texts for the printed columns, which cannot format."""

    progress: str = ""
    """How far the training is, such as 24%, or round 1: 24%; while it waits, for what, such as for sft."""
    metric: str = ""
    """The latest loss, or the result."""
    eta: str = ""
    """Time left, such as 14m."""
    step: str = ""
    """Step of all steps, such as 120/500."""
    gate: str = ""
    """Gates passed of all, such as 2/2."""
    reason: str = ""
    """Why the run is where it is."""


class MemoryEstimate(Model):
    """Parts of the memory that one GPU needs, in GiB: an estimate."""

    weights: float = 0.0
    """The model's weights."""
    gradients: float = 0.0
    """Gradients of the weights that move."""
    optimizer: float = 0.0
    """AdamW's two moments, and the float32 copy of what moves."""
    activations: float = 0.0
    """What the backward pass needs of the forward pass."""
    logits: float = 0.0
    """The output over the vocabulary."""
    reference: float = 0.0
    """A second model to stay close to, or to learn from."""
    reward: float = 0.0
    """Reward models."""
    value: float = 0.0
    """A value model."""
    rollouts: float = 0.0
    """Keys and values of answers while they are written, beyond what a step needs; what vLLM takes on the same GPU."""


class Estimate(Model):
    """What preflight computed before a GPU was taken."""

    rows: int
    """Rows to train on."""
    trained_tokens: int
    """Tokens in one pass that the loss counts. Where the model answers by itself (distill): at most, with every answer
    as long as it may be."""
    total_tokens: int
    """Tokens in one pass, both answers of a pair with their prompt. For distill, grpo, rloo, ppo and bestOf: at most,
    likewise."""
    total_steps: int
    """Optimizer steps."""
    trainable_parameters: int
    """Weights that move."""
    memory_gib: float
    """Memory that one GPU needs, in GiB: an estimate."""
    memory: MemoryEstimate = MemoryEstimate()
    """Its parts."""
    gpu: Annotated[str, Field(max_length=64)] | None = None
    """The GPU that time and cost are reckoned with, by its name in the chart's gpus.table."""
    duration_seconds: float | None = None
    """Time of the training steps on that GPU: an estimate."""
    cost: Annotated[str, Field(max_length=32)] | None = None
    """Price of that time, as a decimal number."""
    currency: Annotated[str, Field(max_length=8)] | None = None
    """Currency of the cost."""
    unpriced: Annotated[str, Field(max_length=256)] | None = None
    """Why time and cost are not known, where they are not."""


class ModelReport(Model):
    """What preflight saw of the base model."""

    parameters: int
    """Weights of the model."""
    layers: int
    """Transformer layers."""
    hidden_size: int
    """Width of a layer."""
    vocabulary: int
    """Tokens that it knows."""
    tuned_modules: Annotated[dict[str, int], Field(max_length=MAX_TUNED_MODULES)] = {}
    """Name of the linear layers whose weights are adapted or move in part -> how many of them there are; absent where
    all weights move, or none."""


class DataReport(Model):
    """What preflight saw in the rows. Shares are between 0 and 1, lengths in tokens."""

    rows_read: int
    """Rows in the dataset."""
    rows_refused: int = 0
    """Rows left out because they cannot be used (invalidRows: Skip)."""
    duplicates: int = 0
    """Rows that repeat an earlier one."""
    prompt_equals_completion: int = 0
    """Rows whose answer repeats the question."""
    chosen_equals_rejected: int = 0
    """Pairs whose two answers are the same."""
    leaked: int = 0
    """Rows taken out of training because they are held out as well."""
    held_out_rows: int = 0
    """Rows to judge by."""
    refusal_share: float = 0.0
    """Share of answers that refuse."""
    truncated_share: float = 0.0
    """Share of rows longer than maxLength: never cut, they are refused or left out."""
    trained_share: float = 0.0
    """Share of tokens that the loss counts."""
    length_p50: int = 0
    """Half of the rows are no longer than this."""
    length_p90: int = 0
    """Nine of ten rows are no longer than this."""
    length_p99: int = 0
    """99 of 100 rows are no longer than this."""
    length_max: int = 0
    """The longest row."""
    desirable_share: float | None = None
    """Share of desirable rows, for kto."""
    end_of_turn: Annotated[str, Field(max_length=64)] = ""
    """The token that ends an answer; it is trained."""
    default_system_prompt: Annotated[str, Field(max_length=200)] | None = None
    """What the chat template says where a row has no system message."""


class Progress(Model):
    """How far the training is."""

    stage: str
    """What the trainer does now: Loading, Evaluating, Training, Sampling (bestOf, and the first answers of
    grpo, rloo and ppo), Publishing."""
    step: int
    """Optimizer steps done; for bestOf prompts answered."""
    total_steps: int
    """Optimizer steps planned, for bestOf prompts."""
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


class GateResult(Model):
    """What a gate said of a result."""

    metric: str
    """What was judged."""
    bound: Literal["min", "max", "minGain", "maxRegression"]
    """How."""
    threshold: float
    """The gate's number."""
    value: float | None = None
    """The result's number, or its gain over the start; absent where it is not a number."""
    passed: bool
    """Whether the result is good enough."""


class EvaluationResult(Model):
    """The same measurement before and after training."""

    before: Metrics
    """The base model's metrics on the held-out rows."""
    after: Metrics
    """The result's metrics on the same rows."""
    rows: int
    """Number of held-out rows."""
    rows_digest: str | None = None
    """Digest of the held-out rows; none of them was trained on."""
    gates: Annotated[list[GateResult], Field(max_length=16)] = []
    """What each gate said."""


class Round(Model):
    """A round that was judged: one recipe, trained and measured."""

    round: int
    """Its number, counted from 0."""
    recipe_digest: str
    """Digest of its recipe."""
    artifact_digest: str | None = None
    """Digest of its result."""
    gates: Annotated[list[GateResult], Field(max_length=16)] = []
    """What each gate said."""


class NamedCheckpoint(Model):
    """A result that can be used by name."""

    name: str
    """best, final or step-N."""
    digest: str
    """Digest of its manifest; it lies beside the run's artifact."""


class MergedBase(Model):
    """The base model with this run's adapter merged into it, made once for everything that builds on it."""

    artifact_digest: str
    """Digest of the adapter."""
    uri: str
    """Folder of the merged model."""
    digest: str
    """Digest of the merged model."""


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
    parents: Annotated[dict[str, str], Field(max_length=64)] = {}
    """Where in the recipe another run is named -> digest of that run's result."""
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
    """One word for people, derived from the conditions: Pending, Waiting, Merging, Preflight, Training,
    Succeeded, Rejected or Failed."""
    conditions: Annotated[list[Condition], list_map("type", max_items=32)] = []
    """Validated, Trained, Evaluated, Accepted, Succeeded, Ready; Merged where others build on its adapter, which is
    merged into its base; Reconciling and Stalled only while they hold."""
    resolved: (
        Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})] | None
    ) = None
    """The recipe with every default filled in, frozen at the first reconcile."""
    display: Display | None = None
    """Texts for the printed columns."""
    round: Annotated[int, Field(ge=0)] = 0
    """The round that runs or ran last, counted from 0."""
    rounds: Annotated[list[Round], Field(max_length=16)] = []
    """The rounds that were judged."""
    estimate: Estimate | None = None
    """What preflight computed."""
    model: ModelReport | None = None
    """What preflight saw of the base model."""
    data: DataReport | None = None
    """What preflight saw in the rows; preflight.json in the output holds more."""
    mask: Annotated[str, Field(max_length=1024)] | None = None
    """One row as the trainer sees it; the text that the loss counts stands between ⟦ and ⟧."""
    warnings: Annotated[list[str], Field(max_length=8)] = []
    """What preflight found odd but not wrong."""
    progress: Progress | None = None
    """How far the training is."""
    metrics: Metrics | None = None
    """The trainer's latest metrics."""
    health: Annotated[list[HealthFinding], Field(max_length=8)] = []
    """The rules of spec.health that are broken; each is a condition too."""
    evaluation: EvaluationResult | None = None
    """The measurement before and after."""
    artifact: ArtifactSummary | None = None
    """The published result."""
    checkpoints: Annotated[list[NamedCheckpoint], Field(max_length=16)] = []
    """Results from the middle of the training, by name. Where the run was not accepted, AdapterDeployments load them by
    uri and digest only."""
    merged_bases: Annotated[list[MergedBase], Field(max_length=17)] = []
    """The merged models that other objects build on."""
    lineage: Lineage | None = None
    """Where the result comes from."""
    finished_at: datetime | None = None
    """When the run ended."""
