"""The cluster's network namespace: one veth pair joins it to the host, whose own iptables stay as they are."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.cluster import layout


def make(cluster: layout.Layout) -> None:
    """Make the namespace, the veth pair and the host's route to the control plane, pods and services."""
    _ip("netns", "add", cluster.namespace)
    _ip("link", "add", cluster.host_link, "type", "veth", "peer", cluster.cluster_link, "netns", cluster.namespace)
    _ip("address", "add", f"{cluster.host_address}/30", "dev", cluster.host_link)
    _ip("link", "set", cluster.host_link, "up")
    _ip("route", "add", cluster.network, "via", cluster.control_address)
    inside = ["-n", cluster.namespace]
    _ip(*inside, "address", "add", f"{cluster.control_address}/30", "dev", cluster.cluster_link)
    _ip(*inside, "link", "set", "lo", "up")
    _ip(*inside, "link", "set", cluster.cluster_link, "up")
    _ip(*inside, "route", "add", "default", "via", cluster.host_address)
    # /proc/sys/net shows the namespace of who looks: the second is what lets kube-proxy see traffic within a bridge.
    for setting in ("net/ipv4/ip_forward", "net/bridge/bridge-nf-call-iptables"):
        set_it = f"test ! -e /proc/sys/{setting} || echo 1 > /proc/sys/{setting}"
        _run(["nsenter", f"--net={cluster.namespace_file}", "/bin/sh", "-c", set_it])


def add_node(node: layout.NodeLayout) -> None:
    """Make the bridge of the node's pods, whose address is the node's too: a kubelet takes none that is loopback."""
    inside = ["-n", node.cluster.namespace]
    _ip(*inside, "link", "add", node.bridge, "type", "bridge")
    _ip(*inside, "address", "add", f"{node.address}/24", "dev", node.bridge)
    _ip(*inside, "link", "set", node.bridge, "up")


def remove(cluster: layout.Layout) -> None:
    """Remove the namespace, and with it its links, routes and iptables rules. Needs its processes to be gone."""
    if host_link_exists(cluster):
        _ip("link", "delete", cluster.host_link)
    if cluster.namespace_file.exists():
        _ip("netns", "delete", cluster.namespace)


def host_link_exists(cluster: layout.Layout) -> bool:
    return Path("/sys/class/net", cluster.host_link).exists()


def _ip(*arguments: str) -> None:
    _run(["ip", *arguments])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")
