"""Reads everything that a reconcile of an AdapterDeployment decides by: the watches' store, and our pods' agents."""

import asyncio
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1 import adapter_deployment, training_run
from posttrain_api.v1alpha1.adapter_deployment import AdapterDeployment
from posttrain_operator import followed_run
from posttrain_operator.actions import Manifest
from posttrain_operator.adapter_deployment import names, resources, runs
from posttrain_operator.adapter_deployment.plan import Observed
from posttrain_operator.adapter_deployment.replicas import Replica, Trouble
from posttrain_operator.followed_run import FollowedRun
from posttrain_operator.kind import Tools
from posttrain_operator.kube import Refused
from posttrain_operator.store import Key

_DOUBT = timedelta(seconds=30)
"""How often a token is read again while a pod does not start or does not take its list: the Secret may be gone."""


class Tokens:
    """The agents' tokens, each read from its Secret once in the life of this process. Secrets are not watched."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._known: dict[Key, tuple[str, datetime, str]] = {}

    async def of(self, parent: AdapterDeployment, *, is_doubtful: bool) -> str | None:
        """The token of a deployment's agents; None where there is no Secret."""
        metadata, now = parent.metadata, self._tools.clock()
        key = Key("Secret", metadata.namespace, names.secret_name(metadata.name))
        uid, read_at, token = self._known.get(key, ("", now, ""))
        if uid == metadata.uid and not (is_doubtful and now - read_at >= _DOUBT):
            return token
        secret = await self._tools.in_thread(self._tools.api.get, key)
        found = resources.token_of(secret) if secret else None
        if found:
            self._known[key] = (metadata.uid, now, found)
        else:
            self._known.pop(key, None)
        return found


def references(manifest: Manifest) -> Iterable[Key]:
    """The runs that a deployment follows; of an invalid one, those that can be read."""
    spec = manifest.get("spec") or {}
    given = [spec.get("baseModel"), *(spec.get("adapters") or [])]
    sources = (entry.get("fromRun") for entry in given if isinstance(entry, dict))
    found = (source.get("name") for source in sources if isinstance(source, dict))
    return [Key(training_run.KIND, manifest["metadata"]["namespace"], name) for name in found if isinstance(name, str)]


async def observed(
    parent: AdapterDeployment, manifest: Manifest, *, refused: Refused | None, tokens: Tokens, tools: Tools
) -> Observed:
    """Everything that is, besides the object itself."""
    children = tools.store.children(_key(parent))
    replicas = await _replicas(_of_kind(children, "Pod"), tools)
    name, config_map = parent.metadata.name, names.config_map_name(parent.metadata.name)
    return Observed(
        status=manifest.get("status") or {},
        deployment=_named(children, "Deployment", name),
        service=_named(children, "Service", name),
        config_map=_named(children, "ConfigMap", config_map),
        network_policy=_named(children, "NetworkPolicy", name),
        replicas=replicas,
        runs=_runs(parent, tools),
        token=await tokens.of(parent, is_doubtful=not all(replica.is_ready for replica in replicas)),
        spare_token=secrets.token_urlsafe(32),
        refusal=_refusal(refused),
    )


def _key(parent: AdapterDeployment) -> Key:
    return Key(adapter_deployment.KIND, parent.metadata.namespace, parent.metadata.name)


def _of_kind(children: Iterable[Manifest], kind: str) -> list[Manifest]:
    return [child for child in children if child["kind"] == kind]


def _named(children: Iterable[Manifest], kind: str, name: str) -> Manifest | None:
    return next((child for child in _of_kind(children, kind) if child["metadata"]["name"] == name), None)


async def _replicas(pods: Iterable[Manifest], tools: Tools) -> tuple[Replica, ...]:
    return tuple(await asyncio.gather(*(_replica(Replica(pod), tools) for pod in pods)))


async def _replica(replica: Replica, tools: Tools) -> Replica:
    if not replica.is_live or not replica.address:
        return replica
    return Replica(replica.pod, await tools.pods.agent_report(replica.address))


def _runs(parent: AdapterDeployment, tools: Tools) -> dict[str, FollowedRun]:
    wanted = {reference.name for reference in runs.references(parent.spec)}
    keys = (Key(training_run.KIND, parent.metadata.namespace, name) for name in sorted(wanted))
    found = (followed_run.seen(tools.store.get(key), tools.store.children(key)) for key in keys)
    return {run.name: run for run in found if run}


def _refusal(refused: Refused | None) -> Trouble | None:
    if refused is None:
        return None
    reason = Reason.INVALID_SPEC if refused.is_final else Reason.POD_REFUSED
    return Trouble(reason, f"the API server refuses a child: {refused.message}", is_final=refused.is_final)
