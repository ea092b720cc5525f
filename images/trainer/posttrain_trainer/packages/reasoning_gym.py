"""reasoning-gym:<task>: generated rows scored by the task's own code."""

import difflib
import inspect
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from posttrain_trainer.packages import foreign
from posttrain_trainer.packages.scores import of_reasoning_gym

Object = dict[str, Any]

NUM_ROWS, SEED = 1000, 42
"""So many rows, from this seed, where nothing is said."""
QUESTION, METADATA = "question", "metadata"
"""Columns that the score needs: the prompt as text, which may stand among messages, and what the task adds."""
SCORE = of_reasoning_gym.score
COLUMNS = (QUESTION, METADATA)
"""What it needs of a row beside the right answer."""
_OURS = {"size": "dataset.limit"}
"""An option that has a field of its own."""
_NUM_REPEATED = 4


def rows(task: str, options: Mapping[str, Any], limit: int | None) -> list[Object]:
    """`limit` rows of a task; Refused where there is no such task or it takes no such options."""
    name, size = f"reasoning-gym:{task}", limit or NUM_ROWS
    made = _made(task, options, size)
    with foreign.called(name, doing="cannot make its rows"):
        entries = [made[place] for place in range(size)]
        again = _made(task, options, size)
        is_same = all(again[place] == entries[place] for place in range(min(size, _NUM_REPEATED)))
    if not is_same:
        raise foreign.wrong(name, "it makes other rows each time, so that no two rounds would learn from the same")
    return [_row(entry) for entry in entries]


def may_run_here(task: str) -> bool:
    """Whether a task's score can do no harm, whatever the answer."""
    kind, _ = _kinds(task)
    return of_reasoning_gym.is_harmless(kind)


def _made(task: str, options: Mapping[str, Any], size: int) -> Any:
    """The package's own dataset."""
    name, (kind, settings) = f"reasoning-gym:{task}", _kinds(task)
    _check_options(name, options, list(inspect.signature(settings).parameters))
    with foreign.called(name, doing=f"does not take {foreign.OPTIONS} {dict(options)}"):
        return kind(config=settings(**{"seed": SEED, **options, "size": size}))


def _kinds(task: str) -> tuple[Any, Any]:
    """The classes of a task's dataset and of its options; Refused where there is no such task."""
    if find_spec("reasoning_gym") is None:
        raise foreign.missing("reasoning-gym", install="the package reasoning-gym")
    from reasoning_gym.factory import DATASETS

    if task not in DATASETS:
        raise foreign.wrong(f"reasoning-gym:{task}", f"no such task: {_near(task, list(DATASETS))}")
    return DATASETS[task]


def _check_options(name: str, options: Mapping[str, Any], known: list[str]) -> None:
    for option in options:
        if option in _OURS:
            raise foreign.wrong(name, f"{foreign.OPTIONS}.{option}: write {_OURS[option]} instead")
        if option not in known:
            raise foreign.wrong(name, f"{foreign.OPTIONS}.{option}: no such option: {_near(option, known)}")


def _near(word: str, known: list[str]) -> str:
    found = difflib.get_close_matches(word, known, n=3, cutoff=0.5) or sorted(known)[:8]
    return f"write {', '.join(found)}" if len(found) < len(known) else f"it has {', '.join(found)}"


def _row(entry: Object) -> Object:
    """A row as JSON holds it."""
    gold = {} if entry["answer"] is None else {"gold": str(entry["answer"])}
    return {"prompt": entry[QUESTION], **gold, QUESTION: entry[QUESTION], METADATA: _json(entry[METADATA])}


def _json(value: Any) -> Any:
    """A value from which its score makes the same again: JSON alone would make a list of a tuple."""
    if isinstance(value, dict):
        return {str(name): _json(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return {of_reasoning_gym.TUPLE: [_json(inner) for inner in value]}
    return [_json(inner) for inner in value] if isinstance(value, list) else value
