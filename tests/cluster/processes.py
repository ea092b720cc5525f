"""Starting and watching the cluster's programs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.cluster import cgroups, layout, waiting

_START_TIMEOUT_SECONDS = 90

# The shell enters the control groups itself: no moment exists at which the program runs outside them.
_ENTER = 'while [ "$1" != -- ]; do echo $$ > "$1"; shift; done; shift; exec "$@"'


def start(
    cluster: layout.Layout, component: str, command: Sequence[str | Path], *, group: str = cgroups.SYSTEM
) -> None:
    """Run `command` as a daemon in this control group of the cluster, its output in logs/<component>.log."""
    note = {"command": [str(word) for word in command], "group": group}
    _command_file(cluster, component).write_text(json.dumps(note))
    with log_file(cluster, component).open("ab") as log:
        process = subprocess.Popen(
            _inside(cluster, command, group=group),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=cluster.root,
        )
    _pid_file(cluster, component).write_text(f"{process.pid} {start_time(process.pid)}")


def run(cluster: layout.Layout, command: Sequence[str | Path]) -> None:
    """Run `command` to its end as a part of the cluster; RuntimeError if it fails."""
    done = subprocess.run(_inside(cluster, command, group=cgroups.SYSTEM), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]}: {done.stderr.strip() or done.returncode}")


def restart(cluster: layout.Layout, component: str) -> None:
    """Start a component that has ended, as it was started before."""
    note = json.loads(_command_file(cluster, component).read_text())
    start(cluster, component, note["command"], group=note["group"])


def stop(cluster: layout.Layout, component: str) -> None:
    """SIGKILL the component if it runs, and wait for its end."""
    number = pid(cluster, component)
    if number is None:
        return
    with contextlib.suppress(ProcessLookupError):
        os.kill(number, signal.SIGKILL)
    waiting.until(
        lambda: pid(cluster, component) is None, what=f"{component} to end", timeout_seconds=10, every_seconds=0.01
    )


def pid(cluster: layout.Layout, component: str) -> int | None:
    """The process id of a component that runs; an id that the kernel gave to another process since is not it."""
    try:
        number, started = _pid_file(cluster, component).read_text().split()
    except (FileNotFoundError, ValueError):
        return None
    return int(number) if started == start_time(int(number)) else None


def components(cluster: layout.Layout) -> list[str]:
    """Everything that was started, whether it still runs or not."""
    return sorted(path.stem for path in cluster.run.glob("*.pid"))


def missing(cluster: layout.Layout) -> list[str]:
    """The components that were started and have ended."""
    return [component for component in components(cluster) if pid(cluster, component) is None]


def wait_for(cluster: layout.Layout, is_ready: Callable[[], bool], *, what: str) -> None:
    """Wait for `what`; a component that ends meanwhile is an error that shows the end of its log."""

    def is_ready_or_lost() -> bool:
        if lost := missing(cluster):
            raise RuntimeError(
                "\n".join(f"{component} has ended:\n{log_tail(cluster, component)}" for component in lost)
            )
        return is_ready()

    waiting.until(is_ready_or_lost, what=what, timeout_seconds=_START_TIMEOUT_SECONDS)


def log_file(cluster: layout.Layout, component: str) -> Path:
    return cluster.logs / f"{component}.log"


def log_tail(cluster: layout.Layout, component: str, *, num_lines: int = 20) -> str:
    path = log_file(cluster, component)
    return "\n".join(path.read_text(errors="replace").splitlines()[-num_lines:]) if path.exists() else ""


def _pid_file(cluster: layout.Layout, component: str) -> Path:
    return cluster.run / f"{component}.pid"


def _inside(cluster: layout.Layout, command: Sequence[str | Path], *, group: str) -> list[str]:
    """The command, within a control group and the network namespace of the cluster."""
    groups = map(str, cgroups.entry_files(f"{cluster.cgroup}/{group}"))
    enter = ["/bin/sh", "-ec", _ENTER, "sh", *groups, "--"]
    return [*enter, "nsenter", f"--net={cluster.namespace_file}", *map(str, command)]


def _command_file(cluster: layout.Layout, component: str) -> Path:
    return cluster.run / f"{component}.command"


def start_time(number: int) -> str:
    """In clock ticks since boot; empty when no such process lives (a zombie does not)."""
    try:
        # The second field is the program's name in brackets and may hold spaces.
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]
