"""Tools of a user's class: instances that live for one batch of answers, apart from the trainer."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.trainer import sandboxes
from tests.unit.trainer.sandboxes import BRIEF, LIMITS

from posttrain_trainer.rewards.apart import Apart, CallFailed
from posttrain_trainer.rewards.session import ToolMistaken, Tools
from posttrain_trainer.sandbox import processes

CALCULATOR = '''
import os, signal
from typing import Literal

class Calculator:
    """Adds."""

    def reset(self, start: int = 0, **row):
        self.total = start
        self.row = row
        return None if start == 0 else f"you begin at {start}"

    def add(self, number: int, times: int = 1) -> int:
        """Adds a number to the total.

        Args:
            number: What to add,
                once or more.
            times (int): How often.

        Returns:
            The total.
        """
        self.total += number * times
        return self.total

    async def say(self, words: list[str], tone: Literal["low", "high"] | None = None) -> str:
        """Joins words."""
        return " ".join(words) + (tone or "")

    def divide(self, number: int) -> float:
        """Divides."""
        return self.total / number

    def hang(self) -> None:
        """Never ends."""
        signal.pause()

    def crash(self) -> None:
        """Ends the process."""
        os._exit(3)

    def leave(self) -> None:
        """Raises SystemExit."""
        raise SystemExit

    def _hidden(self) -> None:
        """No tool."""

    def get_reward(self):
        return float(self.total)
'''


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    with Apart(uid=72_000_000 + os.getpid()) as found:
        yield found


@pytest.fixture
def code(tmp_path: Path) -> Path:
    (tmp_path / "tools.py").write_text(CALCULATOR)
    return tmp_path


@pytest.fixture
def tools(apart: Apart, code: Path) -> Iterator[Tools]:
    with Tools(apart, code, "tools:Calculator", LIMITS) as found:
        yield found


def test_tools_are_described_by_their_signatures_and_docstrings(tools: Tools) -> None:
    described = {found["function"]["name"]: found["function"] for found in tools.describe()}
    assert list(described) == ["add", "crash", "divide", "hang", "leave", "say"]
    assert described["add"] == {
        "name": "add",
        "description": "Adds a number to the total.",
        "parameters": {
            "type": "object",
            "properties": {
                "number": {"type": "integer", "description": "What to add, once or more."},
                "times": {"type": "integer", "description": "How often."},
            },
            "required": ["number"],
        },
    }
    assert described["say"]["parameters"]["properties"] == {
        "words": {"type": "array", "items": {"type": "string"}},
        "tone": {"anyOf": [{"type": "string", "enum": ["low", "high"]}, {"type": "null"}]},
    }


def test_each_answer_has_an_instance_that_remembers(tools: Tools) -> None:
    assert tools.begin([{"start": 5, "gold": "7"}, {"gold": "1"}]) == ["you begin at 5", None]
    assert tools.call(0, "add", {"number": 2}) == "7"
    assert tools.call(1, "add", {"number": 1, "times": 3}) == "3"
    assert tools.call(0, "add", {"number": "1"}) == "8"
    assert tools.call(1, "say", {"words": ["a", "b"], "tone": "low"}) == "a blow"
    assert tools.rewards() == [8.0, 3.0]
    assert tools.begin([{}]) == [None]
    assert tools.rewards() == [0.0]


MISTAKES = {
    "an unknown tool": ("multiply", {}, "there is no tool multiply, but add, crash, divide, hang, leave, say"),
    "what is no tool": ("_hidden", {}, "there is no tool _hidden, but add, .*"),
    "reset": ("reset", {}, "there is no tool reset, but add, .*"),
    "a missing argument": ("add", {}, "add needs number"),
    "an unknown argument": ("add", {"number": 1, "of": 2}, "add takes no of, but number, times"),
    "a wrong type": ("add", {"number": "one"}, "argument number of add: Input should be a valid integer, .*"),
    "no object": ("add", [1], "the arguments of add are no object"),
    "what the tool raises": ("divide", {"number": 0}, "ZeroDivisionError: division by zero"),
}


@pytest.mark.parametrize(("name", "arguments", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_for_the_model_to_read_and_costs_nothing(
    tools: Tools, name: str, arguments: object, said: str
) -> None:
    tools.begin([{}])
    with pytest.raises(ToolMistaken, match=f"^{said}$"):
        tools.call(0, name, arguments)
    assert tools.call(0, "add", {"number": 1}) == "1"


DEATHS = {
    "hang": "tools:Calculator timed out after 1 s",
    "crash": "tools:Calculator ended with exit code 3 before it answered",
    "leave": r"tools:Calculator raised SystemExit \(tools\.py, line 45\)",
}


@pytest.mark.parametrize(("name", "sentence"), DEATHS.items(), ids=DEATHS)
def test_a_process_that_dies_costs_its_batch_and_the_next_one_begins(
    apart: Apart, code: Path, name: str, sentence: str
) -> None:
    with Tools(apart, code, "tools:Calculator", BRIEF if "timed out" in sentence else LIMITS) as tools:
        tools.begin([{}])
        with pytest.raises(CallFailed, match=f"^{sentence}$"):
            tools.call(0, name, {})
        tools.begin([{"start": 2}])
        assert tools.call(0, "add", {"number": 1}) == "3"


def test_the_end_of_a_batch_leaves_no_process(apart: Apart, code: Path) -> None:
    uid = 72_000_000 + os.getpid()
    with Tools(apart, code, "tools:Calculator", LIMITS) as tools:
        tools.begin([{}])
        if os.geteuid() == 0:
            assert processes.num_tasks(uid) == 1
    assert sandboxes.until(lambda: os.geteuid() != 0 or processes.num_tasks(uid) == 0)


CLASSES = {
    "a function": ("def Calculator(): pass", "is a function: name a class, whose methods are the tools"),
    "no method": ("class Calculator: pass", "has no public method: each one is a tool"),
    "no docstring": (
        "class Calculator:\n def add(self, number: int): pass",
        "has a method add without a docstring: write what the tool does, which the model is told",
    ),
    "no type": (
        "class Calculator:\n def add(self, number):\n  'Adds.'",
        "has a method add whose argument number has no type: write one, such as int",
    ),
    "any arguments": (
        "class Calculator:\n def add(self, *numbers: int):\n  'Adds.'",
        r"has a method add that takes \*numbers: int: write each argument of a tool by its name",
    ),
    "an error in reset": (
        "class Calculator:\n def add(self):\n  'Adds.'\n def reset(self): raise ValueError('no')",
        r"raised ValueError: no \(tools\.py, line 4\)",
    ),
    "a column that is not there": (
        "class Calculator:\n def add(self):\n  'Adds.'\n def reset(self, level): pass",
        "takes level, which is not there: it is given gold",
    ),
}


@pytest.mark.parametrize(("source", "sentence"), CLASSES.values(), ids=CLASSES)
def test_what_is_wrong_with_a_class_is_named(apart: Apart, tmp_path: Path, source: str, sentence: str) -> None:
    (tmp_path / "tools.py").write_text(source)
    tools = Tools(apart, tmp_path, "tools:Calculator", LIMITS)
    with tools, pytest.raises(CallFailed, match=f"^tools:Calculator {sentence}$"):
        tools.begin([{"gold": "4"}])
