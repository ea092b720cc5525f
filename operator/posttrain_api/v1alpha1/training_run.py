"""TrainingRun: a base model, a task and a method."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from posttrain_api.meta import KeyReference, ObjectMeta, PodResources, PodTemplate
from posttrain_api.model import Model, exactly_one, immutable, rule, rules
from posttrain_api.uri import ReadableUri, WritableUri
from posttrain_api.v1alpha1.training_run_status import TrainingRunStatus

KIND = "TrainingRun"
PLURAL = "trainingruns"
MAX_NAME_LENGTH = 40
DEFAULT_CLAIM = "posttrain-artifacts"

Method = Literal["sft"]
Metric = Literal["loss", "tokenAccuracy", "exactMatch"]


class BaseModelSource(Model):
    """The model that training starts from."""

    uri: ReadableUri
    """Folder of a transformers checkpoint: pvc://claim/path, or file:///path in the image."""


class Dataset(Model):
    """Rows of JSON, one a line. Each row has `messages`, or `prompt` and `completion`, or `instruction` and `output`
    (alpaca, with an optional `input`), or `text`."""

    model_config = ConfigDict(json_schema_extra=rules(exactly_one("uri", "configMap")))

    uri: ReadableUri | None = None
    """A JSON Lines file: pvc://claim/path, or file:///path in the image."""
    config_map: KeyReference | None = None
    """A key of a ConfigMap that holds JSON Lines."""

    @model_validator(mode="after")
    def _one_source(self) -> "Dataset":
        if (self.uri is None) == (self.config_map is None):
            raise ValueError("give exactly one of uri, configMap")
        return self


class ChatTemplate(Model):
    """A Jinja chat template, saved with the artifact and used wherever it is served."""

    model_config = ConfigDict(json_schema_extra=rules(exactly_one("inline", "configMap")))

    inline: Annotated[str, Field(min_length=1, max_length=65536)] | None = None
    """The template itself."""
    config_map: KeyReference | None = None
    """A key of a ConfigMap that holds it."""

    @model_validator(mode="after")
    def _one_source(self) -> "ChatTemplate":
        if (self.inline is None) == (self.config_map is None):
            raise ValueError("give exactly one of inline, configMap")
        return self


class Environment(Model):
    """The task: its data and how a conversation is written. Shared unchanged by training and evaluation."""

    dataset: Dataset
    """The rows to learn from."""
    system_prompt: Annotated[str, Field(min_length=1, max_length=16384)] | None = None
    """System message put before every conversation that has none."""
    chat_template: ChatTemplate | None = None
    """The chat template; left out: the base model's own."""


class Lora(Model):
    """Low-rank adaptation: small matrices beside frozen weights."""

    rank: Annotated[int, Field(ge=1, le=512)] = 16
    """Rank of the matrices."""
    alpha: Annotated[float, Field(gt=0, le=4096)] = 32.0
    """Scale: the update counts alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the adapter's inputs that is dropped while it trains."""
    target_modules: Annotated[list[Annotated[str, Field(min_length=1, max_length=128)]], Field(max_length=64)] = []
    """Names of the linear layers to adapt, such as q_proj; empty: all linear layers but the output head."""


class Tuning(Model):
    """Which weights move."""

    lora: Lora = Lora()
    """Low-rank adaptation."""


class Hyperparameters(Model):
    """Numbers of the training, under TRL's names."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("!(has(self.epochs) && has(self.maxSteps))", "give epochs or maxSteps, not both: remove one")
        )
    )

    epochs: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Passes over the data; 3 where maxSteps is not given either."""
    max_steps: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Optimizer steps, instead of epochs."""
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    """Highest learning rate; left out, it depends on method and tuning: 2e-4 for sft with LoRA."""
    effective_batch_size: Annotated[int, Field(ge=1, le=65536)] = 16
    """Rows in each optimizer step, over all GPUs."""
    max_length: Annotated[int, Field(ge=8, le=1_048_576)] = 2048
    """Longest conversation, in tokens; a longer row is refused by preflight, never cut."""
    warmup_steps: Annotated[float, Field(ge=0, le=1_000_000)] = 0.03
    """Steps until the learning rate is at its highest; below 1: share of all steps."""
    scheduler: Literal["linear", "cosine", "constant"] = "cosine"
    """How the learning rate falls after the warm-up."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """AdamW's weight decay."""
    max_grad_norm: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """Gradients longer than this are scaled down to it."""
    gradient_checkpointing: bool = True
    """Compute activations again in the backward pass: less memory, about a third more time."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Precision of the computation; auto: bf16 on a GPU, fp32 on a CPU."""
    seed: Annotated[int, Field(ge=0, le=4_294_967_295)] = 42
    """Seed of everything random."""

    @model_validator(mode="after")
    def _one_length(self) -> "Hyperparameters":
        if self.epochs is not None and self.max_steps is not None:
            raise ValueError("give epochs or maxSteps, not both: remove one")
        return self


class Evaluation(Model):
    """How the result is judged: the same measurement before and after training, on rows that are not trained on."""

    dataset: Dataset | None = None
    """The held-out rows; left out: 5 % of the rows (1 to 500), chosen by the seed and taken out of training."""
    metrics: Annotated[
        list[Metric], Field(min_length=1, max_length=3, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = ["loss", "tokenAccuracy"]
    """loss: nats per trained token. tokenAccuracy: share of trained tokens that are the likeliest. exactMatch: share of
    rows whose last answer is generated to the letter (greedy)."""


class Output(Model):
    """Where the artifact is published."""

    uri: WritableUri = f"pvc://{DEFAULT_CLAIM}"
    """A folder on a claim: pvc://claim/path. The claim posttrain-artifacts is made where it does not exist."""


class Resources(PodResources):
    """What the training pod gets."""

    gpus: Annotated[int, Field(ge=0, le=1)] = 1
    """Number of GPUs: 1, or 0 to train on the CPU."""


class ResolvedHyperparameters(Hyperparameters):
    """Hyperparameters with nothing left to decide."""

    learning_rate: Annotated[float, Field(gt=0, le=1)]


class Recipe(Model):
    """What determines the result of a run, every default filled in. Frozen at the first reconcile."""

    method: Method
    base_model: BaseModelSource
    environment: Environment
    tuning: Tuning
    hyperparameters: ResolvedHyperparameters
    evaluation: Evaluation
    output: Output


_BF16_NEEDS_A_GPU = "hyperparameters.precision bf16 needs a GPU: write auto or fp32, or resources.gpus: 1"


class TrainingRunSpec(Model):
    """What to train. The recipe cannot be changed once it is created; how it is run can."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            immutable("method", required=True),
            immutable("baseModel", required=True),
            immutable("environment", required=True),
            immutable("tuning"),
            immutable("hyperparameters"),
            immutable("evaluation"),
            immutable("preflight"),
            immutable("output"),
            rule("self.hyperparameters.precision != 'bf16' || self.resources.gpus > 0", _BF16_NEEDS_A_GPU),
        )
    )

    method: Method
    """How the model learns: sft is supervised fine-tuning on the assistant's turns."""
    base_model: BaseModelSource
    """The model that training starts from."""
    environment: Environment
    """The task: data and how a conversation is written."""
    tuning: Tuning = Tuning()
    """Which weights move; LoRA with its defaults where nothing is said."""
    hyperparameters: Hyperparameters = Hyperparameters()
    """Numbers of the training."""
    evaluation: Evaluation = Evaluation()
    """How the result is judged."""
    preflight: Literal["Required", "Skip"] = "Required"
    """Required: a Job without GPU reads every row before a GPU is taken. Skip: train at once."""
    output: Output = Output()
    """Where the artifact is published."""
    resources: Resources = Resources()
    """What the training pod gets."""
    pod_template: PodTemplate = PodTemplate()
    """What the pods look like, over the chart's default."""
    deadline_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = None
    """Seconds that the training Job may take, waiting for a node included; then the run fails with DeadlineExceeded."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=315_360_000)] | None = None
    """Seconds after which a finished run is deleted, with its pods and logs; its artifact stays."""

    @model_validator(mode="after")
    def _precision_fits(self) -> "TrainingRunSpec":
        if self.hyperparameters.precision == "bf16" and not self.resources.gpus:
            raise ValueError(_BF16_NEEDS_A_GPU)
        return self

    def recipe(self) -> Recipe:
        """The part that determines the result, with every default filled in."""
        given = self.hyperparameters
        epochs = 3.0 if given.epochs is None and given.max_steps is None else given.epochs
        rate = 2e-4 if given.learning_rate is None else given.learning_rate
        chosen = {**given.model_dump(by_alias=False), "epochs": epochs, "learning_rate": rate}
        return Recipe(
            method=self.method,
            base_model=self.base_model,
            environment=self.environment,
            tuning=self.tuning,
            hyperparameters=ResolvedHyperparameters(**chosen),
            evaluation=self.evaluation,
            output=self.output,
        )


class TrainingRun(Model):
    """A TrainingRun teaches a base model a task: it checks the data, trains in a Job, judges the result on held-out
    rows and publishes it under its digest."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra=rules(
            rule(
                f"size(self.metadata.name) <= {MAX_NAME_LENGTH}",
                f"metadata.name is at most {MAX_NAME_LENGTH} characters: the names of Jobs are made from it",
            )
        ),
    )

    metadata: ObjectMeta
    spec: TrainingRunSpec
    """What to train."""
    status: TrainingRunStatus = TrainingRunStatus()
    """What was observed."""
