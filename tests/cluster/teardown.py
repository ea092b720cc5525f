"""Removing a cluster, whatever state it is in, and proving that nothing is left.

Everything is found by its name: from the kernel's lists of processes, mounts and links, never from what `up` remembers.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.cluster import cgroups, layout, machine, network, runtime, slots

_CNI_RESULTS = Path("/var/lib/cni/results")
_CONTAINER_LOGS = Path("/var/log/containers")


def remove(cluster: layout.Layout) -> None:
    """Kill and remove all of the cluster but its logs, and give back its slot."""
    clear(cluster)
    slots.release(cluster)
    machine.put_back()


def clear(cluster: layout.Layout) -> None:
    """Kill and remove all of the cluster but its logs and its slot."""
    cgroups.kill(cluster.cgroup)
    for path in [*runtime.shim_sockets(cluster), *_stray_files(cluster)]:
        path.unlink(missing_ok=True)
    _unmount(mounts(cluster))
    network.remove(cluster)
    cgroups.remove(cluster.cgroup)
    _remove_files(cluster)


def leftovers(cluster: layout.Layout) -> list[str]:
    """What is there of the cluster outside its folder, in words; empty after `remove`."""
    found = [
        f"process {pid}: {_command(pid)}"
        for pid in sorted(cgroups.processes(cluster.cgroup) | _processes_by_command(cluster))
    ]
    found += [f"mount {path}" for path in mounts(cluster)]
    found += [f"control group {path}" for path in cgroups.existing(cluster.cgroup)]
    found += [f"network namespace {cluster.namespace}"] if cluster.namespace_file.exists() else []
    found += [f"network link {cluster.host_link}"] if network.host_link_exists(cluster) else []
    found += [f"file {path}" for path in [*_stray_files(cluster), cluster.run] if path.exists() or path.is_symlink()]
    return found


def mounts(cluster: layout.Layout) -> list[Path]:
    """The mount points below the cluster's folders, children before parents."""
    points = [_unescaped(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [path for path in reversed(points) if path.is_relative_to(cluster.root) or path.is_relative_to(cluster.run)]


def _unmount(points: list[Path]) -> None:
    """Lazily: a mount that someone else still looks at goes when they are done."""
    if points:
        subprocess.run(["umount", "--lazy", *map(str, points)], check=True, capture_output=True)


def _remove_files(cluster: layout.Layout) -> None:
    if remaining := mounts(cluster):
        raise RuntimeError(f"still mounted, so not deleting through it: {', '.join(map(str, remaining))}")
    shutil.rmtree(cluster.run, ignore_errors=True)
    for path in cluster.root.glob("*"):
        if path == cluster.logs:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _stray_files(cluster: layout.Layout) -> list[Path]:
    """Files that CNI and the kubelet keep at fixed places of the machine."""
    results = [path for path in _CNI_RESULTS.glob("*") if f"{cluster.run}/" in _text(path)]
    links = [
        path
        for path in _CONTAINER_LOGS.glob("*.log")
        if path.is_symlink() and path.readlink().is_relative_to(cluster.logs)
    ]
    return results + links


def _processes_by_command(cluster: layout.Layout) -> set[int]:
    """A second, independent look: daemons whose command line names the cluster's folders."""
    folders = (
        f"{cluster.root}/nodes/",
        f"{cluster.root}/pki/",
        f"{cluster.run}/nodes/",
        f"--net={cluster.namespace_file}",
    )
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return {pid for pid in pids if any(folder in _command(pid) for folder in folders)}


def _command(pid: int) -> str:
    return _text(Path(f"/proc/{pid}/cmdline")).replace("\0", " ").strip()


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:  # gone meanwhile: another cluster's file, or a process that has ended
        return ""


def _unescaped(path: str) -> Path:
    """mountinfo writes space, tab, newline and backslash in octal."""
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, character)
    return Path(path)
