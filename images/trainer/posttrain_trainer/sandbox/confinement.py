"""How a process gives up its rights before it runs foreign code: once, for good, and for all that it starts."""

import itertools
import os
import platform
import signal
import socket
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from posttrain_trainer.sandbox import kernel, landlock, limits, seccomp
from posttrain_trainer.sandbox.landlock import Rules
from posttrain_trainer.sandbox.limits import Limits

_LESS_URGENT = 5
"""How much server and trainer come before foreign code: a fork bomb must not keep the one from ending it."""
NOBODY = 65534
"""Who root lets foreign code run as."""
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib64")
_SETTINGS = (
    "ld.so.cache", "localtime", "passwd", "group", "hosts", "host.conf", "nsswitch.conf", "resolv.conf", "gai.conf",
    "services", "protocols", "mime.types", "ssl", "pki", "ca-certificates", "alternatives",
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full")
_RANDOM = ("/dev/urandom", "/dev/random")


@dataclass(frozen=True)
class Setting:
    """What this machine has to confine a process with."""

    uid: int
    """Who foreign code runs as."""
    landlock: int
    """Version of Landlock; 0: none."""
    machine: str

    @classmethod
    def found(cls, uid: int = NOBODY) -> Self:
        """Here; `uid` is for root, anybody else's code runs as himself."""
        return cls(os.geteuid() or uid, landlock.version(), platform.machine())

    @property
    def changes_user(self) -> bool:
        """Foreign code runs under another user than the server."""
        return self.uid != os.geteuid()

    @property
    def lacks(self) -> list[str]:
        """What this kernel does not have, in words."""
        missing = {
            "Landlock: files are kept by their modes alone": self.landlock == 0,
            "Landlock for TCP": 0 < self.landlock < landlock.TCP_SINCE,
            "filter of system calls for this machine: sockets, signals and other processes are open": not (
                seccomp.is_there(self.machine)
            ),
            "Landlock for signals": 0 < self.landlock < landlock.SCOPES_SINCE,
        }
        return [name for name, is_missing in missing.items() if is_missing]


def enter(own: Limits, *, code: Path | None, folder: Path, setting: Setting, kept: Sequence[int]) -> None:
    """Keep nothing but reading `code` and what Python needs, writing in `folder`, and the `kept` file descriptors.

    The process leads a group of its own, whose members cannot leave it, and ends with its parent.
    """
    os.setpgid(0, 0)
    os.nice(_LESS_URGENT)
    os.umask(0o077)
    os.chdir(folder)
    _forget(folder, code)
    _close_others(kept)
    _end_first()
    limits.impose(own, setting.uid)
    if setting.changes_user:
        kernel.become(setting.uid, setting.machine, reading=setting.landlock > 0)
    # Landlock keeps others of this user away, and the warden wants to know how much memory is whose.
    kernel.set_dumpable(setting.landlock > 0)
    kernel.die_with_parent(signal.SIGKILL)
    kernel.gain_nothing()
    landlock.restrict(_rules(own, code, folder), setting.landlock)
    seccomp.restrict(setting.machine, network=own.network, signals=setting.landlock >= landlock.SCOPES_SINCE)


def _forget(folder: Path, code: Path | None) -> None:
    """No environment, no signal handler and no way to import what may not be read."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.environ.clear()
    # Libraries that compute start a thread for each core: a call has few.
    os.environ.update(
        PATH="/usr/local/bin:/usr/bin:/bin", HOME=str(folder), TMPDIR=str(folder), LANG="C.UTF-8", OMP_NUM_THREADS="1",
        OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", PYTHONDONTWRITEBYTECODE="1",
    )  # fmt: skip
    sys.dont_write_bytecode = True
    tempfile.tempdir = None
    prefixes = _prefixes()
    readable = [entry for entry in sys.path if any(Path(entry).is_relative_to(prefix) for prefix in prefixes)]
    sys.path[:] = [*([str(code)] if code is not None else []), *readable]


def _close_others(kept: Sequence[int]) -> None:
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    edges = [2, *sorted(kept), os.sysconf("SC_OPEN_MAX")]
    for before, after in itertools.pairwise(edges):
        os.closerange(before + 1, after)


def _end_first() -> None:
    """Where memory runs out, the kernel ends this process and not the server."""
    kernel.set_dumpable(True)
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        return


def _rules(own: Limits, code: Path | None, folder: Path) -> Rules:
    settings = [Path("/etc") / name for name in _SETTINGS]
    system = [Path(name) for name in (*_SYSTEM, *_RANDOM)]
    return Rules(
        readable=[*_prefixes(), *system, *settings, *([code] if code is not None else [])],
        writable=[folder, *map(Path, _DEVICES)],
        tcp=own.network,
    )


def _prefixes() -> list[Path]:
    return [Path(found) for found in {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}]


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """The two ends of a channel between warden and child."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
