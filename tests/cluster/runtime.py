"""containerd of one node, and the runtime `posttrain` that lends the machine's Python to containers, read-only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cluster import debian, images, layout, processes

HANDLER = "posttrain"
_NAMESPACE = "k8s.io"
# Folders of the cache, mounted as a whole so that what comes into them while the cluster runs is seen too.
_FILLED_LATER = {"env": images.ENVIRONMENTS, "models": images.MODELS}
_UNUSED_PLUGINS = [
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.internal.v1.tracing",
]


def start(node: layout.NodeLayout) -> None:
    """Write containerd's configuration and start it, without waiting for it."""
    for folder in (node.root / "cni", node.run, *(node.cluster.cache / name for name in _FILLED_LATER)):
        folder.mkdir(parents=True, exist_ok=True)
    _refuse_registries(node.root / "registries")
    (node.root / "cni" / "10-posttrain.conflist").write_text(json.dumps(_cni(node), indent=2))
    default = json.loads(subprocess.run(["ctr", "oci", "spec"], check=True, capture_output=True).stdout)
    _base_spec(node).write_text(json.dumps(with_machine(default, mounts(node.cluster.cache))))
    config = node.root / "containerd.toml"
    config.write_text(containerd_config(node, cni_plugins=debian.cni_plugins()))
    command: list[str | Path] = ["containerd", "--config", config]
    processes.start(node.cluster, f"containerd-{node.index}", command, group=node.system_group)


def import_images(node: layout.NodeLayout, archive: bytes) -> None:
    """Import a docker-archive, once containerd answers."""
    processes.wait_for(node.cluster, lambda: _answers(node), what=f"containerd of {node.name}")
    path = node.root / "images.tar"
    path.write_bytes(archive)
    processes.run(node.cluster, [*_ctr(node), "--namespace", _NAMESPACE, "images", "import", path])


def mounts(cache: Path) -> list[tuple[Path, str]]:
    """What of the machine every container sees: (path here, path there)."""
    same = [
        Path("/usr"),
        Path("/etc/ssl"),
        Path("/etc/alternatives"),
        Path("/etc/ld.so.cache"),
        *python_homes(cache / "env"),
    ]
    filled_later = [(cache / name, there) for name, there in _FILLED_LATER.items()]
    return [(path, str(path)) for path in same if path.exists()] + [(layout.REPOSITORY, images.SOURCE), *filled_later]


def python_homes(environments: Path) -> list[Path]:
    """The installations behind the virtual environments' interpreters and our own, but for those below /usr."""
    homes = {Path(sys.base_prefix).resolve()}
    for config in environments.glob("*/pyvenv.cfg"):
        settings = dict(line.partition("=")[::2] for line in config.read_text().splitlines())
        settings = {key.strip(): value.strip() for key, value in settings.items()}
        homes.add(Path(settings["home"]).resolve().parent)
    return sorted(home for home in homes if not home.is_relative_to("/usr"))


def missing_environments(cache: Path) -> list[str]:
    """Environments that pods cannot start from yet; the folder is mounted as a whole, so they may come later."""
    return [
        name for name in ("operator", "trainer", "server") if not (cache / "env" / name / "bin" / "python").exists()
    ]


def with_machine(spec: dict[str, Any], added: list[tuple[Path, str]]) -> dict[str, Any]:
    """The OCI runtime spec with read-only bind mounts; the file limit is left to what containerd itself has."""
    binds = [
        {"source": str(here), "destination": there, "type": "bind", "options": ["rbind", "ro", "nosuid", "nodev"]}
        for here, there in added
    ]
    process = {key: value for key, value in spec["process"].items() if key != "rlimits"}
    return spec | {"process": process, "mounts": [*spec["mounts"], *binds]}


def shim_sockets(cluster: layout.Layout) -> list[Path]:
    """Sockets that the pods' shims keep outside the cluster's folders, as their bundles name them."""
    addresses = cluster.run.glob(f"nodes/*/containerd/io.containerd.runtime.v2.task/{_NAMESPACE}/*/address")
    return sorted({Path(address.read_text().strip().removeprefix("unix://")) for address in addresses})


def _refuse_registries(folder: Path) -> None:
    """An image that is not here is refused at once, instead of after the time limits of a name server out of reach."""
    nobody = "http://127.0.0.1:1"
    # containerd 1.6 reads the server's line only where there is a host's.
    hosts = f'server = "{nobody}"\n[host."{nobody}"]\n  capabilities = ["pull", "resolve"]\n'
    (folder / "_default").mkdir(parents=True)
    (folder / "_default" / "hosts.toml").write_text(hosts)


def _answers(node: layout.NodeLayout) -> bool:
    return subprocess.run([*_ctr(node), "version"], capture_output=True).returncode == 0


def _ctr(node: layout.NodeLayout) -> list[str]:
    return ["ctr", "--address", str(node.containerd_socket)]


def _base_spec(node: layout.NodeLayout) -> Path:
    return node.root / "base-runtime-spec.json"


def _cni(node: layout.NodeLayout) -> dict[str, object]:
    ipam = {
        "type": "host-local",
        "dataDir": str(node.root / "addresses"),
        "ranges": [[{"subnet": node.pod_network}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": node.bridge, "isGateway": True, "hairpinMode": True, "ipam": ipam}
    return {
        "cniVersion": "1.0.0",
        "name": node.cni_network,
        "plugins": [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def containerd_config(node: layout.NodeLayout, *, cni_plugins: Path) -> str:
    """Everything in the cluster's own folders; no AppArmor, no lowered OOM score: rights for these may be missing."""
    return f"""\
version = 2
root = "{node.root / "containerd"}"
state = "{node.run / "containerd"}"
disabled_plugins = {json.dumps(_UNUSED_PLUGINS)}

[grpc]
  address = "{node.containerd_socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{node.root / "opt"}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{images.PAUSE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "{cni_plugins}"
  conf_dir = "{node.root / "cni"}"

[plugins."io.containerd.grpc.v1.cri".registry]
  config_path = "{node.root / "registries"}"

[plugins."io.containerd.grpc.v1.cri".containerd]
  default_runtime_name = "runc"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
    SystemdCgroup = false
    Root = "{node.run / "runc"}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{HANDLER}]
  runtime_type = "io.containerd.runc.v2"
  base_runtime_spec = "{_base_spec(node)}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{HANDLER}.options]
    SystemdCgroup = false
    Root = "{node.run / "runc"}"
"""
