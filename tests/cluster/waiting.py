"""Waiting for a fact instead of for a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


def until(fact: Callable[[], bool], *, what: str, timeout_seconds: float, every_seconds: float = 0.05) -> None:
    """Return once `fact()` is true; TimeoutError names `what` otherwise."""
    deadline = time.monotonic() + timeout_seconds
    never = threading.Event()
    while not fact():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not after {timeout_seconds:g} s")
        never.wait(every_seconds)
