"""Tools in the child: what the methods of a user's class are told to a model as, and how they are called."""

import inspect
import json
import re
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from posttrain_trainer.sandbox import foreign
from posttrain_trainer.sandbox.foreign import Wrong

NOT_TOOLS = ("reset", "get_reward")
"""Public methods that are called by us."""
MAX_RESULT = 1 << 16
"""Characters of what a tool says."""
_ARGUMENT = re.compile(r"^\s+(\w+)\s*(?:\([^)]*\))?:\s*(.+)$")
_SECTION = re.compile(r"^\s*(Args|Arguments|Parameters|Returns|Raises|Yields|Examples?):\s*$")


class Mistaken(Exception):
    """What a model did wrong when it called a tool, for it to read."""


@dataclass(frozen=True)
class Method:
    """One tool."""

    name: str
    description: str
    arguments: Mapping[str, Any]
    """Name of an argument -> pydantic's adapter of its type."""
    required: list[str]
    about: Mapping[str, str]
    """Name of an argument -> what the docstring says of it."""

    def described(self) -> dict[str, Any]:
        """As a chat template takes it: the form that OpenAI made common."""
        properties = {
            name: {**adapter.json_schema(), **({"description": self.about[name]} if name in self.about else {})}
            for name, adapter in self.arguments.items()
        }
        schema = {"type": "object", "properties": properties, "required": self.required}
        return {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": schema},
        }

    def checked(self, given: Any) -> dict[str, Any]:
        """A model's arguments in the types that the method wants; Mistaken says what is wrong with them."""
        if not isinstance(given, dict):
            raise Mistaken(f"the arguments of {self.name} are no object")
        if unknown := sorted(given.keys() - self.arguments.keys()):
            raise Mistaken(f"{self.name} takes no {', '.join(unknown)}, but {', '.join(self.arguments) or 'nothing'}")
        if missing := [name for name in self.required if name not in given]:
            raise Mistaken(f"{self.name} needs {', '.join(missing)}")
        return {name: self._typed(name, value) for name, value in given.items()}

    def _typed(self, name: str, value: Any) -> Any:
        try:
            return self.arguments[name].validate_python(value)
        except ValueError as error:
            said = "; ".join(found["msg"] for found in error.errors()) if hasattr(error, "errors") else str(error)
            raise Mistaken(f"argument {name} of {self.name}: {said}") from error


def of(found: type) -> dict[str, Method]:
    """The tools of a class, by name. Wrong where one lacks what a model must be told."""
    functions = {
        name: value
        for name, value in inspect.getmembers(found, callable)
        if not name.startswith("_") and name not in NOT_TOOLS
    }
    if not functions:
        raise Wrong("has no public method: each one is a tool")
    return {name: _method(name, value) for name, value in functions.items()}


def called(instance: Any, method: Method, given: Any) -> str:
    """What a tool says; Mistaken where the call is wrong or the tool raises something."""
    arguments = method.checked(given)
    try:
        found = foreign.called(getattr(instance, method.name), arguments)
    except Exception as error:
        raise Mistaken(f"{type(error).__name__}: {error}"[: foreign.MAX_SENTENCE]) from error
    return (found if isinstance(found, str) else json.dumps(found, default=str))[:MAX_RESULT]


def _method(name: str, function: Callable[..., Any]) -> Method:
    # Only a session of tools needs it, and it takes as long to load as all the rest.
    from pydantic import TypeAdapter

    text = inspect.getdoc(function)
    if not text:
        raise Wrong(f"has a method {name} without a docstring: write what the tool does, which the model is told")
    hints = typing.get_type_hints(function)
    parameters = list(inspect.signature(function).parameters.values())[1:]
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise Wrong(f"has a method {name} that takes {parameter}: write each argument of a tool by its name")
        if parameter.name not in hints:
            raise Wrong(f"has a method {name} whose argument {parameter.name} has no type: write one, such as int")
    about = _about(text)
    return Method(
        name,
        about.pop("", ""),
        {parameter.name: TypeAdapter(hints[parameter.name]) for parameter in parameters},
        [parameter.name for parameter in parameters if parameter.default is parameter.empty],
        about,
    )


def _about(text: str) -> dict[str, str]:
    """What a docstring in Google's style says: of the whole under no name, and of its arguments under theirs."""
    found: dict[str, list[str]] = {"": []}
    section, last = "", ""
    for line in text.splitlines():
        if heading := _SECTION.match(line):
            section, last = heading[1], ""
        elif not section:
            found[""].append(line.strip())
        elif section in ("Args", "Arguments", "Parameters"):
            if argument := _ARGUMENT.match(line):
                last = argument[1]
                found[last] = [argument[2].strip()]
            elif last and line.strip():
                found[last].append(line.strip())
    return {name: " ".join(" ".join(lines).split()) for name, lines in found.items()}
