"""Service addresses and names: kube-proxy and CoreDNS, both as processes in the cluster's network namespace."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path

from tests.cluster import identities, layout, processes

_DNS_READY_PORT = 8181


def start(cluster: layout.Layout, binary: Callable[[str], Path]) -> None:
    config = cluster.root / "kube-proxy.json"
    config.write_text(json.dumps(_proxy_config(cluster), indent=2))
    processes.start(cluster, "kube-proxy", [binary("kube-proxy"), f"--config={config}"])
    corefile = cluster.root / "Corefile"
    corefile.write_text(_corefile(cluster))
    processes.start(cluster, "coredns", [binary("coredns"), "-conf", corefile])


def is_dns_ready(cluster: layout.Layout) -> bool:
    connection = http.client.HTTPConnection(cluster.control_address, _DNS_READY_PORT, timeout=1)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def _proxy_config(cluster: layout.Layout) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(identities.kubeconfig(cluster, "kube-proxy"))},
        "mode": "iptables",
        # Traffic from elsewhere, the host's to a service address say, is masqueraded and so finds its way back.
        "clusterCIDR": cluster.pod_network,
        "hostnameOverride": cluster.node(0).name,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "oomScoreAdj": 0,
        "iptables": {"minSyncPeriod": "0s"},
        # These settings of connection tracking belong to the whole machine: left as they are.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def _corefile(cluster: layout.Layout) -> str:
    """Names within the cluster only; any other is refused at once, for there is nobody to ask."""
    return f"""\
.:53 {{
    bind {cluster.control_address}
    errors
    ready {cluster.control_address}:{_DNS_READY_PORT}
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {identities.kubeconfig(cluster, "coredns")} {identities.context(cluster)}
        pods insecure
        ttl 2
    }}
    cache 2 {{
        denial 1024 1
    }}
}}
"""
