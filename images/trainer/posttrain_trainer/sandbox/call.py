"""One child with foreign code: started, spoken with, limited, and ended with everything that it started."""

import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from posttrain_trainer.sandbox import confinement, disk, foreign, limits, processes, wire
from posttrain_trainer.sandbox.confinement import Setting
from posttrain_trainer.sandbox.limits import Limits

_LOOK_SECONDS = 0.1
"""How often memory, processes and disk are looked at."""
_MAX_TAIL = 2048
_GRACE_SECONDS = 1.0
"""Between the last word of a process that ends and its end."""
_CONFINING_SECONDS = 30.0
"""It takes milliseconds, but on a machine that is busy."""
_READ_BYTES = 1 << 16
_CONFINED = {"confined": True}


class Failed(Exception):
    """Why a call has no answer: a sentence that goes on after the name of what was called."""


class Unconfined(Exception):
    """A child cannot give up its rights on this machine: nothing of a user's is run."""


class Call:
    """A child and its descendants. The process that makes it adopts orphans, and has no other children."""

    def __init__(
        self,
        work: Callable[[socket.socket], None],
        own: Limits,
        *,
        code: Path | None,
        setting: Setting,
        client: socket.socket,
    ) -> None:
        """Starts the child, which does `work` with its end of the channel; the call ends where the client hangs up."""
        self._limits, self.client = own, client
        self._folder = disk.made()
        os.chown(self._folder, setting.uid, -1)
        self._channel, theirs = confinement.socket_pair()
        errors, their_errors = os.pipe()
        self._errors: int | None = errors
        self._tail = b""
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(their_errors, 2)
            _child(work, own, code, self._folder, setting, theirs)
        theirs.close()
        os.close(their_errors)
        self._channel.setblocking(False)
        self._ended = os.pidfd_open(self.pid)

    def begin(self) -> None:
        """Wait until the child has given up its rights, which comes before foreign code; Unconfined where it cannot."""
        try:
            is_confined = self.said(seconds=_CONFINING_SECONDS) == _CONFINED
        except Failed as error:
            raise Unconfined(f"the child that was to run foreign code {error}") from error
        assert is_confined
        self._channel.send(wire.frame(_CONFINED))

    def said(self, message: Any = None, *, seconds: float | None = None) -> Any:
        """What the child answers to a message, or says by itself. Failed where it does not within so many seconds, by
        default those of its limits, or says what is wrong."""
        outgoing = b"" if message is None else wire.frame(message)
        deadline = time.monotonic() + (self._limits.seconds if seconds is None else seconds)
        try:
            found = wire.parsed(self._exchange(outgoing, deadline))
        except wire.Broken as error:
            raise Failed(f"answered {error}") from error
        match found:
            case {"wrong": str(sentence)}:
                raise Failed(_clean(sentence))
            case {"memory": True}:
                raise Failed(self._memory())
        return found

    def end(self) -> None:
        """End the child and all its descendants: when this returns, none is left, and no zombie."""
        processes.kill_group(self.pid)
        while processes.has_children():
            if not list(processes.reap()):
                for process in processes.descendants(os.getpid()):
                    processes.kill(process.pid)
                os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        for descriptor in (self._errors, self._ended):
            if descriptor is not None:
                os.close(descriptor)
        self._channel.close()
        disk.remove(self._folder)

    def _exchange(self, outgoing: bytes, deadline: float) -> bytes:
        """Sends a frame, returns the body of the frame that answers it."""
        received = bytearray()
        look = time.monotonic() + _LOOK_SECONDS
        while (whole := wire.whole(received, wire.MAX_ANSWER_BYTES)) is None:
            events = self._wait(min(deadline, look), writing=bool(outgoing))
            if events.get(self._channel.fileno(), 0) & select.POLLOUT:
                outgoing = outgoing[self._send(outgoing) :]
            self._hear_errors(events)
            is_over = self._hear(events, received)
            if is_over and wire.whole(received, wire.MAX_ANSWER_BYTES) is None:
                raise Failed(self._how())
            self._check(events, deadline)
            if time.monotonic() >= look:
                look = self._looked()
        return whole

    def _wait(self, until: float, *, writing: bool) -> dict[int, int]:
        """Waits for an event on what is open; file descriptor -> events."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN | (select.POLLOUT if writing else 0))
        for descriptor in (self._errors, self._ended, self.client.fileno()):
            if descriptor is not None:
                poll.register(descriptor, select.POLLIN)
        return dict(poll.poll(max(0.0, until - time.monotonic()) * 1000))

    def _send(self, outgoing: bytes) -> int:
        try:
            return self._channel.send(outgoing)
        except (BrokenPipeError, ConnectionResetError):
            return len(outgoing)

    def _hear_errors(self, events: Mapping[int, int]) -> None:
        """Keep the end of what the child writes to standard error."""
        if self._errors is None or self._errors not in events:
            return
        more = os.read(self._errors, _READ_BYTES)
        self._tail = (self._tail + more)[-_MAX_TAIL:]
        if not more:
            os.close(self._errors)
            self._errors = None

    def _hear(self, events: Mapping[int, int], received: bytearray) -> bool:
        """Take what the child has said; whether nothing more can come."""
        has_ended = self._ended in events
        if not has_ended and not events.get(self._channel.fileno(), 0) & ~select.POLLOUT:
            return False
        while len(received) <= wire.MAX_ANSWER_BYTES:
            try:
                more = self._channel.recv(_READ_BYTES)
            except BlockingIOError:
                return has_ended
            except ConnectionResetError:
                return True
            received += more
            if not more:
                return True
        return False

    def _check(self, events: Mapping[int, int], deadline: float) -> None:
        if self.client.fileno() in events:
            raise Failed("was not waited for any longer")
        if time.monotonic() >= deadline:
            raise Failed(f"timed out after {self._limits.seconds:g} s{self._crowd()}")

    def _looked(self) -> float:
        """Look at what the call uses, Failed where it is too much; returns when to look again."""
        begun = time.monotonic()
        used = processes.memory_bytes(processes.descendants(os.getpid()), self._limits.memory_bytes)
        if used > self._limits.memory_bytes:
            raise Failed(self._memory())
        if not disk.is_within(self._folder, limits.MAX_DISK_BYTES):
            raise Failed(
                f"wrote more than {limits.MAX_DISK_BYTES // limits.MEBI} MiB of files, or folders that cannot be read"
            )
        now = time.monotonic()
        # Looking takes a quarter of the time at most.
        return now + max(_LOOK_SECONDS, 3 * (now - begun))

    def _crowd(self) -> str:
        count = sum(process.num_threads for process in processes.descendants(os.getpid()))
        return f", with {count} processes: it may have {limits.MAX_PROCESSES}" if count >= limits.MAX_PROCESSES else ""

    def _memory(self) -> str:
        return f"reached the memory limit of {self._limits.memory}"

    def _how(self) -> str:
        """How the child ended, which is still to be reaped."""
        if not select.select([self._ended], [], [], _GRACE_SECONDS)[0]:
            return "closed the connection over which it answers"
        found = os.waitid(os.P_PIDFD, self._ended, os.WEXITED | os.WNOWAIT)
        assert found is not None
        self._hear_errors({} if self._errors is None else _ready(self._errors))
        last = _clean(self._tail.decode(errors="replace").strip().rpartition("\n")[2])
        return _end(found, self._limits) + (f"; the last line of its standard error: {last}" if last else "")


def _child(
    work: Callable[[socket.socket], None],
    own: Limits,
    code: Path | None,
    folder: Path,
    setting: Setting,
    channel: socket.socket,
) -> NoReturn:
    """In the child: gives up its rights and works; never returns to what its parent was doing."""
    try:
        confinement.enter(own, code=code, folder=folder, setting=setting, kept=[channel.fileno()])
        wire.send(channel, _CONFINED)
        wire.receive(channel, wire.MAX_ANSWER_BYTES)
        work(channel)
    except BaseException:  # noqa: BLE001 - the outermost boundary of code that is not ours
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _ready(descriptor: int) -> dict[int, int]:
    return dict.fromkeys(select.select([descriptor], [], [], 0)[0], select.POLLIN)


def _end(found: os.waitid_result, own: Limits) -> str:
    if found.si_code == os.CLD_EXITED:
        return f"ended with exit code {found.si_status} before it answered"
    match found.si_status:
        case signal.SIGXCPU:
            return f"used more than {own.seconds:g} s of processor time"
        case signal.SIGKILL:
            return "was killed by SIGKILL, as where memory runs out"
        case number:
            return f"was ended by {signal.Signals(number).name}"


def _clean(text: str) -> str:
    """Of what foreign code says: one line of bounded length that is safe to print."""
    line = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(line.split())[: foreign.MAX_SENTENCE]
