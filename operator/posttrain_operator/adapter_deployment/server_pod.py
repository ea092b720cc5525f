"""The server pod: the engine (vLLM with our gateway), the agent beside it, and the key that they share. Pure."""

from collections.abc import Mapping
from typing import Any

from posttrain_api import labels, server_contract
from posttrain_api.artifact import digest_of
from posttrain_api.meta import KeyReference
from posttrain_api.uri import claim_of
from posttrain_api.v1alpha1.adapter_deployment import AdapterDeployment
from posttrain_operator import network, pod_template
from posttrain_operator.actions import Manifest
from posttrain_operator.adapter_deployment import names
from posttrain_operator.adapter_deployment.base import Base
from posttrain_operator.settings import Settings

_DRAIN_SECONDS = 5
"""Until every node has heard that a pod takes no more requests."""


def template(parent: AdapterDeployment, *, base: Base, claims: list[str], settings: Settings) -> Manifest:
    """The template of a Deployment's pods, with this base and these claims mounted in this order."""
    spec = _pod_spec(parent, base=base, claims=claims, settings=settings)
    chat_template = parent.spec.engine.chat_template
    # An inline chat template is no part of the pod's spec, and the engine reads it only when it starts.
    digest = digest_of([spec, chat_template.inline if chat_template else None])
    scraping = network.scrape_annotations(server_contract.AGENT_PORT)
    return {
        "metadata": {
            "labels": {labels.MANAGED_BY: labels.MANAGER, **names.pod_labels(parent.metadata.name)},
            "annotations": {**scraping, labels.TEMPLATE_DIGEST: digest},
        },
        "spec": spec,
    }


def _pod_spec(parent: AdapterDeployment, *, base: Base, claims: list[str], settings: Settings) -> Manifest:
    chosen = pod_template.merged(parent.spec.pod_template, settings.default_pod_template)
    image = pod_template.image(chosen, default=settings.server_image)
    engine = pod_template.container(
        server_contract.ENGINE_CONTAINER,
        image=image,
        args=_engine_args(parent, base),
        mounts=_engine_mounts(parent, base),
        settings=settings,
        template=chosen,
        **_engine_life(),
        resources=pod_template.resource_requirements(parent.spec.resources),
    )
    agent = pod_template.container(
        server_contract.AGENT_CONTAINER,
        image=image,
        args=_agent_args(parent, base),
        mounts=_agent_mounts(claims),
        settings=settings,
        **_agent_life(),
        resources={"requests": {"cpu": "50m", "memory": "256Mi"}},
    )
    return pod_template.pod_spec(
        chosen,
        init_containers=[_key_container(image, settings)],
        containers=[engine, agent],
        volumes=_volumes(parent, claims),
        terminationGracePeriodSeconds=60,
    )


def _key_container(image: str, settings: Settings) -> Manifest:
    return pod_template.container(
        server_contract.KEY_CONTAINER,
        image=image,
        args=["key", "--file", str(server_contract.KEY_FILE)],
        mounts=[pod_template.mount("posttrain-key", str(server_contract.KEY_FOLDER))],
        settings=settings,
    )


def _engine_args(parent: AdapterDeployment, base: Base) -> list[str]:
    engine = parent.spec.engine
    given = {
        "--base": base.uri,
        "--max-rank": engine.max_rank,
        "--max-loaded-adapters": engine.max_loaded_adapters,
        "--max-cached-adapters": engine.max_cached_adapters,
        "--max-model-length": engine.max_model_length,
        "--dtype": engine.dtype,
        "--chat-template": server_contract.CHAT_TEMPLATE_FILE if engine.chat_template else None,
        "--port": server_contract.ENGINE_PORT,
        "--key-file": server_contract.KEY_FILE,
        "--gpus": parent.spec.resources.gpus,
    }
    return ["engine", *_options(given)]


def _agent_args(parent: AdapterDeployment, base: Base) -> list[str]:
    given = {
        "--base": base.uri,
        "--engine": f"http://127.0.0.1:{server_contract.ENGINE_PORT}",
        "--port": server_contract.AGENT_PORT,
        "--key-file": server_contract.KEY_FILE,
        "--token-file": server_contract.TOKEN_FILE,
        "--desired-file": server_contract.DESIRED_FILE,
        "--state-folder": server_contract.STATE_FOLDER,
        "--max-rank": parent.spec.engine.max_rank,
        "--max-cached-adapters": parent.spec.engine.max_cached_adapters,
    }
    return ["agent", *_options(given)]


def _options(given: Mapping[str, Any]) -> list[str]:
    return [part for name, value in given.items() if value is not None for part in (name, str(value))]


def _engine_life() -> Manifest:
    return {
        "ports": [{"name": "http", "containerPort": server_contract.ENGINE_PORT}],
        # A large model is read from a slow disk for many minutes; a crash ends the container and needs no probe.
        "startupProbe": {**_get("/health", server_contract.ENGINE_PORT), "periodSeconds": 1, "failureThreshold": 3600},
        "readinessProbe": {**_get("/health", server_contract.ENGINE_PORT), "periodSeconds": 2},
        # Two minutes: an engine that is busy is not dead, and a restart costs every request and every adapter.
        "livenessProbe": {**_get("/health", server_contract.ENGINE_PORT), "periodSeconds": 20, "failureThreshold": 6},
        "lifecycle": {"preStop": {"sleep": {"seconds": _DRAIN_SECONDS}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _agent_life() -> Manifest:
    return {
        "ports": [{"name": "agent", "containerPort": server_contract.AGENT_PORT}],
        "startupProbe": {**_get("/healthz", server_contract.AGENT_PORT), "periodSeconds": 1, "failureThreshold": 300},
        "readinessProbe": {**_get("/readyz", server_contract.AGENT_PORT), "periodSeconds": 1},
        "livenessProbe": {**_get("/healthz", server_contract.AGENT_PORT), "periodSeconds": 20, "failureThreshold": 6},
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }


def _get(path: str, port: int) -> Manifest:
    return {"httpGet": {"path": path, "port": port}, "timeoutSeconds": 10}


def _engine_mounts(parent: AdapterDeployment, base: Base) -> list[Manifest]:
    """The base, the agent's copies of adapters, the key. Not the adapters' claims: nothing unproven is read from."""
    claim = claim_of(base.uri)
    templates = [pod_template.mount("posttrain-template", str(server_contract.CHAT_TEMPLATE_FOLDER), read_only=True)]
    return [
        *([pod_template.claim_mount(claim, read_only=True)] if claim else []),
        *(templates if parent.spec.engine.chat_template else []),
        pod_template.mount("posttrain-key", str(server_contract.KEY_FOLDER), read_only=True),
        pod_template.mount("posttrain-state", str(server_contract.STATE_FOLDER), read_only=True),
        *pod_template.scratch_mounts(),
    ]


def _agent_mounts(claims: list[str]) -> list[Manifest]:
    return [
        *(pod_template.claim_mount(claim, read_only=True) for claim in claims),
        pod_template.mount("posttrain-list", str(server_contract.DESIRED_FOLDER), read_only=True),
        pod_template.mount("posttrain-token", str(server_contract.TOKEN_FOLDER), read_only=True),
        pod_template.mount("posttrain-key", str(server_contract.KEY_FOLDER), read_only=True),
        pod_template.mount("posttrain-state", str(server_contract.STATE_FOLDER)),
        pod_template.mount("posttrain-tmp", pod_template.TEMPORARY_FOLDER),
    ]


def _volumes(parent: AdapterDeployment, claims: list[str]) -> list[Manifest]:
    name = parent.metadata.name
    return [
        *(pod_template.claim_volume(claim) for claim in claims),
        _file_of_config_map("posttrain-list", names.config_map_name(name), key=names.LIST_KEY, path=names.LIST_KEY),
        {"name": "posttrain-token", "secret": {"secretName": names.secret_name(name), "defaultMode": 0o440}},
        *_chat_template_volumes(parent),
        pod_template.folder("posttrain-key", memory=True, size_limit="1Mi"),
        pod_template.folder("posttrain-state"),
        *pod_template.scratch_volumes(parent.spec.resources.shared_memory),
    ]


def _chat_template_volumes(parent: AdapterDeployment) -> list[Manifest]:
    template = parent.spec.engine.chat_template
    if template is None:
        return []
    own = KeyReference(name=names.config_map_name(parent.metadata.name), key=names.TEMPLATE_KEY)
    source = template.config_map or own
    return [_file_of_config_map("posttrain-template", source.name, key=source.key, path=names.TEMPLATE_KEY)]


def _file_of_config_map(volume: str, config_map: str, *, key: str, path: str) -> Manifest:
    return {"name": volume, "configMap": {"name": config_map, "items": [{"key": key, "path": path}]}}
