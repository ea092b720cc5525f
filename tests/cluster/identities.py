"""Who may speak to the API server: one random token and one kubeconfig for each program, and the administrator's."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import secrets
from pathlib import Path

from tests.cluster import layout

ADMIN = "admin"
# The kubeconfig's name -> (user, group); Kubernetes has its roles for these names built in.
_USERS = {
    ADMIN: ("posttrain-admin", "system:masters"),
    "kube-controller-manager": ("system:kube-controller-manager", ""),
    "kube-scheduler": ("system:kube-scheduler", ""),
    "kube-proxy": ("system:kube-proxy", ""),
    "coredns": ("system:coredns", ""),
}


def make(cluster: layout.Layout) -> None:
    """Write the token file of the API server and every kubeconfig, those of all possible nodes included."""
    users = dict(_USERS)
    for index in range(layout.MAX_NODES):
        node = cluster.node(index)
        users[f"kubelet-{index}"] = (f"system:node:{node.name}", "system:nodes")
    tokens = {name: secrets.token_urlsafe(32) for name in users}
    table = io.StringIO()
    csv.writer(table).writerows([tokens[name], user, user, group] for name, (user, group) in users.items())
    _write_private(token_file(cluster), table.getvalue())
    for name, token in tokens.items():
        _write_private(kubeconfig(cluster, name), json.dumps(_kubeconfig(cluster, token=token), indent=2))


def token_file(cluster: layout.Layout) -> Path:
    return cluster.pki / "tokens.csv"


def kubeconfig(cluster: layout.Layout, name: str) -> Path:
    return cluster.kubeconfig if name == ADMIN else cluster.pki / f"{name}.kubeconfig"


def context(cluster: layout.Layout) -> str:
    return cluster.namespace


def _kubeconfig(cluster: layout.Layout, *, token: str) -> dict[str, object]:
    authority = base64.b64encode((cluster.pki / "ca.crt").read_bytes()).decode()
    name = context(cluster)
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": cluster.server, "certificate-authority-data": authority}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "users": [{"name": name, "user": {"token": token}}],
    }


def _write_private(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
