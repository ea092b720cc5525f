"""etcd, the API server, and the controllers and scheduler that make a cluster of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.cluster import api, identities, layout, processes

Binary = Callable[[str], Path]


def start_api_server(cluster: layout.Layout, binary: Binary) -> api.Api:
    """Start etcd and the API server, which waits for etcd by itself; returns once it is ready."""
    processes.start(cluster, "etcd", [binary("etcd"), *_etcd_flags(cluster)])
    processes.start(cluster, "kube-apiserver", [binary("kube-apiserver"), *_api_server_flags(cluster)])
    server = api.Api(cluster)
    processes.wait_for(cluster, server.is_ready, what="the API server")
    return server


def start_controllers(cluster: layout.Layout, binary: Binary, *, num_nodes: int) -> None:
    flags = _controller_flags(cluster, fast_node_loss=num_nodes > 1)
    processes.start(cluster, "kube-controller-manager", [binary("kube-controller-manager"), *flags])


def start_scheduler(cluster: layout.Layout, binary: Binary) -> None:
    config = cluster.root / "scheduler.json"
    config.write_text(json.dumps(_scheduler_config(cluster)))
    flags = [f"--config={config}", "--bind-address=127.0.0.1", f"--cert-dir={cluster.pki / 'scheduler'}"]
    processes.start(cluster, "kube-scheduler", [binary("kube-scheduler"), *flags])


def _etcd_flags(cluster: layout.Layout) -> list[str]:
    return [
        f"--data-dir={cluster.root / 'etcd'}",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--unsafe-no-fsync",  # nothing here outlives the machine
        "--log-level=warn",
    ]


def _api_server_flags(cluster: layout.Layout) -> list[str]:
    pki = cluster.pki
    return [
        "--etcd-servers=http://127.0.0.1:2379",
        f"--advertise-address={cluster.control_address}",
        f"--service-cluster-ip-range={cluster.service_network}",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged",
        f"--token-auth-file={identities.token_file(cluster)}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki / 'service-account.key'}",
        f"--service-account-signing-key-file={pki / 'service-account.key'}",
        f"--cert-dir={pki}",
    ]


def _controller_flags(cluster: layout.Layout, *, fast_node_loss: bool) -> list[str]:
    # With one node there is nowhere else to go, and on a busy machine a short period would call it lost.
    period_seconds, grace_seconds = (1, 6) if fast_node_loss else (5, 50)
    return [
        f"--kubeconfig={identities.kubeconfig(cluster, 'kube-controller-manager')}",
        "--leader-elect=false",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={cluster.pki / 'service-account.key'}",
        f"--root-ca-file={cluster.pki / 'ca.crt'}",
        f"--cluster-cidr={cluster.pod_network}",
        "--bind-address=127.0.0.1",
        f"--cert-dir={cluster.pki / 'controller-manager'}",
        f"--flex-volume-plugin-dir={cluster.root / 'volume-plugins'}",
        f"--node-monitor-period={period_seconds}s",
        f"--node-monitor-grace-period={grace_seconds}s",
        "--concurrent-job-syncs=20",
        "--concurrent-deployment-syncs=20",
        "--concurrent-replicaset-syncs=20",
        "--concurrent-gc-syncs=20",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
    ]


def _scheduler_config(cluster: layout.Layout) -> dict[str, object]:
    return {
        "apiVersion": "kubescheduler.config.k8s.io/v1",
        "kind": "KubeSchedulerConfiguration",
        "clientConnection": {
            "kubeconfig": str(identities.kubeconfig(cluster, "kube-scheduler")),
            "qps": 500,
            "burst": 1000,
        },
        "leaderElection": {"leaderElect": False},
        "podMaxBackoffSeconds": 2,
    }
