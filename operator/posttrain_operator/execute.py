"""Runs a Plan: the only place with side effects on children, status and the parent itself."""

from collections.abc import Iterator
from typing import Any

from posttrain_operator.actions import Manifest, Plan
from posttrain_operator.kind import Tools
from posttrain_operator.kube.client import child_key
from posttrain_operator.store import key_of


async def execute(plan: Plan, parent: Manifest, *, tools: Tools) -> None:
    """Carry out a plan, in the order of its fields.

    Raises kube.Refused where a child is refused: nothing after it has happened then, and the status is not written.
    """
    written: list[Manifest] = []
    try:
        if plan.create or plan.apply or plan.patch or plan.delete:
            await tools.in_thread(_change_children, plan, parent, tools=tools, written=written)
        if plan.tell:
            await tools.pods.tell(plan.tell)
        if plan.status is not None or plan.events or plan.delete_parent:
            await tools.in_thread(_change_parent, plan, parent, tools=tools, written=written)
    finally:
        # Known before the watch tells: the next reconcile must not do the same again.
        for manifest in written:
            tools.store.put(manifest)


def _change_children(plan: Plan, parent: Manifest, *, tools: Tools, written: list[Manifest]) -> None:
    namespace = parent["metadata"]["namespace"]
    made = (tools.api.create(manifest) for manifest in plan.create)
    written.extend(manifest for manifest in made if manifest)
    written.extend(tools.api.apply(manifest) for manifest in plan.apply)
    patched = (tools.api.patch(child_key(patch.child, namespace=namespace), patch.change) for patch in plan.patch)
    written.extend(manifest for manifest in patched if manifest)
    for child in plan.delete:
        tools.api.delete(child_key(child, namespace=namespace))


def _change_parent(plan: Plan, parent: Manifest, *, tools: Tools, written: list[Manifest]) -> None:
    change = merge_patch(parent.get("status") or {}, plan.status) if plan.status is not None else {}
    if change:
        answer = tools.api.patch(key_of(parent), {"status": change}, subresource="status")
        written.extend([answer] if answer else [])
    for event in plan.events:
        tools.api.post_event(parent, event, time=tools.clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    if plan.delete_parent:
        tools.api.delete(key_of(parent), uid=parent["metadata"]["uid"])


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
