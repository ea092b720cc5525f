"""Names and addresses of clusters never meet."""

import ipaddress
from pathlib import Path

import pytest
from tests.cluster.layout import MAX_NODES, NUM_SLOTS, Layout

CACHE = Path("/cache")


def cluster(name: str = "one", slot: int = 0) -> Layout:
    return Layout(name=name, slot=slot, cache=CACHE)


def test_clusters_of_all_slots_have_networks_of_their_own() -> None:
    networks = [ipaddress.ip_network(cluster(slot=slot).network) for slot in range(NUM_SLOTS)]
    assert len(set(networks)) == NUM_SLOTS
    assert all(network.is_private for network in networks)


def test_networks_of_a_cluster_lie_in_its_own_and_apart_from_each_other() -> None:
    one = cluster(slot=NUM_SLOTS - 1)
    whole = ipaddress.ip_network(one.network)
    link = ipaddress.ip_network(f"{one.control_address}/30", strict=False)
    parts = [link, ipaddress.ip_network(one.service_network), ipaddress.ip_network(one.pod_network)]
    assert all(part.subnet_of(whole) for part in parts)
    assert not any(a.overlaps(b) for a in parts for b in parts if a is not b)


def test_nodes_have_pod_networks_of_their_own() -> None:
    one = cluster()
    networks = [ipaddress.ip_network(one.node(index).pod_network) for index in range(MAX_NODES)]
    assert len(set(networks)) == MAX_NODES
    assert all(network.subnet_of(ipaddress.ip_network(one.pod_network)) for network in networks)
    addresses = [ipaddress.ip_address(one.node(index).address) for index in range(MAX_NODES)]
    assert all(address in network for address, network in zip(addresses, networks, strict=True))


def test_names_on_the_machine_come_from_the_name_alone() -> None:
    here, there = cluster(slot=1), cluster(slot=2)
    for name in ("root", "run", "namespace", "cgroup", "host_link", "cluster_link"):
        assert getattr(here, name) == getattr(there, name)
        assert getattr(here, name) != getattr(cluster("other"), name)


def test_link_names_and_socket_paths_fit_the_kernel() -> None:
    longest = cluster("a" * 32)
    assert max(len(longest.host_link), len(longest.cluster_link), len(longest.node(7).bridge)) <= 15
    assert len(str(longest.node(7).containerd_socket)) <= 107


@pytest.mark.parametrize("name", ["", "A", "a/b", "-a", "a-", "a" * 33, "..", "a b"])
def test_a_name_that_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cluster's name"):
        cluster(name)


def test_a_slot_beyond_the_last_is_refused() -> None:
    with pytest.raises(ValueError, match="slot 64"):
        cluster(slot=NUM_SLOTS)
