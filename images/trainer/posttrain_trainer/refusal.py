"""The two ways in which a run ends before its time: the user's fault, or a signal."""

import signal
from types import FrameType

from posttrain_api.conditions import Reason


class Refused(Exception):
    """What the user gave cannot be trained; the message names the place and says what to write instead."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Stopped(Exception):
    """SIGTERM came; the message says how far the run was."""


class Stop:
    """A request to end, noticed at the next boundary: a signal must not tear a step or a file apart."""

    def __init__(self) -> None:
        self.requested = False

    def listen(self) -> None:
        """Let SIGTERM request the end. Main thread only."""
        signal.signal(signal.SIGTERM, self._request)

    def check(self, where: str) -> None:
        """Raise Stopped, naming where the run was, if the end was requested."""
        if self.requested:
            raise Stopped(f"stopped by SIGTERM {where}")

    def _request(self, _signal: int, _frame: FrameType | None) -> None:
        self.requested = True
