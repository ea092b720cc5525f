"""The score of a reasoning-gym task. Some evaluate what a model wrote, so this runs where foreign code runs, alone in
this folder; an answer that a task comes to no end with costs itself alone."""

import os
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from types import CodeType
from typing import Any

TUPLE = "tuple"
"""The one key of an object that stands for a tuple, which JSON has not."""
SECONDS_OF_AN_ANSWER = 3
"""Time on a core after which an answer is wrong."""
_HARMLESS = frozenset((
    "isinstance", "bool", "str", "int", "float", "len", "list", "dict", "tuple", "set", "zip", "enumerate", "abs",
    "max", "min", "sum", "all", "any", "sorted", "round", "map", "strip", "rstrip", "lstrip", "lower", "upper", "title",
    "split", "splitlines", "replace", "join", "startswith", "endswith", "isdigit", "isalpha", "count", "find", "index",
    "get", "items", "keys", "values", "append", "add", "json", "loads", "JSONDecodeError", "Decimal", "utils",
    "compute_decimal_reward", "Exception", "ValueError", "TypeError", "KeyError", "IndexError", "AttributeError",
))  # fmt: skip
"""Names in the code of a score that may be used in the trainer's own process."""

Given = tuple[str, Mapping[str, Any]]
"""An answer, and its row as the task made it."""


def score(
    completions: Sequence[str],
    gold: Sequence[str | None],
    question: Sequence[str],
    metadata: Sequence[Any],
    environment: Sequence[str],
    options: Sequence[Mapping[str, Any]],
    **_: Any,
) -> list[float]:
    """What the task `environment` says of each answer; one that its code cannot read is wrong."""
    import reasoning_gym

    task = reasoning_gym.create_dataset(environment[0], **{**options[0], "seed": 0, "size": 1})
    entries = [
        {"question": asked, "answer": right, "metadata": python(found)}
        for asked, right, found in zip(question, gold, metadata, strict=True)
    ]
    given = list(zip(completions, entries, strict=True))
    return [_said(task, *one) for one in given] if is_harmless(type(task)) else _apart(task, given)


def is_harmless(kind: type) -> bool:
    """Whether a task's score calls nothing but what compares and cuts texts, so that no answer can make it do more."""
    score_answer = next(vars(base)["score_answer"] for base in kind.__mro__ if "score_answer" in vars(base))
    return set(_names(score_answer.__code__)) <= _HARMLESS


def _names(code: CodeType) -> Iterator[str]:
    """Globals and attributes that code uses, and what is defined in it."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def python(value: Any) -> Any:
    """A value of which JSON made tuples objects, as it was."""
    if isinstance(value, dict):
        inner = {name: python(content) for name, content in value.items()}
        return tuple(inner[TUPLE]) if inner.keys() == {TUPLE} else inner
    return [python(inner) for inner in value] if isinstance(value, list) else value


def _apart(task: Any, given: Sequence[Given]) -> list[float]:
    """The same in a child, and in another one behind each answer that ends it."""
    found: list[float] = []
    while len(found) < len(given):
        found += _until_its_end(task, given[len(found) :])
        found += [0.0] * (len(found) < len(given))
    return found


def _until_its_end(task: Any, given: Sequence[Given]) -> Iterator[float]:
    """The scores that a child gives before it ends."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _write(task, given, writing)
    os.close(writing)
    with os.fdopen(reading) as lines:
        yield from map(float, (line for line in lines if line.endswith("\n")))
    os.waitpid(child, 0)


def _write(task: Any, given: Sequence[Given], writing: int) -> None:
    """In the child: a line for each score. The kernel ends it where an answer takes too long."""
    try:
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        for one in given:
            limit = int(time.process_time()) + 1 + SECONDS_OF_AN_ANSWER
            resource.setrlimit(resource.RLIMIT_CPU, (limit if hard < 0 else min(limit, hard), hard))
            os.write(writing, f"{_said(task, *one)}\n".encode())
    finally:
        os._exit(0)


def _said(task: Any, answer: str, entry: Mapping[str, Any]) -> float:
    try:
        return float(task.score_answer(answer, entry))
    except Exception:  # noqa: BLE001 - the task's code reads what a model wrote, and may raise anything
        return 0.0
