"""The local cluster as a whole: up, down, and what tests ask of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from tests.cluster import (
    api,
    build,
    certificates,
    cgroups,
    control_plane,
    debian,
    identities,
    images,
    layout,
    machine,
    network,
    node,
    processes,
    runtime,
    services,
    slots,
    teardown,
    volumes,
)

RUNTIME_CLASS = "posttrain-local"


class Cluster:
    """A Kubernetes cluster on this machine, named so that several can run at once. Needs root."""

    def __init__(self, name: str = "posttrain") -> None:
        self.name = name

    @property
    def _layout(self) -> layout.Layout:
        return _layout(self.name)

    @property
    def root(self) -> Path:
        """The cluster's folder in the cache; its `logs` outlive the cluster."""
        return self._layout.root

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, for use on the host; its context is posttrain-<name>."""
        return self._layout.kubeconfig

    def processes(self) -> set[int]:
        """The id of every process of the cluster, of those in pods too."""
        return cgroups.processes(self._layout.cgroup)

    def up(self, nodes: int = 1, *, controllers: bool = True) -> Cluster:
        """Return once a cluster of this shape is ready; one that is already is kept, any other is replaced.

        With no nodes there are only etcd, the API server and (unless switched off) the controllers.
        """
        if os.geteuid() != 0:
            raise PermissionError("the local cluster needs root: network namespaces, control groups and containerd")
        shape: dict[str, Any] = {"nodes": nodes, "controllers": controllers or nodes > 0}
        with slots.locked(f"up-{self.name}"):
            cluster = slots.claim(self.name)
            if not self._is_healthy(shape):
                with contextlib.ExitStack() as undo:
                    undo.callback(teardown.remove, cluster)
                    teardown.clear(cluster)
                    debian.ensure()
                    build.ensure(_programs(**shape))
                    _start(cluster, **shape)
                    self._shape_file.write_text(json.dumps(shape))
                    undo.pop_all()
            elif nodes:
                _import_images([cluster.node(index) for index in range(nodes)])
                self.top_up_volumes()
        return self

    def down(self) -> list[str]:
        """Remove the cluster with everything in it but its logs; returns what could not be removed."""
        with slots.locked(f"up-{self.name}"):
            teardown.remove(self._layout)
            return leftovers(self.name)

    def crash(self) -> None:
        """SIGKILL every process of the cluster, pods included, and leave the remains as they are."""
        cgroups.kill(self._layout.cgroup)

    def is_healthy(self) -> bool:
        """True if `up` came to its end, every component runs and every node is ready."""
        try:
            return self._is_healthy(json.loads(self._shape_file.read_text()))
        except FileNotFoundError:
            return False

    def components(self) -> dict[str, int | None]:
        """What was started -> its process id, None if it has ended."""
        cluster = self._layout
        return {component: processes.pid(cluster, component) for component in processes.components(cluster)}

    def logs(self, component: str) -> str:
        """What a component has written: etcd, kube-apiserver, kube-controller-manager, kubelet-0, containerd-0..."""
        return processes.log_file(self._layout, component).read_text(errors="replace")

    def lose_node(self, index: int) -> None:
        """SIGKILL everything of one node at once, its pods included; with others left, it is NotReady in some 6 s."""
        node.lose(self._layout.node(index))

    def stop(self, component: str) -> None:
        """SIGKILL one component; what it has started, such as a node's pods, runs on."""
        processes.stop(self._layout, component)

    def restart(self, component: str) -> None:
        """Start one component again as it was, stopping it before if it runs."""
        processes.stop(self._layout, component)
        processes.restart(self._layout, component)

    def binary(self, name: str) -> Path:
        """A program of the cluster's versions, such as kubectl or helm; built if it is not there."""
        return build.binary(name)

    def volume(self, namespace: str, claim: str, size: str = "10Gi") -> Path:
        """Make a bound claim on a folder of the host that everyone may write, if there is none; returns the folder."""
        cluster = self._layout
        return volumes.claimed(cluster, api.Api(cluster), namespace=namespace, claim=claim, size=size)

    def top_up_volumes(self) -> None:
        """Bring the pool of volumes for claims of any size back to its full number."""
        cluster = self._layout
        volumes.top_up(cluster, api.Api(cluster))

    @property
    def _shape_file(self) -> Path:
        """Written at the very end of `up`."""
        return self._layout.run / "shape"

    def _is_healthy(self, shape: dict[str, Any]) -> bool:
        cluster = self._layout
        if (
            not self._shape_file.exists()
            or json.loads(self._shape_file.read_text()) != shape
            or processes.missing(cluster)
        ):
            return False
        server = api.Api(cluster)
        return server.is_ready() and all(node.is_ready(cluster.node(index), server) for index in range(shape["nodes"]))


def leftovers(name: str) -> list[str]:
    """What is on the machine of a cluster, in words: processes, mounts, namespaces, links, control groups, files."""
    return teardown.leftovers(_layout(name))


def _layout(name: str) -> layout.Layout:
    """The recorded cluster; one that is not recorded has its names all the same, and addresses that nobody uses."""
    return slots.find(name) or layout.Layout(name=name, slot=0, cache=layout.cache())


def _start(cluster: layout.Layout, *, nodes: int, controllers: bool) -> None:
    _prepare(cluster)
    for index in range(nodes):
        node.prepare(cluster.node(index))
    server = control_plane.start_api_server(cluster, build.binary)
    if controllers:
        control_plane.start_controllers(cluster, build.binary, num_nodes=nodes)
    if nodes:
        _start_nodes(cluster, server, num_nodes=nodes)
    if controllers:
        _wait_for_service_account(cluster, server)


def _programs(*, nodes: int, controllers: bool) -> tuple[str, ...]:
    """The programs that a cluster of this shape needs, so that a small one starts without building the others."""
    if nodes:
        return tuple(name for name in build.ALL if name != "helm")
    return ("etcd", "kube-apiserver", "kubectl", *(["kube-controller-manager"] if controllers else []))


def _prepare(cluster: layout.Layout) -> None:
    shutil.rmtree(cluster.logs, ignore_errors=True)
    for folder in (cluster.root, cluster.run, cluster.logs, cluster.volumes):
        folder.mkdir(parents=True, exist_ok=True)
    certificates.make(cluster)
    identities.make(cluster)
    cgroups.make(f"{cluster.cgroup}/{cgroups.SYSTEM}")
    network.make(cluster)


def _start_nodes(cluster: layout.Layout, server: api.Api, *, num_nodes: int) -> None:
    machine.note()
    nodes = [cluster.node(index) for index in range(num_nodes)]
    control_plane.start_scheduler(cluster, build.binary)
    _import_images(nodes)
    for each in nodes:
        node.start_kubelet(each, build.binary, fast_node_loss=num_nodes > 1)
    services.start(cluster, build.binary)
    _apply_objects(server)
    volumes.top_up(cluster, server)
    for each in nodes:
        _wait_for_node(each, server)
    processes.wait_for(cluster, lambda: services.is_dns_ready(cluster), what="the cluster's name server")


def _import_images(nodes: list[layout.NodeLayout]) -> None:
    """Bring the images of the project's present version to every node."""
    content = images.docker_archive(images.all_images(build.binary("pause")))
    for each in nodes:
        runtime.import_images(each, content)


def _wait_for_node(each: layout.NodeLayout, server: api.Api) -> None:
    processes.wait_for(each.cluster, lambda: node.is_registered(each, server), what=f"node {each.name} to register")
    node.advertise_gpus(each, server)
    processes.wait_for(each.cluster, lambda: node.is_ready(each, server), what=f"node {each.name} to be ready")


def _wait_for_service_account(cluster: layout.Layout, server: api.Api) -> None:
    """No pod can be made before it is there."""
    path = "/api/v1/namespaces/default/serviceaccounts"
    processes.wait_for(cluster, lambda: bool(server.get(path)["items"]), what="the default service account")


def _apply_objects(server: api.Api) -> None:
    volumes.make_class(server)
    runtime_class = {
        "apiVersion": "node.k8s.io/v1",
        "kind": "RuntimeClass",
        "metadata": {"name": RUNTIME_CLASS},
        "handler": runtime.HANDLER,
    }
    server.apply(f"/apis/node.k8s.io/v1/runtimeclasses/{RUNTIME_CLASS}", runtime_class)
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": "posttrain-coredns"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "system:coredns"}],
    }
    server.apply("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/posttrain-coredns", binding)
