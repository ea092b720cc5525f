"""The task that looks without having been told: it lists at the start and every ten minutes.

At the start nothing may be reconciled before everything is known: a Job that was not listed yet would look deleted.
Later it finds what a watch has lost: after the API server's restart an object may vanish without an event.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable

from posttrain_operator.actions import Manifest
from posttrain_operator.intake import Intake
from posttrain_operator.kind import Tools
from posttrain_operator.kube import OWNERS, WATCHED, ApiError, Resource
from posttrain_operator.kube.client import MANAGED_SELECTOR
from posttrain_operator.store import key_of, slim

logger = logging.getLogger(__name__)

INTERVAL_SECONDS = 600.0
SETTLING_SECONDS = 10.0
"""The second look comes soon: what is deleted between the first and the start of the watches has no event."""
RETRY_SECONDS = 2.0


async def keep_in_step(
    intake: Intake,
    *,
    tools: Tools,
    on_first: Callable[[], None],
    stop: asyncio.Event,
    retry_seconds: float = RETRY_SECONDS,
) -> None:
    """List until told to stop; calls `on_first` when everything is known."""
    delays = iter((SETTLING_SECONDS,))
    resources: Iterable[Resource] = WATCHED
    is_first = True
    while not stop.is_set():
        if not await _is_in_step(resources, intake, tools=tools):
            await _pause(retry_seconds, stop=stop)
            continue
        if is_first:
            on_first()
            is_first = False
        await _pause(next(delays, INTERVAL_SECONDS), stop=stop)
        resources = WATCHED if _has_unfinished(tools) else OWNERS


async def _is_in_step(resources: Iterable[Resource], intake: Intake, *, tools: Tools) -> bool:
    try:
        for resource in resources:
            await _take_in(resource, intake, tools=tools)
    except ApiError as problem:
        logger.warning("listing: %s", problem)
        return False
    return True


async def _take_in(resource: Resource, intake: Intake, *, tools: Tools) -> None:
    before = list(tools.store.of_kind(resource.kind))
    found = await tools.in_thread(_listed, resource, tools=tools)
    for manifest in found:
        intake.seen(manifest)
    uids = {manifest["metadata"]["uid"] for manifest in found}
    for manifest in before:
        # What was made or changed while we listed is not in the list, or is older there.
        if manifest["metadata"]["uid"] not in uids and _is_unchanged(manifest, tools=tools):
            intake.gone(manifest)


def _listed(resource: Resource, *, tools: Tools) -> list[Manifest]:
    selector = "" if resource in OWNERS else MANAGED_SELECTOR
    namespaces = tools.settings.watch_namespaces or (None,)
    return [
        slim(manifest)
        for namespace in namespaces
        for manifest in tools.api.list(resource, namespace, selector=selector)
    ]


def _is_unchanged(manifest: Manifest, *, tools: Tools) -> bool:
    return tools.store.get(key_of(manifest)) == manifest


def _has_unfinished(tools: Tools) -> bool:
    """Whether there is an object whose children matter: those of a finished run do not."""
    parents = (manifest for resource in OWNERS for manifest in tools.store.of_kind(resource.kind))
    return any("finishedAt" not in (manifest.get("status") or {}) for manifest in parents)


async def _pause(seconds: float, *, stop: asyncio.Event) -> None:
    # Not wait_for(): it waits in a task of its own, which kopf would take for one of its and wait for at its end.
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
