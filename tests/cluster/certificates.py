"""The cluster's keys and certificates, made anew by the openssl program for every cluster."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.cluster import layout

_DAYS = "3650"
_CURVE = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]


def make(cluster: layout.Layout) -> None:
    """Write ca, apiserver, kubelet-client (.crt and .key) and service-account.key, readable by their owner only."""
    cluster.pki.mkdir(mode=0o700)
    folder = cluster.pki
    authority: list[str | Path] = [
        "-keyout",
        folder / "ca.key",
        "-out",
        folder / "ca.crt",
        "-addext",
        "keyUsage=critical,keyCertSign",
    ]
    _openssl("req", "-x509", *_CURVE, "-days", _DAYS, "-subj", f"/CN={cluster.namespace}", *authority)
    _signed(folder, "apiserver", subject="/CN=kube-apiserver", extensions=_serving(cluster))
    # The API server's own identity towards kubelets, which ask it back whether that may do everything.
    _signed(
        folder, "kubelet-client", subject="/O=system:masters/CN=kube-apiserver-kubelet-client", extensions=_client()
    )
    # In the old form (EC PRIVATE KEY): Kubernetes reads the public half of a token key from no other.
    _openssl("ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out", folder / "service-account.key")


def _serving(cluster: layout.Layout) -> list[str]:
    names = [
        f"DNS:{name}"
        for name in (
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        )
    ]
    addresses = [f"IP:{address}" for address in (cluster.control_address, cluster.address(64, 1), "127.0.0.1")]
    return ["extendedKeyUsage=serverAuth", f"subjectAltName={','.join(names + addresses)}"]


def _client() -> list[str]:
    return ["extendedKeyUsage=clientAuth"]


def _signed(folder: Path, name: str, *, subject: str, extensions: list[str]) -> None:
    added = [
        argument
        for extension in ["basicConstraints=critical,CA:FALSE", *extensions]
        for argument in ("-addext", extension)
    ]
    request = folder / f"{name}.csr"
    _openssl("req", *_CURVE, "-subj", subject, *added, "-keyout", folder / f"{name}.key", "-out", request)
    _openssl(
        "x509", "-req", "-in", request, "-CA", folder / "ca.crt", "-CAkey", folder / "ca.key", "-CAcreateserial",
        "-copy_extensions", "copyall", "-days", _DAYS, "-out", folder / f"{name}.crt",
    )  # fmt: skip
    request.unlink()


def _openssl(*arguments: str | Path) -> None:
    previous = os.umask(0o077)
    try:
        done = subprocess.run(["openssl", *map(str, arguments)], capture_output=True, text=True)
    finally:
        os.umask(previous)
    if done.returncode:
        raise RuntimeError(f"openssl {arguments[0]}: {done.stderr.strip()}")
