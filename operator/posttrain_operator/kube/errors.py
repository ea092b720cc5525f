"""Answers of the API server that are not what was asked for, as exceptions."""


class ApiError(Exception):
    """The API server answered with an error that nobody expected."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class NotFound(ApiError):
    """There is no such object (404)."""


class Conflict(ApiError):
    """It exists already, or is not what the precondition says (409)."""


class Refused(ApiError):
    """The object is not valid (400, 422) or not allowed here (403): what the user or the platform must change."""

    @property
    def is_final(self) -> bool:
        """Whether the same request can never succeed; what is forbidden now may be allowed later."""
        return self.status != 403


class Unreachable(ApiError):
    """No answer at all."""


def error(status: int, reason: str, message: str) -> ApiError:
    """The exception for a status code."""
    kinds: dict[int, type[ApiError]] = {400: Refused, 403: Refused, 404: NotFound, 409: Conflict, 422: Refused}
    return kinds.get(status, ApiError)(status, reason, message)
