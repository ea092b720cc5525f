"""AdapterDeployment: adapters of one base model, served on vLLM behind the OpenAI API, and what was proven of them."""

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from posttrain_api.artifact import Digest
from posttrain_api.conditions import Condition
from posttrain_api.meta import ObjectMeta, PodResources, PodTemplate
from posttrain_api.model import Check, Model, exactly_one, list_map, rule, rules
from posttrain_api.uri import ReadableUri
from posttrain_api.v1alpha1.environment import ChatTemplate
from posttrain_api.v1alpha1.references import CheckpointReference

KIND = "AdapterDeployment"
PLURAL = "adapterdeployments"
MAX_NAME_LENGTH = 40
BASE_NAME = "base"

AdapterName = Annotated[
    str,
    Field(
        max_length=63,
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$",
        json_schema_extra=rules(rule(f"self != '{BASE_NAME}'", "base is the name of the base model: choose another")),
    ),
]
AdapterState = Literal["Pending", "Loading", "Loaded", "Failed"]
MaxRank = Literal[8, 16, 32, 64, 128, 256, 320, 512]


class ServedBase(Model):
    """The model under the adapters."""

    checks: ClassVar[tuple[Check, ...]] = (exactly_one("uri", "fromRun"),)

    uri: ReadableUri | None = None
    """Folder of a transformers checkpoint: pvc://claim/path, or file:///path in the image. A reward model answers with
    scores; what was published is served only while its files are those of its digest."""
    from_run: CheckpointReference | None = None
    """The accepted result of a TrainingRun of this namespace: a whole model as it is, an adapter merged into its base,
    or a reward model, which answers with scores. A new result restarts the pods."""

    @property
    def location(self) -> str:
        """Its folder, once a run that it names is resolved to one."""
        assert self.uri is not None, "baseModel.fromRun is not resolved"
        return self.uri


class Adapter(Model):
    """An adapter and the name that clients call it by."""

    checks: ClassVar[tuple[Check, ...]] = (
        exactly_one("fromRun", "uri"),
        Check(
            "has(self.uri) == has(self.digest)",
            lambda adapter: (adapter.uri is None) == (adapter.digest is None),
            "an adapter from a uri needs its digest (of its manifest.json), one from a run has its own",
        ),
    )

    name: AdapterName
    """The model name that clients send."""
    from_run: CheckpointReference | None = None
    """A TrainingRun of this namespace; its accepted result is loaded as soon as there is one."""
    uri: ReadableUri | None = None
    """An artifact's folder, with its manifest.json."""
    digest: Digest | None = None
    """Digest of the manifest.json in that folder; other bytes are never served."""

    @model_validator(mode="after")
    def _no_base(self) -> "Adapter":
        if self.name == BASE_NAME:
            raise ValueError("base is the name of the base model: choose another")
        return self


class Engine(Model):
    """Settings of vLLM. They are never derived from the adapters of the moment: a change restarts the pods."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "self.maxCachedAdapters >= self.maxLoadedAdapters",
            lambda engine: engine.max_cached_adapters >= engine.max_loaded_adapters,
            "maxCachedAdapters counts the loaded ones too: make it at least maxLoadedAdapters",
        ),
    )

    max_rank: MaxRank = 64
    """Largest LoRA rank that can be loaded."""
    max_loaded_adapters: Annotated[int, Field(ge=1, le=256)] = 8
    """Adapters that one batch may use at once; each takes GPU memory."""
    max_cached_adapters: Annotated[int, Field(ge=1, le=256)] = 32
    """Adapters kept in memory; no more can be deployed, and a swap needs one place more."""
    max_model_length: Annotated[int, Field(ge=8, le=10_485_760)] | None = None
    """Longest request with its answer, in tokens; left out: the base model's."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the weights; auto: that of the base model's checkpoint."""
    chat_template: ChatTemplate | None = None
    """Chat template for requests to the base, where its tokenizer has none; adapters bring their own."""


class ServerResources(PodResources):
    """What each server pod gets."""

    gpus: Annotated[int, Field(ge=0, le=64)] = 1
    """Number of GPUs; 0 serves from the CPU."""


class AdapterDeploymentSpec(Model):
    """What to serve."""

    checks: ClassVar[tuple[Check, ...]] = (
        Check(
            "!has(self.adapters) || !has(self.engine) || size(self.adapters) <= self.engine.maxCachedAdapters",
            lambda spec: len(spec.adapters) <= spec.engine.max_cached_adapters,
            "more adapters than engine.maxCachedAdapters: raise it",
        ),
    )

    base_model: ServedBase
    """The model under the adapters; clients reach it as `base`."""
    adapters: Annotated[list[Adapter], list_map("name", max_items=256)] = []
    """The adapters, told apart by name."""
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Number of server pods, each with every adapter."""
    engine: Engine = Engine()
    """Settings of vLLM."""
    resources: ServerResources = ServerResources()
    """What each server pod gets."""
    pod_template: PodTemplate = PodTemplate()
    """What the pods look like, over the chart's default."""


class AdapterStatus(Model):
    """What was observed of one adapter."""

    name: str
    """The model name that clients send."""
    digest: str | None = None
    """Digest of the artifact that is wanted."""
    previous_digest: str | None = None
    """Digest that is still served somewhere while the wanted one is not proven on every replica."""
    state: AdapterState
    """Loaded: proven on every replica, by digest and by behaviour."""
    loaded_replicas: int = 0
    """Replicas that proved the wanted digest."""
    total_replicas: int = 0
    """Replicas that are wanted."""
    reason: str | None = None
    """Why it is not loaded, as one word."""
    message: str | None = None
    """Why it is not loaded, for people."""


class PodAdapter(Model):
    """An adapter on one pod."""

    name: str
    """The model name that clients send."""
    digest: str
    """The digest that answers under it."""
    proven_at: datetime
    """When its behaviour was proven."""


class PodStatus(Model):
    """What one server pod proved."""

    name: str
    """Name of the pod."""
    uid: str
    """UID of the pod."""
    restart_count: int = 0
    """How often its engine container was started again."""
    adapters: Annotated[list[PodAdapter], Field(max_length=256)] = []
    """The adapters that answer on it."""


class DeploymentDisplay(Model):
    """Texts for the printed columns, which cannot format."""

    base: str = ""
    """The base model's uri, or run:NAME, or run:NAME/CHECKPOINT."""
    adapters: str = ""
    """Adapters loaded of all, such as 2/2."""
    replicas: str = ""
    """Replicas ready of all, such as 2/2."""
    ready: str = ""
    """Status of the condition Ready."""
    reason: str = ""
    """Why it is not ready."""


class AdapterDeploymentStatus(Model):
    """What was observed of a deployment. `Ready` means: each adapter's own weights answer on every replica."""

    observed_generation: int = -1
    """The generation of the spec that this status speaks of."""
    phase: Annotated[str, Field(max_length=32)] | None = None
    """One word for people, derived from the conditions: Pending, Starting, Loading, Ready, Stopped or Failed."""
    conditions: Annotated[list[Condition], list_map("type", max_items=32)] = []
    """Resolved, Compatible, CapacityOK, Available, AdaptersLoaded, Ready; Reconciling and Stalled while they hold."""
    url: str | None = None
    """Base URL for OpenAI clients inside the cluster."""
    selector: str | None = None
    """Label selector of the server pods, for the scale subresource."""
    display: DeploymentDisplay | None = None
    """Texts for the printed columns."""
    replicas: int = 0
    """Server pods that exist."""
    ready_replicas: int = 0
    """Server pods that take requests."""
    adapters: Annotated[list[AdapterStatus], list_map("name", max_items=256)] = []
    """The adapters as observed on all replicas."""
    pods: Annotated[list[PodStatus], Field(max_length=32)] = []
    """The first 32 server pods and what each proved."""


class AdapterDeployment(Model):
    """An AdapterDeployment serves adapters of one base model on vLLM behind the OpenAI API; a run's accepted result is
    loaded on every replica without a restart."""

    model_config = ConfigDict(
        extra="ignore",
        json_schema_extra=rules(
            rule(
                f"size(self.metadata.name) <= {MAX_NAME_LENGTH}",
                f"metadata.name is at most {MAX_NAME_LENGTH} characters: the names of its children are made from it",
            )
        ),
    )

    metadata: ObjectMeta
    spec: AdapterDeploymentSpec
    """What to serve."""
    status: AdapterDeploymentStatus = AdapterDeploymentStatus()
    """What was observed."""
