"""A rewards server for tests as a sidecar has it: server and foreign code under one user, who is not root."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from posttrain_trainer.rewards.apart import Apart
from posttrain_trainer.sandbox import processes
from posttrain_trainer.sandbox.limits import MEBI, Limits

LIMITS = Limits(seconds=20.0, memory_bytes=256 * MEBI)
BRIEF = replace(LIMITS, seconds=1.0)
_UIDS = 70_000
"""Users that nobody has: as root a server gets one of its own, so that its processes can be counted."""
_PATIENCE_SECONDS = 20.0


@dataclass
class Sandbox:
    """A server that runs, and what is around it."""

    apart: Apart
    process: subprocess.Popen[bytes]
    uid: int
    folder: Path
    """Its temporary files."""
    path: Path
    """Its socket."""

    def is_idle(self) -> bool:
        """Nothing is left of any call: no process, no zombie, no file."""
        return not processes.descendants(self.process.pid) and not list(self.folder.glob("posttrain-call-*"))

    def restart(self) -> None:
        """Start it again, as the kubelet does."""
        self.process = _started(self.uid, self.path)


@contextmanager
def sandbox() -> Iterator[Sandbox]:
    """A server that listens; as root under a user of its own."""
    # Paths of sockets are short, and pytest's folders are for their owner alone.
    folder = Path(tempfile.mkdtemp(prefix="rewards-"))
    uid = os.geteuid() or _UIDS + os.getpid()
    folder.chmod(0o755)
    os.chown(folder, uid, -1)
    path = folder / "socket"
    with Apart(path, patience_seconds=_PATIENCE_SECONDS) as apart:
        found = Sandbox(apart, _started(uid, path), uid, folder, path)
        try:
            apart.connect().close()
            yield found
        finally:
            found.process.terminate()
            found.process.wait()
            shutil.rmtree(folder)


def until(holds: Callable[[], bool]) -> bool:
    """Whether something comes true within a few seconds."""
    end = time.monotonic() + _PATIENCE_SECONDS
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def in_a_child(does: Callable[[], None]) -> int:
    """The exit code of a forked process: 0 where nothing is raised."""
    pid = os.fork()
    if pid == 0:
        try:
            does()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the outermost boundary of a process
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _started(uid: int, path: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "posttrain_trainer", "--rewards-server", "--socket", str(path)]
    environment = {**os.environ, "TMPDIR": str(path.parent), "SECRET": "hunter2"}
    return subprocess.Popen([*_as(uid), *command], env=environment)


def _as(uid: int) -> list[str]:
    """As root: what starts a command as another user. He may read what root's environment has, which Landlock
    confines for foreign code as for others."""
    if os.geteuid():
        return []
    able = "+dac_read_search"
    return [
        "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", f"--inh-caps={able}", f"--ambient-caps={able}",
    ]  # fmt: skip
