"""The operator's settings, read once from the environment that the chart sets."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from posttrain_api.gpus import GpuTable
from posttrain_api.meta import PodTemplate


@dataclass(frozen=True)
class Settings:
    """What the chart decides for every run and deployment."""

    trainer_image: str
    server_image: str
    image_pull_policy: str = "IfNotPresent"
    operator_namespace: str = "posttrain-system"
    """Where the operator itself runs: NetworkPolicies admit its pods."""
    watch_namespaces: tuple[str, ...] = ()
    """Empty: all namespaces."""
    default_pod_template: PodTemplate = field(default_factory=PodTemplate)
    """Put under each object's own podTemplate: see pod_template.merged."""
    gpus: GpuTable = field(default_factory=lambda: GpuTable.over_known({}))
    """What a run's time and cost are reckoned with."""
    claim_size: str = "100Gi"
    claim_storage_class: str | None = None
    claim_access_mode: str = "ReadWriteMany"
    rewards_memory: str = "1Gi"
    """Memory of the container that runs reward code which is not ours."""
    cluster_domain: str = "cluster.local"
    metrics_port: int = 8080
    probe_port: int = 8081
    num_workers: int = 4
    """Reconciles that run at once."""


def from_environment(environment: Mapping[str, str]) -> Settings:
    """Read POSTTRAIN_* variables; KeyError names one that is missing, ValueError says what is wrong with one."""
    get = environment.get
    return Settings(
        trainer_image=environment["POSTTRAIN_TRAINER_IMAGE"],
        server_image=environment["POSTTRAIN_SERVER_IMAGE"],
        image_pull_policy=get("POSTTRAIN_IMAGE_PULL_POLICY", "IfNotPresent"),
        operator_namespace=get("POSTTRAIN_OPERATOR_NAMESPACE", "posttrain-system"),
        watch_namespaces=tuple(name for name in get("POSTTRAIN_WATCH_NAMESPACES", "").split(",") if name),
        default_pod_template=PodTemplate.model_validate_json(get("POSTTRAIN_DEFAULT_POD_TEMPLATE", "{}")),
        gpus=GpuTable.over_known(json.loads(get("POSTTRAIN_GPUS", "{}"))),
        claim_size=get("POSTTRAIN_CLAIM_SIZE", "100Gi"),
        claim_storage_class=get("POSTTRAIN_CLAIM_STORAGE_CLASS") or None,
        claim_access_mode=get("POSTTRAIN_CLAIM_ACCESS_MODE", "ReadWriteMany"),
        rewards_memory=get("POSTTRAIN_REWARDS_MEMORY", "1Gi"),
        cluster_domain=get("POSTTRAIN_CLUSTER_DOMAIN", "cluster.local"),
        metrics_port=int(get("POSTTRAIN_METRICS_PORT", "8080")),
        probe_port=int(get("POSTTRAIN_PROBE_PORT", "8081")),
        num_workers=int(get("POSTTRAIN_WORKERS", "4")),
    )
