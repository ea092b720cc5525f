"""Metadata of children: labels, owner, and the digest by which an unchanged child is told without a request."""

from typing import Any

from posttrain_api import labels
from posttrain_api.artifact import digest_of
from posttrain_api.meta import ObjectMeta
from posttrain_api.v1alpha1 import API_VERSION
from posttrain_operator.actions import Manifest


def owner_reference(kind: str, parent: ObjectMeta) -> dict[str, Any]:
    """The owner reference that lets the garbage collector remove a child with its parent."""
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "name": parent.name,
        "uid": parent.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }


def child(
    api_version: str, kind: str, name: str, *, parent_kind: str, parent: ObjectMeta, child_labels: dict[str, str]
) -> Manifest:
    """The head of a child's manifest: fixed name, explicit labels, owner."""
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": parent.namespace,
            "labels": {labels.MANAGED_BY: labels.MANAGER, **child_labels},
            "ownerReferences": [owner_reference(parent_kind, parent)],
        },
    }


def stamped(manifest: Manifest) -> Manifest:
    """The manifest with its own digest as an annotation."""
    metadata = manifest["metadata"]
    annotations = {**metadata.get("annotations", {}), labels.DESIRED_DIGEST: digest_of(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def is_current(desired: Manifest, observed: Manifest | None) -> bool:
    """Whether the observed child was applied from this stamped manifest."""
    if observed is None:
        return False
    key = labels.DESIRED_DIGEST
    stamp = observed["metadata"].get("annotations", {}).get(key)
    return bool(stamp == desired["metadata"]["annotations"][key])
