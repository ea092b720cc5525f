"""The children of an AdapterDeployment, each as one small function that reads like its YAML. Pure.

`stamped` puts each child's digest on it, by which plan() sees without a request that it is as it should be.
"""

import base64
import json
from collections.abc import Collection, Mapping
from typing import Any

from posttrain_api import labels, server_contract
from posttrain_api.server_contract import DesiredAdapters
from posttrain_api.v1alpha1.adapter_deployment import KIND, AdapterDeployment
from posttrain_operator import metadata, network
from posttrain_operator.actions import Manifest
from posttrain_operator.adapter_deployment import names, server_pod
from posttrain_operator.adapter_deployment.base import Base
from posttrain_operator.metadata import stamped
from posttrain_operator.settings import Settings


def secret(parent: AdapterDeployment, *, token: str) -> Manifest:
    """The token by which the agents know the operator. Made once, never applied again."""
    return {
        **_child(parent, "v1", "Secret", names.secret_name(parent.metadata.name)),
        "stringData": {names.TOKEN_KEY: token},
    }


def token_of(secret: Manifest) -> str | None:
    """The token in a Secret as the API server shows it; None where it holds none."""
    encoded = secret.get("data", {}).get(names.TOKEN_KEY)
    return base64.b64decode(encoded).decode() if encoded else None


def config_map(
    parent: AdapterDeployment, *, desired: DesiredAdapters, sources: Mapping[str, str], base: Base | None
) -> Manifest:
    """The desired list, the base's chat template where it is given inline, and where base and adapters came from."""
    template = parent.spec.engine.chat_template
    data = {names.LIST_KEY: _pretty(desired.to_json()), names.SOURCES_KEY: _pretty(dict(sources))}
    if base:
        data[names.BASE_KEY] = _pretty(base.to_json())
    if template and template.inline:
        data[names.TEMPLATE_KEY] = template.inline
    return stamped({**_child(parent, "v1", "ConfigMap", names.config_map_name(parent.metadata.name)), "data": data})


def service(parent: AdapterDeployment) -> Manifest:
    """The address of the OpenAI API."""
    return stamped(
        {
            **_child(parent, "v1", "Service", parent.metadata.name),
            "spec": {
                "selector": names.pod_labels(parent.metadata.name),
                "ports": [{"name": "http", "port": 80, "targetPort": server_contract.ENGINE_PORT}],
            },
        }
    )


def network_policy(parent: AdapterDeployment, settings: Settings) -> Manifest:
    """Clients of the cluster may call the API; the agent is for the operator and Prometheus."""
    clients: list[Manifest] = [{"namespaceSelector": {}}]
    ports = {server_contract.ENGINE_PORT: clients, server_contract.AGENT_PORT: network.watchers(settings)}
    return stamped(
        {
            **_child(parent, "networking.k8s.io/v1", "NetworkPolicy", parent.metadata.name),
            "spec": network.ingress_only(names.pod_labels(parent.metadata.name), ports),
        }
    )


def deployment(parent: AdapterDeployment, *, base: Base, claims: Collection[str], settings: Settings) -> Manifest:
    """The server pods with this base and these claims. The annotations say of the template what is asked later."""
    head = _child(parent, "apps/v1", "Deployment", parent.metadata.name)
    template = server_pod.template(parent, base=base, claims=sorted(claims), settings=settings)
    annotations = {
        labels.TEMPLATE_DIGEST: template["metadata"]["annotations"][labels.TEMPLATE_DIGEST],
        labels.MOUNTED_CLAIMS: ",".join(sorted(claims)),
    }
    return stamped(
        {
            **head,
            "metadata": {**head["metadata"], "annotations": annotations},
            "spec": {
                "replicas": parent.spec.replicas,
                "revisionHistoryLimit": 2,
                "progressDeadlineSeconds": 3600,
                # A new pod comes before an old one goes, so that clients notice nothing. Where no GPU is free for it,
                # the roll-out waits and Ready says Unschedulable: giving up a replica that answers is up to the user.
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
                "selector": {"matchLabels": names.pod_labels(parent.metadata.name)},
                "template": template,
            },
        }
    )


def template_digest(deployment: Manifest | None) -> str | None:
    """The digest on a Deployment's pods, desired or observed."""
    return _annotation(deployment, labels.TEMPLATE_DIGEST)


def mounted_claims(deployment: Manifest | None) -> set[str]:
    """The claims that a Deployment's pods mount, desired or observed."""
    claims = _annotation(deployment, labels.MOUNTED_CLAIMS)
    return set(claims.split(",")) if claims else set()


def _annotation(manifest: Manifest | None, key: str) -> str | None:
    found: str | None = manifest["metadata"].get("annotations", {}).get(key) if manifest else None
    return found


def _child(parent: AdapterDeployment, api_version: str, kind: str, name: str) -> Manifest:
    own = names.pod_labels(parent.metadata.name)
    return metadata.child(api_version, kind, name, parent_kind=KIND, parent=parent.metadata, child_labels=own)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True) + "\n"
