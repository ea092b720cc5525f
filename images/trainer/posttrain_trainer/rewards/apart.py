"""Asks a rewards server to run code that is not ours: the sidecar's, or one of its own where there is none."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any, Self

from posttrain_trainer.sandbox import server, wire
from posttrain_trainer.sandbox.limits import Limits

PATIENCE_SECONDS = 60.0
"""How long a server that is not there is waited for: the kubelet starts a container that ended again."""
_AGAIN_SECONDS = 0.2
_GRACE_SECONDS = 30.0
"""What a server may take beside the code that it runs."""


class CallFailed(Exception):
    """Why a call of foreign code has no result: a sentence that goes on after the name of what was called."""


class Apart:
    """Runs code that is not ours in another process, with limits, and never sees more of it than JSON."""

    def __init__(
        self, path: Path | None = None, *, uid: int | None = None, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        """path: the server's socket; None: it is started when it is needed, and as root runs code as `uid`."""
        self._path, self._uid, self._patience_seconds = path, uid, patience_seconds
        self._own: _OwnServer | None = None
        self._lock = Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server, where it is our own; with it every call."""
        if self._own is not None:
            self._own.close()
            self._own = None

    @property
    def is_running(self) -> bool:
        """A server of our own is there."""
        return self._own is not None and self._own.is_alive

    def score(
        self, folder: Path, entrypoint: str, arguments: Mapping[str, Sequence[Any]], limits: Limits
    ) -> list[float | None]:
        """What module:function in a folder returns for a batch; CallFailed says why it returns nothing of use.

        arguments: `prompts`, `completions` and columns, a list with an element for each answer.
        """
        request = {"kind": "score", "folder": str(folder), "entrypoint": entrypoint, "arguments": dict(arguments)}
        return self._asked(request, limits, len(arguments["completions"]))

    def unit_tests(self, answers: Sequence[str], tests: Sequence[str], limits: Limits) -> list[float | CallFailed]:
        """The share of each row's tests that pass after its answer's code, or why they could not be tried."""

        def one(answer: str, own: str) -> float | CallFailed:
            try:
                (found,) = self._asked({"kind": "unit_tests", "answer": answer, "tests": own}, limits, 1)
            except CallFailed as error:
                return error
            assert found is not None
            return found

        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            return list(pool.map(one, answers, tests))

    def connect(self) -> socket.socket:
        """A connection to the server, which is waited for; CallFailed where it does not come."""
        until = time.monotonic() + self._patience_seconds
        while True:
            try:
                return self._connected()
            except OSError as error:
                if time.monotonic() > until:
                    raise CallFailed(
                        f"could not be run: its server was not there for {self._patience_seconds:g} s ({error})"
                    ) from error
            time.sleep(_AGAIN_SECONDS)

    def _asked(self, request: Mapping[str, Any], limits: Limits, count: int) -> list[float | None]:
        with self.connect() as connection:
            found = exchanged(connection, {**request, "limits": limits.to_json()}, limits.seconds)
        match found:
            case {"failed": str(sentence)}:
                raise CallFailed(sentence)
            case {"scores": list(scores)} if len(scores) == count:
                return [None if score is None else float(score) for score in scores]
        raise CallFailed("was answered for by something that is no rewards server")

    def _connected(self) -> socket.socket:
        if self._path is None:
            with self._lock:
                if self._own is None or not self._own.is_alive:
                    self.close()
                    self._own = _OwnServer(self._uid)
                return self._own.connection()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(self._path))
        except OSError:
            connection.close()
            raise
        return connection


def exchanged(connection: socket.socket, message: Any, seconds: float) -> Any:
    """What the server answers to what may take so many seconds; CallFailed where it ends before, or says nothing."""
    connection.settimeout(seconds + _GRACE_SECONDS)
    try:
        wire.send(connection, message)
        found = wire.receive(connection, wire.MAX_ANSWER_BYTES)
    except TimeoutError as error:
        raise CallFailed(f"was not answered for {seconds + _GRACE_SECONDS:g} s by its server") from error
    except (OSError, wire.Broken) as error:
        raise CallFailed(f"was cut off: its server ended ({error})") from error
    if found is None:
        raise CallFailed("was cut off: its server ended, as where the memory of its container runs out")
    return found


class _OwnServer:
    """A rewards server that ends with this process."""

    def __init__(self, uid: int | None) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        arguments = [sys.executable, "-m", "posttrain_trainer", "--rewards-server"]
        arguments += [] if uid is None else ["--uid", str(uid)]
        with theirs:
            self._process = subprocess.Popen(
                arguments, stdin=theirs.fileno(), env=_environment(), start_new_session=True
            )

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def connection(self) -> socket.socket:
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            socket.send_fds(self._control, [server.HANDED], [theirs.fileno()])
        return mine

    def close(self) -> None:
        self._control.close()
        self._process.wait()


def _environment() -> dict[str, str]:
    """What a server needs to start, and nothing else: what is secret in ours stays here."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
