"""Storage: folders of the host as volumes, in a class without a provisioner whose pool the harness fills."""

from __future__ import annotations

import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from tests.cluster import api, layout, waiting

STORAGE_CLASS = "posttrain-local"
POOL_SIZE = 16
# A number only: every claim must find a volume that is large enough, whatever it asks for.
_POOL_CAPACITY = "1Ti"
_POOL_LABEL = "posttrain.dev/pool"
_VOLUMES = "/api/v1/persistentvolumes"


def make_class(server: api.Api) -> None:
    """The default class; it binds at once, since every volume can be reached from every node."""
    body = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "Immediate",
        "reclaimPolicy": "Retain",
    }
    server.apply(f"/apis/storage.k8s.io/v1/storageclasses/{STORAGE_CLASS}", body)


def top_up(cluster: layout.Layout, server: api.Api) -> None:
    """Bring the pool back to POOL_SIZE free volumes; those whose claim is gone are removed with their data."""
    pool = server.get(f"{_VOLUMES}?labelSelector={_POOL_LABEL}")["items"]
    for volume in pool:
        if volume["status"].get("phase") == "Released":
            server.delete(f"{_VOLUMES}/{volume['metadata']['name']}")
            shutil.rmtree(volume["spec"]["hostPath"]["path"])
    num_free = sum("claimRef" not in volume["spec"] for volume in pool)
    for _ in range(POOL_SIZE - num_free):
        name = f"pool-{secrets.token_hex(4)}"
        folder = _writable_folder(cluster.volumes / name)
        server.apply(f"{_VOLUMES}/{name}", _volume(name, folder, size=_POOL_CAPACITY))


def claimed(cluster: layout.Layout, server: api.Api, *, namespace: str, claim: str, size: str) -> Path:
    """Make the claim and a volume for it alone, unless they are there; returns the volume's folder on the host.

    The namespace must be there.
    """
    name = f"{namespace}.{claim}"
    folder = _writable_folder(cluster.volumes / name)
    volume = _volume(name, folder, size=size)
    del volume["metadata"]["labels"]
    volume["spec"]["claimRef"] = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "namespace": namespace,
        "name": claim,
    }
    _forget_released(server, name)
    server.apply(f"{_VOLUMES}/{name}", volume)
    path = f"/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}"
    server.apply(path, _claim(claim, volume=name, size=size))
    waiting.until(
        lambda: server.get(path)["status"].get("phase") == "Bound",
        what=f"claim {namespace}/{claim} to bind",
        timeout_seconds=30,
    )
    return folder


def _forget_released(server: api.Api, name: str) -> None:
    """A volume stays bound to the claim that it had, even after that is gone and another of its name is there."""

    def volumes() -> list[dict[str, Any]]:
        return [found for found in server.get(_VOLUMES)["items"] if found["metadata"]["name"] == name]

    if any(found["status"].get("phase") == "Released" for found in volumes()):
        server.delete(f"{_VOLUMES}/{name}")
        waiting.until(lambda: not volumes(), what=f"volume {name} to go", timeout_seconds=30)


def _volume(name: str, folder: Path, *, size: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "labels": {_POOL_LABEL: "true"}},
        "spec": {
            "capacity": {"storage": size},
            "accessModes": ["ReadWriteOnce", "ReadWriteMany", "ReadOnlyMany"],
            "persistentVolumeReclaimPolicy": "Retain",
            "storageClassName": STORAGE_CLASS,
            "hostPath": {"path": str(folder), "type": "Directory"},
        },
    }


def _claim(name: str, *, volume: str, size: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": STORAGE_CLASS,
            "volumeName": volume,
            "resources": {"requests": {"storage": size}},
        },
    }


def _writable_folder(path: Path) -> Path:
    """The kubelet applies no fsGroup to a hostPath, so everyone may write."""
    path.mkdir(parents=True, exist_ok=True)
    os.chmod(path, 0o777)
    return path
