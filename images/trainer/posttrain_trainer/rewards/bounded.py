"""Work on an answer that may take forever, in a child process that is ended when its time is over.

An answer such as 10^{10^{10}} holds the interpreter for hours within one instruction, which no thread and no signal
ends.
"""

import multiprocessing
import resource
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

_START_SECONDS = 120.0
"""A child imports what it needs first."""
_MEMORY_BYTES = 4 << 30
_SPAWN = multiprocessing.get_context("spawn")


class Bounded:
    """A function of a module, called in a child process, one call at a time."""

    def __init__(self, function: Callable[..., Any], *, seconds: float) -> None:
        """`seconds` is how long one call may take. The child begins with the first call."""
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
                if connection.poll(self._seconds):
                    return _result(connection.recv())
            except (EOFError, ConnectionError):
                pass
            self._end()
        raise TimeoutError(f"more than {self._seconds:g} seconds or {_MEMORY_BYTES >> 30} GiB")

    def _connection(self) -> Connection:
        if self._child is None:
            ours, theirs = _SPAWN.Pipe()
            process = _SPAWN.Process(target=_serve, args=(self._function, theirs), daemon=True)
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


def _serve(function: Callable[..., Any], connection: Connection) -> None:
    """The child: answers calls until its parent is gone."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection.send("ready")
    while True:
        try:
            arguments = connection.recv()
        except EOFError:
            return
        try:
            connection.send(function(*arguments))
        except ValueError as error:
            connection.send(error)
