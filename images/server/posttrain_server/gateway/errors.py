"""Refusals in the shape of OpenAI's API, so that its clients raise the right exception."""

from dataclasses import dataclass
from typing import Any


@dataclass
class Refusal(Exception):
    """A request that is not passed on."""

    status: int
    message: str
    code: str
    param: str | None = None
    retry_after_seconds: int | None = None

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Headers that belong to it."""
        if self.retry_after_seconds is None:
            return {}
        return {"retry-after": str(self.retry_after_seconds)}


def no_such_route(method: str, path: str) -> Refusal:
    """For every door that is not on the allowlist."""
    return Refusal(404, f"There is no {method} {path} here.", "unknown_url")


def wrong_key() -> Refusal:
    """For a key header that does not hold the key."""
    return Refusal(403, "The key is wrong.", "forbidden")


def invalid_body(message: str) -> Refusal:
    """For a body that cannot be read."""
    return Refusal(400, message, "invalid_body")


def body_too_large(limit: int) -> Refusal:
    """For a body above the limit, in bytes."""
    return Refusal(413, f"The request is larger than {limit} bytes.", "request_too_large")


def missing_model() -> Refusal:
    """For a request that does not say whom it asks."""
    return Refusal(400, "Say which model: `base` or the name of an adapter.", "missing_model", "model")


def unknown_model(name: str) -> Refusal:
    """For a name that nobody has."""
    return Refusal(404, f"The model `{name[:100]}` does not exist.", "model_not_found", "model")


def not_ready(name: str) -> Refusal:
    """For an adapter that is wanted and not yet proven on this replica."""
    message = f"The model `{name[:100]}` is not ready on this replica. Try again."
    return Refusal(503, message, "model_not_ready", "model", retry_after_seconds=1)
