"""The keyed queue: one reconcile per object at a time, duplicates coalesce, the unexpected is tried again later."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Protocol

from posttrain_operator.store import Key

logger = logging.getLogger(__name__)

FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 300.0
NUM_AT_ONCE = 32
"""More would only hold more manifests in memory: the threads that talk to the API server are fewer."""

Reconcile = Callable[[Key], Awaitable[float | None]]
"""Brings one object to what it says; returns after how many seconds to look again, None to wait for an event."""


class Timer(Protocol):
    """Something that is to happen, and can be called off."""

    def cancel(self) -> None: ...


CallLater = Callable[[float, Callable[[], None]], Timer]


def backoff_seconds(failures: int) -> float:
    """How long to wait after the n-th failure in a row."""
    return min(FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 30), MAX_BACKOFF_SECONDS)


class Queue:
    """Keys to reconcile. Nothing is reconciled before open(): what is not known yet would look deleted."""

    def __init__(
        self, reconcile: Reconcile, *, num_at_once: int = NUM_AT_ONCE, call_later: CallLater | None = None
    ) -> None:
        self._reconcile = reconcile
        self._slots = asyncio.Semaphore(num_at_once)
        self._call_later = call_later
        self._is_open = False
        self._waiting: set[Key] = set()
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._timers: dict[Key, Timer] = {}
        self._failures: Counter[Key] = Counter()

    def open(self) -> None:
        """Begin with the work."""
        self._is_open = True
        for key in list(self._waiting):
            self._start(key)

    def add(self, key: Key) -> None:
        """Reconcile the object soon: at once, or when its present reconcile is over."""
        self._call_off(key)
        self._waiting.add(key)
        self._start(key)

    def forget(self, key: Key) -> None:
        """Drop what is planned for an object that is gone."""
        self._call_off(key)
        self._waiting.discard(key)
        del self._failures[key]

    @property
    def depth(self) -> int:
        """Number of objects that wait or are being reconciled."""
        return len(self._waiting | self._running.keys())

    async def idle(self) -> None:
        """Return when nothing is being reconciled."""
        while self._running:
            await asyncio.wait(list(self._running.values()))

    def _call_off(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer:
            timer.cancel()

    def _start(self, key: Key) -> None:
        if not self._is_open or key in self._running:
            return
        self._waiting.discard(key)
        self._running[key] = asyncio.create_task(self._work(key), name=f"reconcile {'/'.join(key)}")

    async def _work(self, key: Key) -> None:
        try:
            delay = await self._attempt(key)
        finally:
            del self._running[key]
        if key in self._waiting:
            self._start(key)
        elif delay is not None:
            self._timers[key] = self._later(delay, key)

    async def _attempt(self, key: Key) -> float | None:
        try:
            async with self._slots:
                delay = await self._reconcile(key)
        except Exception as problem:
            # The outermost boundary: one object's trouble must not stop the others, and is tried again.
            self._failures[key] += 1
            delay = backoff_seconds(self._failures[key])
            # Where it came from is said once.
            is_first = self._failures[key] == 1
            logger.warning("%s %s/%s: tried again in %.1f s: %s", *key, delay, problem, exc_info=is_first)
            return delay
        del self._failures[key]
        return delay

    def _later(self, seconds: float, key: Key) -> Timer:
        call_later = self._call_later or asyncio.get_running_loop().call_later
        return call_later(seconds, lambda: self.add(key))
