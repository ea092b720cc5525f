"""Where code of a package is called: what it raises is told by the field that named it."""

from collections.abc import Iterator
from contextlib import contextmanager

from posttrain_api.conditions import Reason
from posttrain_trainer.refusal import Refused

FIELD = "dataset.package"
OPTIONS = "dataset.packageOptions"
MAX_CHARACTERS = 300


@contextmanager
def called(name: str, *, doing: str) -> Iterator[None]:
    """Refused where others' code fails; `doing` is what it was asked for, such as "cannot make its rows"."""
    try:
        yield
    except Refused:
        raise
    except Exception as error:
        raise wrong(name, f"{doing}: {_said(error)}") from error


def missing(package: str, *, install: str) -> Refused:
    """What to say where a package is not installed."""
    return Refused(
        Reason.PACKAGE_MISSING,
        f"{FIELD}: {package} is not installed here: add {install} to an image of your own and name it in "
        "podTemplate.image",
    )


def wrong(name: str, problem: str) -> Refused:
    """What to say where an environment cannot be had as it is asked for."""
    return Refused(Reason.INVALID_SPEC, f"{FIELD} {name}: {problem}")


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:MAX_CHARACTERS]}" if text else type(error).__name__
