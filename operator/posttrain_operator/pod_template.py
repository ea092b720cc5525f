"""Pieces that trainer and server pods share: the merged template, the restricted security context, claims, folders.

Pure. One place, so that no kind's pods get more rights than the other's.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from posttrain_api.meta import PodTemplate
from posttrain_api.trainer_contract import CONFIG_MAPS
from posttrain_api.uri import CLAIMS_ROOT
from posttrain_operator.actions import Manifest
from posttrain_operator.settings import Settings

TEMPORARY_FOLDER = "/tmp"
SHARED_MEMORY_FOLDER = "/dev/shm"
USER_ID = 65532
"""The user and group of every process of ours; claims should be writable for this group."""
_OF_CONTAINERS = frozenset({"image", "env", "volumeMounts", "volumes"})
"""Fields of a template that are not copied to the pod's spec as they are."""


class Needs(Protocol):
    """The part of either kind's `resources` that a container is made from."""

    @property
    def gpus(self) -> int:
        """Number of GPUs."""

    @property
    def gpu_resource_name(self) -> str:
        """The extended resource that stands for a GPU."""

    @property
    def cpu(self) -> str | None:
        """CPU request."""

    @property
    def memory(self) -> str | None:
        """Memory request and limit."""


def merged(own: PodTemplate, default: PodTemplate) -> PodTemplate:
    """The object's own template over the chart's default.

    Single values and affinity: the own one wins. Maps and named lists: joined, the own one wins for the same key.
    Tolerations: both.
    """
    under, over = default.to_json(), own.to_json()
    joined = {key: _joined(key, under[key], over[key]) for key in under.keys() & over.keys()}
    return PodTemplate.model_validate({**under, **over, **joined})


def _joined(key: str, under: Any, over: Any) -> Any:
    match key:
        case "nodeSelector":
            return {**under, **over}
        case "tolerations":
            return [*under, *(toleration for toleration in over if toleration not in under)]
        case "env" | "volumes" | "imagePullSecrets":
            return _joined_by("name", under, over)
        case "volumeMounts":
            return _joined_by("mountPath", under, over)
        case _:
            return over


def _joined_by(key: str, under: Iterable[Manifest], over: Iterable[Manifest]) -> list[Manifest]:
    return list({item[key]: item for item in [*under, *over]}.values())


def pod_spec(
    template: PodTemplate,
    *,
    containers: list[Manifest],
    volumes: list[Manifest],
    init_containers: Iterable[Manifest] = (),
    **extra: Any,
) -> Manifest:
    """The spec of a pod with a merged template: restricted, without an API token, our volumes and the template's."""
    chosen = template.to_json()
    init = list(init_containers)
    return {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": security_context(),
        **({"initContainers": init} if init else {}),
        "containers": containers,
        "volumes": [*volumes, *chosen.get("volumes", [])],
        **{name: value for name, value in chosen.items() if name not in _OF_CONTAINERS},
        **extra,
    }


def security_context() -> Manifest:
    """The security context of a pod, as Pod Security's `restricted` wants it."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER_ID,
        "runAsGroup": USER_ID,
        "fsGroup": USER_ID,
        # A claim may hold millions of files: they are not visited again at each start.
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security_context() -> Manifest:
    """The security context of a container, as Pod Security's `restricted` wants it, and with a read-only root."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def container(
    name: str,
    *,
    image: str,
    args: list[str],
    mounts: list[Manifest],
    settings: Settings,
    template: PodTemplate | None = None,
    env: Mapping[str, str] | None = None,
    **extra: Any,
) -> Manifest:
    """A container that runs its image's program; a template gives the main one its variables and mounts."""
    chosen = template.to_json() if template else {}
    # The root is read-only, and libraries write caches below HOME.
    own_env = [{"name": key, "value": value} for key, value in {"HOME": TEMPORARY_FOLDER, **(env or {})}.items()]
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": settings.image_pull_policy,
        "args": args,
        "env": _joined_by("name", own_env, chosen.get("env", [])),
        "volumeMounts": _joined_by("mountPath", mounts, chosen.get("volumeMounts", [])),
        "securityContext": container_security_context(),
        **extra,
    }


def image(template: PodTemplate, *, default: str) -> str:
    """The image of a pod's containers."""
    return template.image or default


def resource_requirements(needs: Needs) -> Manifest:
    """Requests and limits of a main container: memory is limited to what is requested, CPU is not limited."""
    gpus = {needs.gpu_resource_name: str(needs.gpus)} if needs.gpus else {}
    memory = {"memory": needs.memory} if needs.memory else {}
    cpu = {"cpu": needs.cpu} if needs.cpu else {}
    requirements = {"requests": {**cpu, **memory, **gpus}, "limits": {**memory, **gpus}}
    return {key: value for key, value in requirements.items() if value}


def claim_volume(claim: str) -> Manifest:
    """The volume of a claim; whether it may be written is said where it is mounted."""
    return {"name": _claim_volume_name(claim), "persistentVolumeClaim": {"claimName": claim}}


def claim_mount(claim: str, *, read_only: bool, path: str = "") -> Manifest:
    """The mount of a claim, or of nothing but a path in it, at the path that `uri.local_path` names."""
    mounted = mount(_claim_volume_name(claim), str(CLAIMS_ROOT / claim / path), read_only=read_only)
    return {**mounted, "subPath": path} if path else mounted


def _claim_volume_name(claim: str) -> str:
    return f"claim-{_short(claim)}"


def config_map_volume(name: str) -> Manifest:
    """The volume of a ConfigMap."""
    return {"name": _config_map_volume_name(name), "configMap": {"name": name}}


def config_map_mount(name: str) -> Manifest:
    """The mount of a ConfigMap at the path where `trainer_contract.config_map_path` looks."""
    return mount(_config_map_volume_name(name), str(CONFIG_MAPS / name), read_only=True)


def _config_map_volume_name(name: str) -> str:
    return f"config-map-{_short(name)}"


def _short(name: str) -> str:
    # An object's name may be longer than a volume's and hold dots.
    return hashlib.sha256(name.encode()).hexdigest()[:10]


def mount(name: str, path: str, *, read_only: bool = False) -> Manifest:
    """The mount of one of the pod's volumes."""
    return {"name": name, "mountPath": path, **({"readOnly": True} if read_only else {})}


def folder(name: str, *, memory: bool = False, size_limit: str | None = None) -> Manifest:
    """An empty folder that lives as long as the pod."""
    medium = {"medium": "Memory"} if memory else {}
    limit = {"sizeLimit": size_limit} if size_limit else {}
    return {"name": name, "emptyDir": {**medium, **limit}}


def scratch_volumes(shared_memory: str) -> list[Manifest]:
    """The volumes behind /tmp and /dev/shm."""
    return [folder("posttrain-tmp"), folder("posttrain-shm", memory=True, size_limit=shared_memory)]


def scratch_mounts() -> list[Manifest]:
    """/tmp and /dev/shm."""
    return [mount("posttrain-tmp", TEMPORARY_FOLDER), mount("posttrain-shm", SHARED_MEMORY_FOLDER)]
