"""Why an adapter is not served."""

from dataclasses import dataclass

from posttrain_api.conditions import Reason


class ArtifactError(Exception):
    """An artifact that cannot be served, or not yet."""

    def __init__(self, reason: Reason, message: str, *, retry_seconds: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_seconds = retry_seconds


@dataclass(frozen=True)
class Failure:
    """What became of a try."""

    reason: Reason
    message: str
    retry_at: float | None = None
    """When to try again, on the agent's clock; None: not before the list or the engine changes."""


def of(error: ArtifactError, *, now: float) -> Failure:
    """The failure that an error means at this time."""
    retry_at = None if error.retry_seconds is None else now + error.retry_seconds
    return Failure(error.reason, str(error), retry_at)
