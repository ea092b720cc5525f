"""A run's children as manifests: each function reads like the YAML that it returns. Pure."""

import json
from collections.abc import Iterable
from typing import Any, Literal

from posttrain_api import labels
from posttrain_api.meta import PodTemplate
from posttrain_api.trainer_contract import (
    CONTAINER,
    RUN_FILE,
    STATUS_PORT,
    TERMINATION_MESSAGE,
    Machine,
)
from posttrain_api.v1alpha1.training_run import DEFAULT_CLAIM, KIND, TrainingRun
from posttrain_operator import network, pod_template
from posttrain_operator.actions import Manifest
from posttrain_operator.metadata import child, stamped
from posttrain_operator.settings import Settings
from posttrain_operator.training_run import mounts, names, sidecars
from posttrain_operator.training_run.sidecars import Sidecar

Component = Literal["recipe", "network", "preflight", "training"]

STOP_SECONDS = {"preflight": 10, "training": 60}
"""Component -> how long its pod may take to stop: a step and the report."""
PREFLIGHT_NEEDS = {"requests": {"cpu": "100m", "memory": "1Gi"}}
"""Preflight reads data and loads a tokenizer, no weights."""


def recipe(run: TrainingRun, config: Manifest) -> Manifest:
    """The ConfigMap with the frozen recipe, which the trainer reads."""
    text = json.dumps(config, indent=1, ensure_ascii=False)
    head = _child("v1", "ConfigMap", names.recipe(run.metadata.name, _round(config)), run, "recipe")
    return stamped({**head, "immutable": True, "data": {RUN_FILE.name: text}})


def machine(run: TrainingRun, *, settings: Settings) -> Machine | None:
    """The GPU that the training pod will get, as far as its node selector names one of the table."""
    return settings.gpus.selected(_template(run, settings).node_selector) if run.spec.resources.gpus else None


def policy(run: TrainingRun, *, settings: Settings) -> Manifest:
    """The NetworkPolicy of the run's pods: operator and Prometheus may read their status, nobody else gets in."""
    head = _child("networking.k8s.io/v1", "NetworkPolicy", names.policy(run.metadata.name), run, "network")
    pods = {labels.TRAINING_RUN: run.metadata.name}
    return stamped({**head, "spec": network.ingress_only(pods, {STATUS_PORT: network.watchers(settings)})})


def default_claim(run: TrainingRun, *, settings: Settings) -> Manifest:
    """The namespace's claim for artifacts; it belongs to nobody and is never deleted by us."""
    storage_class = {"storageClassName": settings.claim_storage_class} if settings.claim_storage_class else {}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": DEFAULT_CLAIM,
            "namespace": run.metadata.namespace,
            "labels": {labels.MANAGED_BY: labels.MANAGER},
        },
        "spec": {
            "accessModes": [settings.claim_access_mode],
            "resources": {"requests": {"storage": settings.claim_size}},
            **storage_class,
        },
    }


def preflight(run: TrainingRun, config: Manifest, *, settings: Settings) -> Manifest:
    """The Job that reads every row without a GPU."""
    template = _template(run, settings)
    beside = sidecars.rewards(run, template=template, settings=settings)
    container = _container(run, config, template, settings, ["--preflight"], beside, resources=PREFLIGHT_NEEDS)
    name = names.preflight(run.metadata.name, _round(config))
    return _job(run, name, "preflight", _pod_spec(run, config, template, container, beside, "preflight"))


def training(run: TrainingRun, config: Manifest, *, settings: Settings) -> Manifest:
    """The Job that trains, judges and publishes."""
    template = _template(run, settings)
    beside = [
        *sidecars.rewards(run, template=template, settings=settings),
        *sidecars.rollout(run, config, template=template, settings=settings),
    ]
    needs = {"resources": pod_template.resource_requirements(run.spec.resources)}
    ports = {"ports": [{"name": "status", "containerPort": STATUS_PORT, "protocol": "TCP"}]}
    port = ["--status-port", str(STATUS_PORT)]
    container = _container(run, config, template, settings, port, beside, **needs, **ports)
    return _job(
        run,
        names.training(run.metadata.name, _round(config)),
        "training",
        _pod_spec(run, config, template, container, beside, "training"),
        annotations=network.scrape_annotations(STATUS_PORT),
        deadline_seconds=run.spec.deadline_seconds,
    )


def _round(config: Manifest) -> int:
    return int(config.get("round", 0))


def _child(api_version: str, kind: str, name: str, run: TrainingRun, component: Component) -> Manifest:
    own = _labels(run, component)
    return child(api_version, kind, name, parent_kind=KIND, parent=run.metadata, child_labels=own)


def _labels(run: TrainingRun, component: Component) -> dict[str, str]:
    return {labels.TRAINING_RUN: run.metadata.name, labels.COMPONENT: component}


def _job(
    run: TrainingRun,
    name: str,
    component: Component,
    pod_spec: Manifest,
    *,
    annotations: dict[str, str] | None = None,
    deadline_seconds: int | None = None,
) -> Manifest:
    deadline = {"activeDeadlineSeconds": deadline_seconds} if deadline_seconds else {}
    pod_labels = {labels.MANAGED_BY: labels.MANAGER, **_labels(run, component)}
    pod_metadata = {"labels": pod_labels, **({"annotations": annotations} if annotations else {})}
    spec = {
        # One pod, never a second: the operator decides what follows from its end. A pod that is on its way out still
        # counts, so that its last words are heard.
        "backoffLimit": 0,
        "podReplacementPolicy": "Failed",
        **deadline,
        "template": {"metadata": pod_metadata, "spec": pod_spec},
    }
    return stamped({**_child("batch/v1", "Job", name, run, component), "spec": spec})


def _template(run: TrainingRun, settings: Settings) -> PodTemplate:
    return pod_template.merged(run.spec.pod_template, settings.default_pod_template)


def _pod_spec(
    run: TrainingRun,
    config: Manifest,
    template: PodTemplate,
    container: Manifest,
    beside: Iterable[Sidecar],
    component: Literal["preflight", "training"],
) -> Manifest:
    volumes = [*mounts.volumes(run, config), *(volume for sidecar in beside for volume in sidecar.volumes)]
    return pod_template.pod_spec(
        template,
        init_containers=[sidecar.container for sidecar in beside],
        containers=[container],
        volumes=list({volume["name"]: volume for volume in volumes}.values()),
        restartPolicy="Never",
        terminationGracePeriodSeconds=STOP_SECONDS[component],
    )


def _container(
    run: TrainingRun,
    config: Manifest,
    template: PodTemplate,
    settings: Settings,
    args: Iterable[str],
    beside: Iterable[Sidecar],
    **extra: Any,
) -> Manifest:
    to_reach = [part for sidecar in beside for part in sidecar.trainer_args]
    shared = [mount for sidecar in beside for mount in sidecar.trainer_mounts]
    return pod_template.container(
        CONTAINER,
        image=pod_template.image(template, default=settings.trainer_image),
        args=["--config", str(RUN_FILE), *args, *to_reach, "--termination-message", str(TERMINATION_MESSAGE)],
        mounts=[*mounts.mounts(run.spec, config), *shared],
        settings=settings,
        template=template,
        terminationMessagePath=str(TERMINATION_MESSAGE),
        terminationMessagePolicy="File",
        **extra,
    )
