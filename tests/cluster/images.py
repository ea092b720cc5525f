"""Images without a registry: one skeleton of a root file system, as small docker-archives that containerd imports.

What a container sees below /usr and in its Python environments is the machine's, mounted by the runtime (runtime.py).
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import platform
import tarfile
import tomllib
from pathlib import Path
from typing import Any

from tests.cluster import layout

PAUSE = "posttrain.dev/pause:local"
SOURCE = "/opt/posttrain/src"
ENVIRONMENTS = "/opt/posttrain/env"
MODELS = "/models"
NONROOT = 65532

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_FOLDERS = (
    *("dev", "etc", "etc/alternatives", "etc/ssl", "home", "opt", "proc", "run", "sys", "usr", "var"),
    *(path.lstrip("/") for path in (MODELS, ENVIRONMENTS, SOURCE)),
)
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64", "var/run": "../run"}
_FILES = {
    "etc/passwd": f"root:x:0:0:root:/root:/bin/sh\nnonroot:x:{NONROOT}:{NONROOT}:nonroot:/tmp:/bin/sh\n",
    "etc/group": f"root:x:0:\nnonroot:x:{NONROOT}:\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
    "etc/ld.so.cache": "",
}


@dataclasses.dataclass(frozen=True)
class Image:
    """One image: its name, its file system as a tar, and the `config` part of its configuration."""

    name: str
    layer: bytes
    config: dict[str, Any]


def all_images(pause: Path) -> list[Image]:
    """The sandbox image around the `pause` program, and ours, tagged with the project's version."""
    root = skeleton()
    version = project_version()
    programs = [
        _program("operator", version, root, sources=["operator"]),
        _program("trainer", version, root, sources=["operator", "images/trainer"]),
        _program("server", version, root, sources=["operator", "images/server"]),
    ]
    base = Image(
        f"posttrain.dev/base:{version}",
        root,
        {"Env": _environment("/usr/bin"), "User": f"{NONROOT}:{NONROOT}", "WorkingDir": "/tmp"},
    )
    return [_pause(pause), *programs, base]


def project_version() -> str:
    return str(tomllib.loads((layout.REPOSITORY / "pyproject.toml").read_text())["project"]["version"])


def skeleton() -> bytes:
    """The layer that all images share: mount points, links into /usr and the few files that name resolution needs."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in _FOLDERS:
            _add(archive, folder, kind=tarfile.DIRTYPE, mode=0o755)
        for folder in ("tmp", "var/tmp"):
            _add(archive, folder, kind=tarfile.DIRTYPE, mode=0o1777)
        for name, target in _LINKS.items():
            _add(archive, name, kind=tarfile.SYMTYPE, target=target)
        for name, text in _FILES.items():
            _add(archive, name, content=text.encode())
    return buffer.getvalue()


def docker_archive(images: list[Image]) -> bytes:
    """The bytes of `docker save` for these images; a layer that several share is stored once."""
    entries: list[dict[str, Any]] = []
    blobs: dict[str, bytes] = {}
    for image in images:
        layer_digest = hashlib.sha256(image.layer).hexdigest()
        config = _configuration(image.config, layer_digest=layer_digest)
        config_digest = hashlib.sha256(config).hexdigest()
        blobs |= {f"{config_digest}.json": config, f"{layer_digest}.tar": image.layer}
        entries.append({"Config": f"{config_digest}.json", "RepoTags": [image.name], "Layers": [f"{layer_digest}.tar"]})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in {**blobs, "manifest.json": json.dumps(entries).encode()}.items():
            _add(archive, name, content=content)
    return buffer.getvalue()


def _pause(program: Path) -> Image:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        _add(archive, "pause", content=program.read_bytes(), mode=0o755)
    return Image(PAUSE, buffer.getvalue(), {"Entrypoint": ["/pause"], "User": f"{NONROOT}:{NONROOT}"})


def _program(name: str, version: str, layer: bytes, *, sources: list[str]) -> Image:
    folder = f"{ENVIRONMENTS}/{name}/bin"
    environment = [
        *_environment(f"{folder}:/usr/bin"),
        "PYTHONPATH=" + ":".join(f"{SOURCE}/{source}" for source in sources),
    ]
    config = {
        "Entrypoint": [f"{folder}/python", "-m", f"posttrain_{name}"],
        "Env": environment,
        "User": f"{NONROOT}:{NONROOT}",
        "WorkingDir": "/tmp",
    }
    return Image(f"posttrain.dev/{name}:{version}", layer, config)


def _environment(path: str) -> list[str]:
    return [
        f"PATH={path}:/usr/local/bin:/bin:/usr/sbin",
        "HOME=/tmp",
        "PYTHONUNBUFFERED=1",
        "PYTHONDONTWRITEBYTECODE=1",
        "HF_HUB_OFFLINE=1",
        "VLLM_NO_USAGE_STATS=1",
        "DO_NOT_TRACK=1",
    ]


def _configuration(config: dict[str, Any], *, layer_digest: str) -> bytes:
    document = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer_digest}"]},
    }
    return json.dumps(document, sort_keys=True).encode()


def _add(
    archive: tarfile.TarFile,
    name: str,
    *,
    kind: bytes = tarfile.REGTYPE,
    mode: int = 0o644,
    target: str = "",
    content: bytes = b"",
) -> None:
    """Add one entry, owned by root and dated at the epoch so that the same images have the same digests."""
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.linkname, entry.size = kind, mode, target, len(content)
    archive.addfile(entry, io.BytesIO(content))
