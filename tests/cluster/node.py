"""One node: its kubelet on top of its containerd, and the GPUs that it claims to have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cluster import api, cgroups, identities, layout, network, processes, runtime

NUM_GPUS = 8
MAX_PROCESSES_OF_A_POD = 4096
_GPU = "nvidia.com/gpu"
# The disk is the machine's: however full it is, that is none of this node's business. 0% switches a signal off.
_DISK_SIGNALS = ("nodefs.available", "nodefs.inodesFree", "imagefs.available", "imagefs.inodesFree")
_FAST_STATUS = {"nodeStatusUpdateFrequency": "1s", "nodeStatusReportFrequency": "1s"}


def prepare(node: layout.NodeLayout) -> None:
    """Make the node's control groups, address and containerd."""
    for group in (node.cgroup, f"{node.cluster.cgroup}/{node.system_group}"):
        cgroups.make(group)
    network.add_node(node)
    runtime.start(node)


def start_kubelet(node: layout.NodeLayout, binary: Callable[[str], Path], *, fast_node_loss: bool) -> None:
    config = node.root / "kubelet.json"
    config.write_text(json.dumps(_config(node, fast_node_loss=fast_node_loss), indent=2))
    command: list[str | Path] = [
        binary("kubelet"),
        f"--config={config}",
        f"--kubeconfig={identities.kubeconfig(node.cluster, f'kubelet-{node.index}')}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
        f"--root-dir={kubelet_root(node)}",
        f"--cert-dir={node.root / 'kubelet-pki'}",
    ]
    processes.start(node.cluster, f"kubelet-{node.index}", command, group=node.system_group)


def lose(node: layout.NodeLayout) -> None:
    """SIGKILL the node's daemons and then its pods, as if its power had gone."""
    cgroups.kill(f"{node.cluster.cgroup}/{node.system_group}")
    cgroups.kill(node.cgroup)


def kubelet_root(node: layout.NodeLayout) -> Path:
    return node.root / "kubelet"


def advertise_gpus(node: layout.NodeLayout, server: api.Api) -> None:
    """Give the node its GPUs; a kubelet that starts takes away what no device plugin offers, one that runs keeps it."""
    resources = {_GPU: str(NUM_GPUS)}
    server.merge(f"/api/v1/nodes/{node.name}/status", {"status": {"capacity": resources, "allocatable": resources}})


def is_registered(node: layout.NodeLayout, server: api.Api) -> bool:
    return _found(node, server) is not None


def is_ready(node: layout.NodeLayout, server: api.Api) -> bool:
    """True once pods can be scheduled here, with GPUs."""
    found = _found(node, server)
    if found is None or found["spec"].get("taints"):
        return False
    conditions = {condition["type"]: condition["status"] for condition in found["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and found["status"]["allocatable"].get(_GPU) == str(NUM_GPUS)


def _found(node: layout.NodeLayout, server: api.Api) -> dict[str, Any] | None:
    names = {found["metadata"]["name"]: found for found in server.get("/api/v1/nodes")["items"]}
    return names.get(node.name)


def _config(node: layout.NodeLayout, *, fast_node_loss: bool) -> dict[str, object]:
    config: dict[str, object] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": node.address,
        "healthzBindAddress": node.address,
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(node.cluster.pki / "ca.crt")}},
        "containerRuntimeEndpoint": f"unix://{node.containerd_socket}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.cgroup}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "enforceNodeAllocatable": [],
        "oomScoreAdj": 0,
        "resolvConf": "",
        "clusterDomain": "cluster.local",
        "clusterDNS": [node.cluster.control_address],
        "podLogsDir": str(node.cluster.logs / "pods"),
        "volumePluginDir": str(node.root / "volume-plugins"),
        "maxPods": 110,
        "podPidsLimit": MAX_PROCESSES_OF_A_POD,
        "serializeImagePulls": False,
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 500,
        "kubeAPIBurst": 1000,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi"} | dict.fromkeys(_DISK_SIGNALS, "0%"),
        "shutdownGracePeriod": "0s",
    }
    return config | (_FAST_STATUS if fast_node_loss else {})
