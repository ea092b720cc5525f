"""A cluster's control groups: the kernel's own list of every process that belongs to it, pods included.

Every process starts inside them and its children inherit that: no crash, double fork or lost pid file hides one.
Works with cgroup v1, v2 and both at once; in v1 a group is a folder of the same name in each hierarchy.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from tests.cluster import waiting

SYSTEM = "system"
_V1_SHARES = ("cpu.shares", "cpuset.cpus", "memory.limit_in_bytes")
_V1_POD_SHARES = 4096


def hierarchies() -> list[Path]:
    """The mount point of every cgroup hierarchy, v1 and v2."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ", 1)
        root, point = before.split()[3:5]
        if after.split()[0] in {"cgroup", "cgroup2"} and root == "/":
            points.append(Path(point))
    return sorted(set(points))


def make(group: str) -> None:
    """Make `group` (a relative path) in every hierarchy, usable by the kubelet as its cgroup root."""
    found = hierarchies()
    for hierarchy in found:
        (hierarchy / group).mkdir(parents=True, exist_ok=True)
        if len(found) == 1:
            _delegate(hierarchy, group)
        if (hierarchy / "cpuset.cpus").exists():
            _inherit_cpuset(hierarchy, group)
        if (shares := hierarchy / Path(group).parts[0] / "cpu.shares").exists():
            shares.write_text(str(_V1_POD_SHARES))  # pods together weigh as much as four processes of the host


def entry_files(group: str) -> list[Path]:
    """The files that a process writes its id to in order to live in `group`.

    Left out are v1's hierarchies that share out resources: there a whole group weighs as much as one process beside it.
    """
    folders = [folder for folder in existing(group) if not any((folder / name).exists() for name in _V1_SHARES)]
    return [folder / "cgroup.procs" for folder in folders]


def processes(group: str) -> set[int]:
    """The ids of all processes within `group` and below it."""
    return {pid for folder in _folders(group) for pid in _members(folder)}


def kill(group: str, *, timeout_seconds: float = 10) -> None:
    """SIGKILL everything within `group` until nothing is left there."""

    def is_empty() -> bool:
        members = processes(group)
        _signal(members, signal.SIGKILL)
        return not members

    waiting.until(
        is_empty, what=f"the processes of {group} to end", timeout_seconds=timeout_seconds, every_seconds=0.02
    )


def remove(group: str) -> None:
    """Remove `group` and all below it; a group that still has processes stays and is found by `existing`."""
    for folder in reversed(_folders(group)):
        with contextlib.suppress(OSError):
            folder.rmdir()


def existing(group: str) -> list[Path]:
    return [path for hierarchy in hierarchies() if (path := hierarchy / group).exists()]


def _folders(group: str) -> list[Path]:
    """Parents before children."""
    return [Path(folder) for top in existing(group) for folder, _, _ in os.walk(top)]


def _members(folder: Path) -> list[int]:
    try:
        return [int(pid) for pid in (folder / "cgroup.procs").read_text().split()]
    except OSError:  # removed meanwhile, or a v2 group of threads
        return []


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        with contextlib.suppress(ChildProcessError):  # our own children stay in the list until they are waited for
            os.waitpid(pid, os.WNOHANG)


def _delegate(hierarchy: Path, group: str) -> None:
    """v2 alone: a controller is there only if every group above hands it down, and those hold no processes then."""
    above = hierarchy
    for part in Path(group).parts:
        for controller in (above / "cgroup.controllers").read_text().split():
            with contextlib.suppress(OSError):  # not every controller can be handed down
                (above / "cgroup.subtree_control").write_text(f"+{controller}")
        above = above / part


def _inherit_cpuset(hierarchy: Path, group: str) -> None:
    """v1: a new cpuset is empty, and no process may enter it."""
    above = hierarchy
    for part in Path(group).parts:
        for name in ("cpuset.cpus", "cpuset.mems"):
            if not (above / part / name).read_text().strip():
                (above / part / name).write_text((above / name).read_text())
        above = above / part
