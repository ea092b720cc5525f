"""kopf, set up as a trigger only: its watches tell Intake what they see, and it writes nothing on objects."""

import logging
from typing import Any

import kopf

from posttrain_operator.intake import Intake
from posttrain_operator.kube import OWNERS, WATCHED, Resource
from posttrain_operator.kube.client import MANAGED_SELECTOR
from posttrain_operator.settings import Settings

REQUEST_TIMEOUT_SECONDS = 30.0


def kopf_settings(settings: Settings) -> kopf.OperatorSettings:
    """What we change of kopf's defaults."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.peering.standalone = True
    chosen.networking.request_timeout = REQUEST_TIMEOUT_SECONDS
    chosen.queueing.idle_timeout = 0.5
    chosen.execution.max_workers = 1
    # Watching namespaces and CRDs needs rights on the cluster.
    chosen.scanning.disabled = bool(settings.watch_namespaces)
    for resource in WATCHED:
        if resource not in OWNERS:
            chosen.watching.label_selectors[resource.group, resource.version, resource.plural] = MANAGED_SELECTOR
    return chosen


def registry(intake: Intake) -> kopf.OperatorRegistry:
    """kopf's handlers: one for each kind that we watch."""
    handlers = kopf.OperatorRegistry()
    kopf.on.login(registry=handlers)(kopf.login_via_client)
    for resource in WATCHED:
        _watch(resource, intake, handlers)
    return handlers


def _watch(resource: Resource, intake: Intake, handlers: kopf.OperatorRegistry) -> None:
    @kopf.on.event(resource.group, resource.version, resource.plural, registry=handlers)
    async def take_in(event: kopf.RawEvent, **_: Any) -> None:
        manifest: Any = event["object"]
        if event["type"] == "DELETED":
            intake.gone(manifest)
        else:
            intake.seen(manifest)


def set_up_logging() -> None:
    """Our own lines and others' warnings, on standard error."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("kopf", "urllib3", "kubernetes", "aiohttp.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
