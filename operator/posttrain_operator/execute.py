"""Runs a Plan: the only place with side effects on children, status and the parent itself."""

import logging
from collections.abc import Iterator
from typing import Any

from posttrain_operator.actions import Event, Manifest, Plan
from posttrain_operator.kind import Tools
from posttrain_operator.kube import ApiError, Refused
from posttrain_operator.kube.client import child_key
from posttrain_operator.store import key_of

logger = logging.getLogger(__name__)


class ChildRefused(Exception):
    """The API server did not take a child."""

    def __init__(self, refusal: Refused) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


async def execute(plan: Plan, parent: Manifest, *, tools: Tools) -> None:
    """Carry out a plan, in the order of its fields.

    Raises ChildRefused where a child is refused: nothing after it has happened then, and the status is not written.
    """
    written: list[Manifest] = []
    try:
        if plan.create or plan.apply or plan.patch or plan.delete:
            await _change_children(plan, parent, tools=tools, written=written)
        if plan.tell:
            await tools.pods.tell(plan.tell)
        if plan.status is not None or plan.events or plan.delete_parent:
            await tools.in_thread(_write_parent, plan, parent, tools=tools, written=written)
    finally:
        # Known before the watch tells: the next reconcile must not do the same again.
        for manifest in written:
            tools.store.put(manifest)


async def _change_children(plan: Plan, parent: Manifest, *, tools: Tools, written: list[Manifest]) -> None:
    try:
        await tools.in_thread(_write_children, plan, parent, tools=tools, written=written)
    except Refused as refusal:
        raise ChildRefused(refusal) from refusal


def _write_children(plan: Plan, parent: Manifest, *, tools: Tools, written: list[Manifest]) -> None:
    namespace = parent["metadata"]["namespace"]
    made = (tools.api.create(manifest) for manifest in plan.create)
    written.extend(manifest for manifest in made if manifest)
    written.extend(tools.api.apply(manifest) for manifest in plan.apply)
    patched = (tools.api.patch(child_key(patch.child, namespace=namespace), patch.change) for patch in plan.patch)
    written.extend(manifest for manifest in patched if manifest)
    for child in plan.delete:
        tools.api.delete(child_key(child, namespace=namespace))


def _write_parent(plan: Plan, parent: Manifest, *, tools: Tools, written: list[Manifest]) -> None:
    change = merge_patch(parent.get("status") or {}, plan.status) if plan.status is not None else {}
    if change:
        answer = tools.api.patch(key_of(parent), {"status": change}, subresource="status")
        written.extend([answer] if answer else [])
    for event in plan.events:
        _tell(event, parent, tools=tools)
    if plan.delete_parent:
        tools.api.delete(key_of(parent), uid=parent["metadata"]["uid"])


def _tell(event: Event, parent: Manifest, *, tools: Tools) -> None:
    """Post an Event; the status has it already, so that a failure is no reason to do anything again."""
    try:
        tools.api.post_event(parent, event, time=tools.clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    except ApiError as problem:
        logger.warning("event %s of %s: %s", event.reason, parent["metadata"]["name"], problem)


def merge_patch(old: Manifest, new: Manifest) -> Manifest:
    """The smallest JSON merge patch (RFC 7386) from one object to another; empty where they are equal."""
    return dict(_differences(old, new))


def _differences(old: Manifest, new: Manifest) -> Iterator[tuple[str, Any]]:
    for key in old.keys() | new.keys():
        before, after = old.get(key), new.get(key)
        if before == after:
            continue
        if isinstance(before, dict) and isinstance(after, dict):
            yield key, merge_patch(before, after)
        else:
            yield key, after
