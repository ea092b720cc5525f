"""Who may speak to our pods: NetworkPolicies and Prometheus' annotations, for both kinds. Pure."""

from collections.abc import Mapping

from posttrain_operator.actions import Manifest
from posttrain_operator.settings import Settings

OPERATOR_LABELS = {"app.kubernetes.io/name": "posttrain", "app.kubernetes.io/component": "operator"}
"""The labels that the chart gives the operator's pod."""
_PROMETHEUS_LABELS = {"app.kubernetes.io/name": "prometheus"}
"""The labels that Prometheus' operator and charts give its pods."""


def watchers(settings: Settings) -> list[Manifest]:
    """The peers that may read what our pods report: the operator, and Prometheus of any namespace."""
    operator_namespace = {"matchLabels": {"kubernetes.io/metadata.name": settings.operator_namespace}}
    return [
        {"namespaceSelector": operator_namespace, "podSelector": {"matchLabels": OPERATOR_LABELS}},
        {"namespaceSelector": {}, "podSelector": {"matchLabels": _PROMETHEUS_LABELS}},
    ]


def ingress_only(pod_labels: Mapping[str, str], peers_of_ports: Mapping[int, list[Manifest]]) -> Manifest:
    """The spec of a NetworkPolicy that closes every port of these pods but the given ones, each to its peers."""
    return {
        "podSelector": {"matchLabels": dict(pod_labels)},
        "policyTypes": ["Ingress"],
        "ingress": [
            {"from": peers, "ports": [{"protocol": "TCP", "port": port}]} for port, peers in peers_of_ports.items()
        ],
    }


def scrape_annotations(port: int) -> dict[str, str]:
    """The annotations by which Prometheus finds a pod's metrics."""
    return {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port),
        "prometheus.io/path": "/metrics",
    }
