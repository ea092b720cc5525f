"""The parts of Kubernetes' own types that we read or let users write: metadata, and a cut-down pod template."""

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from posttrain_api.model import Check, Model, exactly_one, list_map

Quantity = Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$", max_length=32)]
Name = Annotated[str, Field(min_length=1, max_length=253)]


class ObjectMeta(Model):
    """What we read of an object's metadata; the rest is ignored."""

    model_config = ConfigDict(extra="ignore")

    name: str
    namespace: str
    uid: str
    generation: int = 1
    labels: dict[str, str] = {}
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None


class LocalReference(Model):
    """The name of another object of the same namespace."""

    name: Name
    """Name of the object, in the same namespace."""


class KeyReference(Model):
    """One key of a ConfigMap of the same namespace."""

    name: Name
    """Name of the ConfigMap, in the same namespace."""
    key: Name
    """The key in it."""


class SecretKeyReference(Model):
    """One key of a Secret of the same namespace."""

    name: Name
    """Name of the Secret, in the same namespace."""
    key: Name
    """The key in it."""


class EnvVarSource(Model):
    """Where an environment variable's value comes from."""

    checks: ClassVar[tuple[Check, ...]] = (exactly_one("secretKeyRef", "configMapKeyRef"),)

    secret_key_ref: SecretKeyReference | None = None
    """A key of a Secret."""
    config_map_key_ref: KeyReference | None = None
    """A key of a ConfigMap."""


class EnvVar(Model):
    """An environment variable of the main container."""

    checks: ClassVar[tuple[Check, ...]] = (exactly_one("value", "valueFrom"),)

    name: Name
    """Name of the variable."""
    value: Annotated[str, Field(max_length=32768)] | None = None
    """Its value, as plain text. For anything secret use valueFrom.secretKeyRef."""
    value_from: EnvVarSource | None = None
    """Where its value comes from."""


class Toleration(Model):
    """A taint that the pod tolerates, as in core/v1."""

    key: str | None = None
    """The taint's key; left out: every key."""
    operator: Literal["Equal", "Exists"] | None = None
    """How key and value are compared."""
    value: str | None = None
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """The taint's effect; left out: every effect."""
    toleration_seconds: int | None = None
    """For NoExecute: how long the pod stays."""


class ConfigMapVolume(Model):
    """A ConfigMap as files."""

    name: Name
    """Name of the ConfigMap."""


class SecretVolume(Model):
    """A Secret as files."""

    secret_name: Name
    """Name of the Secret."""


class ClaimVolume(Model):
    """A PersistentVolumeClaim."""

    claim_name: Name
    """Name of the claim."""
    read_only: bool | None = None
    """Mount it read-only."""


class EmptyDirVolume(Model):
    """A folder that lives as long as the pod."""

    medium: Literal["", "Memory"] | None = None
    """`Memory` for a folder in RAM."""
    size_limit: str | None = None
    """The most it may hold, such as 1Gi."""


class Volume(Model):
    """A volume of one of the kinds that give no access to the node."""

    checks: ClassVar[tuple[Check, ...]] = (exactly_one("configMap", "secret", "persistentVolumeClaim", "emptyDir"),)

    name: Name
    """Name by which volumeMounts refer to it."""
    config_map: ConfigMapVolume | None = None
    """A ConfigMap as files."""
    secret: SecretVolume | None = None
    """A Secret as files."""
    persistent_volume_claim: ClaimVolume | None = None
    """A PersistentVolumeClaim."""
    empty_dir: EmptyDirVolume | None = None
    """A folder that lives as long as the pod."""


class VolumeMount(Model):
    """Where a volume appears in the main container."""

    name: Name
    """Name of the volume."""
    mount_path: Annotated[str, Field(min_length=1, max_length=512)]
    """Path in the container."""
    read_only: bool | None = None
    """Mount it read-only."""


class PodTemplate(Model):
    """What a user may say of the pods, over the chart's default. No field gives access to the node or to the API."""

    image: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """Image in place of the chart's."""
    image_pull_secrets: Annotated[list[LocalReference], list_map("name", max_items=16)] | None = None
    """Secrets with which the image is pulled."""
    node_selector: dict[str, str] | None = None
    """Labels that the node must have."""
    tolerations: Annotated[list[Toleration], Field(max_length=64)] | None = None
    """Taints that the pod tolerates."""
    affinity: (
        Annotated[dict[str, Any], Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})] | None
    ) = None
    """Affinity as in core/v1."""
    env: Annotated[list[EnvVar], list_map("name", max_items=128)] | None = None
    """Environment variables of the main container."""
    volumes: Annotated[list[Volume], list_map("name", max_items=32)] | None = None
    """Further volumes."""
    volume_mounts: Annotated[list[VolumeMount], list_map("mountPath", max_items=32)] | None = None
    """Where the main container mounts them."""
    service_account_name: Name | None = None
    """Service account of the pod; its API token is never mounted."""
    priority_class_name: Name | None = None
    """Priority class of the pod."""
    runtime_class_name: Name | None = None
    """Runtime class of the pod, such as nvidia."""


class PodResources(Model):
    """What the main container of a pod gets, beside its GPUs."""

    gpu_resource_name: Annotated[str, Field(min_length=3, max_length=253)] = "nvidia.com/gpu"
    """The extended resource that stands for a GPU."""
    cpu: Quantity | None = None
    """CPU request, such as "4"."""
    memory: Quantity | None = None
    """Memory request and limit, such as 32Gi."""
    shared_memory: Quantity = "1Gi"
    """The most that /dev/shm may hold."""
