"""Builds the cluster's programs from their Go modules, once, into the cache.

go.mod names each of them as a tool, all on one set of versions: most packages are compiled once for all of them.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from tests.cluster import layout, slots

_MODULE = Path(__file__).parent
_PACKAGES = {
    "pause": "./pause",
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubelet": "k8s.io/kubernetes/cmd/kubelet",
    "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
    "coredns": "./coredns",
    "helm": "helm.sh/helm/v4/cmd/helm",
}
ALL = tuple(_PACKAGES)
_ASSETS = ("etcd", "kube-apiserver", "kubectl")  # what a KUBEBUILDER_ASSETS folder holds


def binary(name: str) -> Path:
    """The program's path, built now if it is not there; KUBEBUILDER_ASSETS goes before the cache."""
    ensure([name])
    return _path(name)


def ensure(names: Iterable[str] = ALL) -> None:
    """Build what is missing, one line of progress each. Cut off, it goes on where it stopped."""
    if not _missing(names):
        return
    _folder().mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True, highlight=False)
    with slots.locked(f"build-{_key()}"):
        missing = _missing(names)
        for number, name in enumerate(missing, 1):
            _build_with_progress(name, console=console, place=f"{number} of {len(missing)}")


def _missing(names: Iterable[str]) -> list[str]:
    return [name for name in names if not _path(name).exists()]


def _path(name: str) -> Path:
    asset = Path(os.environ.get("KUBEBUILDER_ASSETS", "")) / name
    return asset if name in _ASSETS and asset.is_absolute() and asset.exists() else _folder() / name


@dataclasses.dataclass
class _Elapsed:
    """A status line that tells the time that has passed, whenever it is drawn."""

    title: str
    start: float = dataclasses.field(default_factory=time.monotonic)

    def __rich__(self) -> str:
        return f"building {self.title}: {time.monotonic() - self.start:.0f} s"


def _build_with_progress(name: str, *, console: Console, place: str) -> None:
    elapsed = _Elapsed(f"{name} ({place})")
    if console.is_terminal:
        with console.status(elapsed):
            _build(name)
    else:
        console.print(f"building {elapsed.title}")
        _build(name)
    console.print(f"built {elapsed.title} in {time.monotonic() - elapsed.start:.0f} s")


def _build(name: str) -> None:
    """Build under a temporary name, so that a file that is there is whole."""
    temporary = _folder() / f".{name}.{os.getpid()}"
    options = ["-trimpath", "-buildvcs=false", "-ldflags", _linker_flags(), "-o", str(temporary)]
    try:
        done = subprocess.run(
            ["go", "build", *options, _PACKAGES[name]], cwd=_MODULE, env=_environment(), capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"go build of {name} failed:\n{done.stderr[-4000:]}")
        os.replace(temporary, _folder() / name)
    finally:
        temporary.unlink(missing_ok=True)


def _linker_flags() -> str:
    """Without a version of their own, programs call themselves v0.0.0 and clients refuse them."""
    version = module_version("k8s.io/kubernetes")
    major, minor, _ = version.removeprefix("v").split(".")
    facts = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    values = {f"k8s.io/component-base/version.{name}": value for name, value in facts.items()}
    values["helm.sh/helm/v4/internal/version.version"] = module_version("helm.sh/helm/v4")
    return " ".join(["-s -w", *(f"-X {name}={value}" for name, value in values.items())])


def module_version(module: str) -> str:
    """The version that go.mod requires."""
    for line in (_MODULE / "go.mod").read_text().splitlines():
        words = line.removeprefix("require").split()
        if words[:1] == [module] and len(words) > 1 and words[1] != "=>":
            return words[1]
    raise ValueError(f"go.mod does not require {module}")


def _environment() -> dict[str, str]:
    return os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}


def _folder() -> Path:
    return layout.cache() / "bin" / _key()


@functools.cache
def _key() -> str:
    """Another one whenever a source, a version, a flag or the compiler changes."""
    digest = hashlib.sha256(_linker_flags().encode())
    for path in sorted(path for path in _MODULE.rglob("*") if path.suffix in {".go", ".mod", ".sum"}):
        digest.update(path.relative_to(_MODULE).as_posix().encode() + b"\0" + path.read_bytes())
    digest.update(subprocess.run(["go", "version"], cwd=_MODULE, check=True, capture_output=True).stdout)
    return digest.hexdigest()[:16]
