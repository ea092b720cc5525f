"""Which processes there are, as /proc says."""

import os
import resource
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_PAGE_BYTES = resource.getpagesize()


@dataclass(frozen=True)
class Process:
    """A process at one moment."""

    pid: int
    parent: int
    num_threads: int
    resident_bytes: int


def every() -> Iterator[Process]:
    """The processes that can be seen."""
    for name in os.listdir("/proc"):
        text = _text(name, "stat") if name.isdecimal() else ""
        if text:
            # The name, in brackets, may hold anything, brackets too.
            fields = text[text.rindex(")") + 2 :].split()
            yield Process(int(name), int(fields[1]), int(fields[17]), int(fields[21]) * _PAGE_BYTES)


def descendants(root: int) -> list[Process]:
    """The processes below one, its children first."""
    children: dict[int, list[Process]] = {}
    for process in every():
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    level = children.get(root, [])
    while level:
        found += level
        level = [below for process in level for below in children.get(process.pid, [])]
    return found


def num_tasks(uid: int) -> int:
    """Processes and threads of a user."""
    return sum(_num_tasks(name, uid) for name in os.listdir("/proc") if name.isdecimal())


def memory_bytes(found: Iterable[Process], most: int) -> int:
    """What processes take together, or at least more than `most` where it is more."""
    found = list(found)
    resident = sum(process.resident_bytes for process in found)
    # What a process shares with those that it forked is resident in each: counting it once takes the kernel longer.
    return resident if resident <= most else sum(map(_proportional_bytes, found))


def kill(pid: int) -> None:
    """SIGKILL, where the process is still there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def kill_group(group: int) -> None:
    """SIGKILL to all of a process group at once: none of them can start another meanwhile."""
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        return


def reap() -> Iterator[tuple[int, int]]:
    """Each child that has ended, and how, as waitpid says it. Does not wait."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def has_children() -> bool:
    """Whether this process has a child, ended or not."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _num_tasks(name: str, uid: int) -> int:
    # The folder's own owner is root where a process may not be looked into.
    lines = dict(line.partition(":")[::2] for line in _text(name, "status").splitlines())
    return int(lines["Threads"]) if lines.get("Uid", "-1").split()[0] == str(uid) else 0


def _proportional_bytes(process: Process) -> int:
    """A process's memory, what it shares counted in parts; all of it where that is not for us to read."""
    lines = dict(line.partition(":")[::2] for line in _text(str(process.pid), "smaps_rollup").splitlines())
    return int(lines["Pss"].split()[0]) * 1024 if "Pss" in lines else process.resident_bytes


def _text(name: str, file: str) -> str:
    """What a file of a process says; nothing where the process has ended."""
    try:
        with open(f"/proc/{name}/{file}", errors="replace") as opened:
            return opened.read()
    except OSError:
        return ""
