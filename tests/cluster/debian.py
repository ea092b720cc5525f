"""The programs that come from the distribution, installed when they are missing."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

_PACKAGE_OF = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "socat": "socat",
    "conntrack": "conntrack",
    "iptables": "iptables",
    "ip": "iproute2",
    "openssl": "openssl",
}
_CNI_PACKAGE = "containernetworking-plugins"
_CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_POLICY = Path("/usr/sbin/policy-rc.d")


def ensure() -> None:
    """Install the missing packages without starting or enabling a service of theirs."""
    packages = missing_packages()
    if not packages:
        return
    Console(stderr=True).print(f"installing {' '.join(packages)}", highlight=False)
    with _services_kept_off():
        _apt_get("update", "-q")
        _apt_get("install", "-q", "-y", "--no-install-recommends", *packages)
    if "containerd" in packages and shutil.which("systemctl"):
        subprocess.run(["systemctl", "disable", "containerd"], capture_output=True, check=False)


def missing_packages() -> list[str]:
    missing = {package for program, package in _PACKAGE_OF.items() if not shutil.which(program)}
    if not any((folder / "bridge").exists() for folder in _CNI_FOLDERS):
        missing.add(_CNI_PACKAGE)
    return sorted(missing)


def cni_plugins() -> Path:
    """The folder of the CNI plugins."""
    return next(folder for folder in _CNI_FOLDERS if (folder / "bridge").exists())


@contextlib.contextmanager
def _services_kept_off() -> Iterator[None]:
    """Debian's way to install without starting: a policy program that answers 101. One that is there already stays."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _apt_get(*arguments: str) -> None:
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(["apt-get", *arguments], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"apt-get {arguments[0]} failed: {done.stderr[-2000:]}")
