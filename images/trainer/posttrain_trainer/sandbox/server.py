"""`python -m posttrain_trainer --rewards-server`: takes connections, and forks a warden for each.

With `--socket` it listens there. Without, connections are handed to it over its standard input, and it ends when that
closes: so the trainer runs it where there is no sidecar, and nobody else can ask it anything.
"""

import argparse
import os
import select
import signal
import socket
import struct
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from posttrain_trainer.sandbox import disk, kernel, processes, warden
from posttrain_trainer.sandbox.confinement import NOBODY, Setting

MAX_CALLS = 64
"""Calls at once; further ones wait for their turn."""
_WAITING = 128
_CREDENTIALS = struct.Struct("3i")
HANDED = b"+"
"""What is sent along with a connection over standard input."""


class Source(Protocol):
    """Where connections come from."""

    def fileno(self) -> int: ...

    def next(self) -> socket.socket | None:
        """The next connection, None where it is refused; EOFError where none will come any more."""


def main(options: argparse.Namespace) -> int:
    """Serve until SIGTERM, or until standard input closes."""
    setting = Setting.found(options.uid or NOBODY)
    kernel.set_dumpable(False)
    kernel.adopt_orphans()
    for lack in setting.lacks:
        print(f"reward code: this kernel has no {lack}", file=sys.stderr, flush=True)
    disk.remove_left()
    source = Listening(options.socket, setting) if options.socket else Handed()
    Server(source, setting).serve()
    return 0


class Listening:
    """Connections to a path. What runs foreign code has no business here: its user is refused."""

    def __init__(self, path: Path, setting: Setting) -> None:
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        # The trainer is another user, and the folder is the two containers' own.
        path.chmod(0o666)
        self._socket.listen(_WAITING)
        self._setting = setting

    def fileno(self) -> int:
        return self._socket.fileno()

    def next(self) -> socket.socket | None:
        connection, _ = self._socket.accept()
        pid, uid, _ = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if uid != self._setting.uid or pid == os.getppid():
            return connection
        connection.close()
        return None


class Handed:
    """Connections that the process which started this one hands over."""

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=os.dup(0))

    def fileno(self) -> int:
        return self._socket.fileno()

    def next(self) -> socket.socket | None:
        said, descriptors, _, _ = socket.recv_fds(self._socket, 1, 1)
        if not said:
            raise EOFError
        return socket.socket(fileno=descriptors[0])


class Server:
    """Forks a warden for each connection, and reaps it."""

    def __init__(self, source: Source, setting: Setting) -> None:
        self._source, self._setting = source, setting
        self._wardens: set[int] = set()
        self._is_stopping = False
        self._woken, waking = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(waking)
        signal.signal(signal.SIGCHLD, lambda _signal, _frame: None)
        signal.signal(signal.SIGTERM, self._stop)

    def serve(self) -> None:
        """Until SIGTERM, or until no connection can come any more; then every call is ended."""
        while not self._is_stopping:
            self._reap()
            self._turn()
        for pid in self._wardens:
            os.kill(pid, signal.SIGTERM)
        while self._wardens:
            os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
            self._reap()

    def _turn(self) -> None:
        """Wait for a connection or a signal, and take it."""
        sources = [self._source] if len(self._wardens) < MAX_CALLS else []
        ready = _readable([self._woken, *sources])
        if self._woken in ready:
            os.read(self._woken, 4096)
        if self._source in ready:
            self._take()

    def _take(self) -> None:
        try:
            connection = self._source.next()
        except EOFError:
            self._is_stopping = True
            return
        if connection is None:
            return
        with connection:
            pid = os.fork()
            if pid == 0:
                _serve(connection, self._setting)
            self._wardens.add(pid)

    def _reap(self) -> None:
        for pid, status in processes.reap():
            if status or pid not in self._wardens:
                self._end_orphans()
                disk.remove_of(pid)
            self._wardens.discard(pid)

    def _end_orphans(self) -> None:
        """End what a warden left that was killed, as where memory runs out: it is this process's child now, or will be
        when what lies between has ended."""
        for process in processes.every():
            if process.parent == os.getpid() and process.pid not in self._wardens:
                processes.kill(process.pid)

    def _stop(self, _signal: int, _frame: FrameType | None) -> None:
        self._is_stopping = True


def _readable(sources: list[Any]) -> list[Any]:
    return select.select(sources, [], [])[0]


def _serve(connection: socket.socket, setting: Setting) -> None:
    """In the warden: one request, then the end of the process."""
    try:
        warden.serve(connection, setting)
    except SystemExit:
        os._exit(0)
    except BaseException:  # noqa: BLE001 - the outermost boundary of a process
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
