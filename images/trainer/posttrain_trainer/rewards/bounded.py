"""Work on an answer that may take forever, in a child process that is ended when its time is over.

An answer such as 10^{10^{10}} holds the interpreter for hours within one instruction, which no thread and no signal
ends. Time is the processor's: what an answer is worth must not depend on what else the machine does.
"""

import math
import multiprocessing
import pkgutil
import resource
import signal
import threading
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

_WAITING = 20
"""So many times as long a call may take by the clock."""
_START_SECONDS = 300.0
"""A child imports what it needs first."""
_MEMORY_BYTES = 4 << 30
_SPAWN = multiprocessing.get_context("spawn")


class Bounded:
    """A function, called in a child process, one call at a time."""

    def __init__(self, function: str, *, seconds: int) -> None:
        """`function` is module:name; `seconds` is what one call may take. The child begins with the first call."""
        self._function = function
        self._seconds = seconds
        self._lock = threading.Lock()
        self._child: tuple[SpawnProcess, Connection] | None = None

    def __call__(self, *arguments: Any) -> Any:
        """What the function returns, or its ValueError; TimeoutError where it takes too long, or the child ends."""
        with self._lock:
            connection = self._connection()
            try:
                connection.send(arguments)
                if connection.poll(self._seconds * _WAITING):
                    return _result(connection.recv())
            except (EOFError, ConnectionError):
                pass
            self._end()
        raise TimeoutError(f"more than {self._seconds} s or {_MEMORY_BYTES >> 30} GiB")

    def _connection(self) -> Connection:
        if self._child is None:
            ours, theirs = _SPAWN.Pipe()
            process = _SPAWN.Process(target=_serve, args=(self._function, self._seconds, theirs), daemon=True)
            process.start()
            theirs.close()
            self._child = process, ours
            assert ours.poll(_START_SECONDS), "a child process did not begin"
            ours.recv()
        return self._child[1]

    def _end(self) -> None:
        assert self._child is not None
        process, connection = self._child
        self._child = None
        process.kill()
        process.join()
        connection.close()


def _result(sent: Any) -> Any:
    if isinstance(sent, ValueError):
        raise sent
    return sent


def _serve(name: str, seconds: int, connection: Connection) -> None:
    """The child: answers calls until its parent is gone."""
    function = pkgutil.resolve_name(name)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection.send("ready")
    while True:
        try:
            arguments = connection.recv()
        except EOFError:
            return
        _allow(seconds)
        try:
            connection.send(function(*arguments))
        except ValueError as error:
            connection.send(error)


def _allow(seconds: int) -> None:
    """The kernel ends this process once it has worked so long from now on."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    until = math.ceil(used.ru_utime + used.ru_stime) + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))
