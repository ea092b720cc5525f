"""TrainingRun: a base model, a task and a method."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from posttrain_api.meta import ObjectMeta, PodResources, PodTemplate
from posttrain_api.model import Check, Model, exactly_one, immutable, rule, rules
from posttrain_api.uri import ReadableUri, WritableUri
from posttrain_api.v1alpha1.environment import Environment, Reward
from posttrain_api.v1alpha1.evaluation import Evaluation, ResolvedEvaluation, default_metrics
from posttrain_api.v1alpha1.health import Health
from posttrain_api.v1alpha1.hyperparameters import (
    Hyperparameters,
    ResolvedHyperparameters,
    effective_batch_size,
    epochs,
    learning_rate,
)
from posttrain_api.v1alpha1.methods import (
    RL,
    TRAINING,
    BestOf,
    Distill,
    Dpo,
    Grpo,
    Kto,
    Merge,
    Method,
    Orpo,
    Ppo,
    RewardTraining,
    Rloo,
    Sft,
    SimPo,
)
from posttrain_api.v1alpha1.references import CheckpointReference
from posttrain_api.v1alpha1.round_checks import ROUND_CHECKS
from posttrain_api.v1alpha1.training_run_checks import BLOCKS, SPEC_CHECKS
from posttrain_api.v1alpha1.training_run_status import TrainingRunStatus
from posttrain_api.v1alpha1.tuning import Lora, Tuning

KIND = "TrainingRun"
PLURAL = "trainingruns"
MAX_NAME_LENGTH = 40
DEFAULT_CLAIM = "posttrain-artifacts"
BLOCK_TYPES: dict[str, type[Model]] = {
    "sft": Sft,
    "dpo": Dpo,
    "simpo": SimPo,
    "orpo": Orpo,
    "kto": Kto,
    "reward": RewardTraining,
    "distill": Distill,
    "grpo": Grpo,
    "rloo": Rloo,
    "ppo": Ppo,
    "best_of": BestOf,
    "merge": Merge,
}
"""Attribute of a method's block -> its type."""
BLOCK_OF = {method: "best_of" if method == "bestOf" else method for method in BLOCKS}
"""Method -> attribute of its block."""


class Output(Model):
    """Where the artifact is published."""

    uri: WritableUri = f"pvc://{DEFAULT_CLAIM}"
    """A folder on a claim: pvc://claim/path. The claim posttrain-artifacts is made where it does not exist."""


class Resources(PodResources):
    """What the training pod gets."""

    gpus: Annotated[int, Field(ge=0, le=1)] = 1
    """Number of GPUs: 1, or 0 to train on the CPU."""


class BaseModelSource(Model):
    """The model that training starts from."""

    checks: ClassVar[tuple[Check, ...]] = (exactly_one("uri", "fromRun"),)

    uri: ReadableUri | None = None
    """Folder of a transformers checkpoint: pvc://claim/path, or file:///path in the image."""
    from_run: CheckpointReference | None = None
    """The accepted result of another run: a whole model as it is, an adapter merged into its base once for all."""
    tuned: bool = False
    """Says that the model of a uri follows instructions already; the result of another run counts as tuned."""


class Checkpoints(Model):
    """Named results published beside the run's result: step-N from the middle of the training, and final, which is the
    result itself unless early stopping keeps best."""

    every_steps: Annotated[int, Field(ge=1, le=10_000_000)]
    """Publish step-N after each so many optimizer steps."""
    keep: Annotated[int, Field(ge=1, le=8)] = 2
    """So many of the newest are named in status.checkpoints; the folders of older ones are removed."""


class Methods(Model):
    """The blocks of settings, one for each method that has any."""

    sft: Sft | None = None
    """Settings of sft."""
    dpo: Dpo | None = None
    """Settings of dpo."""
    simpo: SimPo | None = None
    """Settings of simpo."""
    orpo: Orpo | None = None
    """Settings of orpo."""
    kto: Kto | None = None
    """Settings of kto."""
    reward: RewardTraining | None = None
    """Settings of reward."""
    distill: Distill | None = None
    """Settings of distill: the teacher."""
    grpo: Grpo | None = None
    """Settings of grpo."""
    rloo: Rloo | None = None
    """Settings of rloo."""
    ppo: Ppo | None = None
    """Settings of ppo."""
    best_of: BestOf | None = None
    """Settings of bestOf."""
    merge: Merge | None = None
    """Settings of merge: the adapters."""


class Recipe(Methods):
    """What determines the result of a run, every default filled in: the block of the method is there, and no other.
    Frozen at the first reconcile."""

    checks: ClassVar[tuple[Check, ...]] = ROUND_CHECKS

    method: Method
    base_model: BaseModelSource
    environment: Environment
    tuning: Tuning
    """Exactly one for a method that trains, none for another."""
    hyperparameters: ResolvedHyperparameters
    evaluation: ResolvedEvaluation
    health: Health | None = None
    """For grpo, rloo and ppo."""
    output: Output

    @property
    def answering(self) -> Grpo | Rloo | Ppo | None:
        """The block of a method that learns from the scores of its own answers."""
        return self.grpo or self.rloo or self.ppo


class TrainingRunSpec(Methods):
    """What to train. The recipe cannot be changed once it is created; how it is run can."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            immutable("method", required=True),
            immutable("baseModel", required=True),
            immutable("allowUntunedBase"),
            immutable("environment", required=True),
            immutable("tuning"),
            immutable("hyperparameters"),
            *(immutable(name) for name in BLOCKS),
            immutable("evaluation"),
            immutable("health"),
            immutable("preflight"),
            immutable("output"),
        )
    )
    checks: ClassVar[tuple[Check, ...]] = SPEC_CHECKS

    method: Method
    """How the model learns. sft: from answers. dpo, simpo, orpo: from pairs of a better and a worse answer. kto: from
    answers that are good or bad on their own. reward: a scoring model from pairs. distill: from a teacher model. grpo,
    rloo, ppo: from the scores of its own answers. bestOf: makes a dataset of a model's best answers. merge: combines
    adapters without training."""
    base_model: BaseModelSource
    """The model that training starts from."""
    allow_untuned_base: bool = False
    """dpo, simpo, kto, grpo, rloo and ppo refuse a base that was never tuned; true: they take it."""
    environment: Environment
    """The task: data, how a conversation is written and how an answer is scored."""
    tuning: Tuning = Tuning()
    """Which weights move; LoRA with its defaults where the method trains and nothing is said."""
    hyperparameters: Hyperparameters = Hyperparameters()
    """Numbers of the training."""
    evaluation: Evaluation = Evaluation()
    """How the result is judged."""
    health: Health | None = None
    """What follows where the training of grpo, rloo or ppo goes wrong."""
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
    checkpoints: Checkpoints | None = None
    """Results from the middle of the training that can be used by name."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=315_360_000)] | None = None
    """Seconds after which a finished run is deleted, with its pods and logs; its artifact stays. Later where its
    adapter is being merged, or another object waits for it."""

    @model_validator(mode="after")
    def _patch_fits(self) -> Self:
        if self.evaluation.on_failure.action == "Retrain":
            try:
                self.recipe(round=1)
            except ValidationError as error:
                faults = (": ".join(filter(None, [".".join(map(str, e["loc"])), e["msg"]])) for e in error.errors())
                raise ValueError(f"evaluation.onFailure.patch: {'; '.join(faults)}") from error
        return self

    def recipe(self, *, round: int = 0) -> Recipe:
        """The part that determines the result of a round, with every default filled in."""
        hyperparameters = self._patched(self.hyperparameters, "hyperparameters", round)
        return Recipe(
            method=self.method,
            base_model=self.base_model,
            environment=self._environment(),
            tuning=self._tuning(),
            hyperparameters=self._resolved(hyperparameters, round),
            evaluation=self._evaluation(),
            health=(self.health or Health()) if self.method in RL else None,
            output=self.output,
            **self._block(round),
        )

    def _environment(self) -> Environment:
        """A package scores its own rows where nothing else does."""
        given = self.environment
        is_open = given.dataset.package is not None and not given.rewards
        return given.replace(rewards=[Reward(builtin="verifier")]) if is_open else given

    def _tuning(self) -> Tuning:
        is_said = any((self.tuning.lora, self.tuning.full, self.tuning.osft, self.tuning.prompt_tuning))
        return self.tuning if is_said or self.method not in TRAINING else Tuning(lora=Lora())

    def _resolved(self, given: dict[str, Any], round: int) -> ResolvedHyperparameters:
        chosen: dict[str, Any] = {"epochs": epochs(self.method)} if not {"epochs", "maxSteps"} & given.keys() else {}
        tuning = next(iter(self._tuning().to_json()), "lora")
        chosen["effectiveBatchSize"] = effective_batch_size(self.method)
        rate = learning_rate(self.method, tuning=tuning) if self.method in TRAINING else 1.0
        # Each round after the first is another draw, also where nothing is patched.
        seed = (given.get("seed", Hyperparameters().seed) + round) % 2**32
        return ResolvedHyperparameters.model_validate({"learningRate": rate, **chosen, **given, "seed": seed})

    def _evaluation(self) -> ResolvedEvaluation:
        return ResolvedEvaluation.model_validate({"metrics": default_metrics(self.method), **self.evaluation.to_json()})

    def _block(self, round: int) -> dict[str, Any]:
        name = BLOCK_OF[self.method]
        kind = BLOCK_TYPES[name]
        given = getattr(self, name)
        return {name: kind.model_validate(self._patched(kind() if given is None else given, name, round))}

    def _patched(self, given: Model, name: str, round: int) -> dict[str, Any]:
        patch = getattr(self.evaluation.on_failure.patch, name, None) if round else None
        content = given.to_json()
        if patch and {"epochs", "maxSteps"} & patch.keys():
            content = {key: value for key, value in content.items() if key not in ("epochs", "maxSteps")}
        return {**content, **(patch or {})}


class TrainingRun(Model):
    """A TrainingRun teaches a base model a task: it checks the data, trains in a Job, judges the result on held-out
    rows and publishes it under its digest."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra=rules(
            rule(
                f"size(self.metadata.name) <= {MAX_NAME_LENGTH}",
                f"metadata.name is at most {MAX_NAME_LENGTH} characters: the names of Jobs are made from it",
            ),
            rule(
                "!has(self.spec.baseModel.fromRun) || self.spec.baseModel.fromRun.name != self.metadata.name",
                "baseModel.fromRun names the run itself: name the run that comes before it",
            ),
        ),
    )

    metadata: ObjectMeta
    spec: TrainingRunSpec
    """What to train."""
    status: TrainingRunStatus = TrainingRunStatus()
    """What was observed."""
