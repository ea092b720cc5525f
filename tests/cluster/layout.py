"""Every name, path and address of a cluster, made from its name and its slot.

Nothing here touches the machine: what `up` makes and what `down` looks for can then never differ.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
NUM_SLOTS = 64
MAX_NODES = 8


def cache() -> Path:
    """Where builds, environments, models and clusters live: $POSTTRAIN_CACHE, or posttrain in the XDG cache."""
    if explicit := os.environ.get("POSTTRAIN_CACHE"):
        return Path(explicit).resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").resolve() / "posttrain"


def run_folder() -> Path:
    """Where sockets, pod mounts and the register of clusters are: $POSTTRAIN_RUN, or /run/posttrain.

    Not in the cache: a socket's path has room for 107 bytes, and the register is the whole machine's.
    """
    return Path(os.environ.get("POSTTRAIN_RUN") or "/run/posttrain")


@dataclasses.dataclass(frozen=True)
class Layout:
    """One cluster's names, from its name alone, and its addresses, 10.(128 + slot).0.0/16."""

    name: str
    slot: int
    cache: Path

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", self.name):
            raise ValueError(f"a cluster's name is at most 32 characters of a-z, 0-9 and '-': {self.name!r}")
        if not 0 <= self.slot < NUM_SLOTS:
            raise ValueError(f"slot {self.slot} is not within 0..{NUM_SLOTS - 1}")

    @property
    def root(self) -> Path:
        return self.cache / "clusters" / self.name

    @property
    def run(self) -> Path:
        return run_folder() / self.name

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def volumes(self) -> Path:
        return self.root / "volumes"

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def namespace(self) -> str:
        return f"posttrain-{self.name}"

    @property
    def namespace_file(self) -> Path:
        return Path("/run/netns") / self.namespace

    @property
    def cgroup(self) -> str:
        return f"posttrain-{self.name}"

    @property
    def _short(self) -> str:
        """The name for places with room for 15 characters."""
        return hashlib.sha256(self.name.encode()).hexdigest()[:10]

    @property
    def host_link(self) -> str:
        return f"pt{self._short}h"

    @property
    def cluster_link(self) -> str:
        return f"pt{self._short}c"

    def address(self, third: int, fourth: int) -> str:
        return f"10.{128 + self.slot}.{third}.{fourth}"

    @property
    def network(self) -> str:
        return f"{self.address(0, 0)}/16"

    @property
    def host_address(self) -> str:
        return self.address(0, 1)

    @property
    def control_address(self) -> str:
        """The API server and the name server, seen from the host, the nodes and the pods."""
        return self.address(0, 2)

    @property
    def server(self) -> str:
        return f"https://{self.control_address}:6443"

    @property
    def service_network(self) -> str:
        return f"{self.address(64, 0)}/18"

    @property
    def pod_network(self) -> str:
        return f"{self.address(128, 0)}/17"

    def node(self, index: int) -> NodeLayout:
        return NodeLayout(cluster=self, index=index)


@dataclasses.dataclass(frozen=True)
class NodeLayout:
    """One node's names: its own kubelet, containerd, bridge and /24 of pod addresses."""

    cluster: Layout
    index: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < MAX_NODES:
            raise ValueError(f"node {self.index} is not within 0..{MAX_NODES - 1}")

    @property
    def name(self) -> str:
        return f"{self.cluster.name}-{self.index}"

    @property
    def root(self) -> Path:
        return self.cluster.root / "nodes" / str(self.index)

    @property
    def run(self) -> Path:
        return self.cluster.run / "nodes" / str(self.index)

    @property
    def containerd_socket(self) -> Path:
        return self.run / "containerd.sock"

    @property
    def address(self) -> str:
        return self.cluster.address(128 + self.index, 1)

    @property
    def bridge(self) -> str:
        return f"pods{self.index}"

    @property
    def pod_network(self) -> str:
        return f"{self.cluster.address(128 + self.index, 0)}/24"

    @property
    def cni_network(self) -> str:
        return f"posttrain-{self.name}"

    @property
    def cgroup(self) -> str:
        """That of the node's pods."""
        return f"{self.cluster.cgroup}/node{self.index}"

    @property
    def system_group(self) -> str:
        """Within the cluster's: containerd with its shims, and the kubelet."""
        return f"system{self.index}"
