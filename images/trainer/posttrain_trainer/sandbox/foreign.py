"""A user's module in the child: how it is loaded and called, and what goes wrong, said in a sentence.

Names of files are given as the user knows them: below the folder of his modules.
"""

import asyncio
import importlib
import inspect
import math
import numbers
import reprlib
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

MAX_SENTENCE = 600
"""Characters of what a user's code may say of itself."""


class Wrong(Exception):
    """What is wrong with the user's code or with what it returned: a sentence that goes on after its name."""


def load(folder: Path, entrypoint: str) -> Any:
    """The function or class that module:name names, from the folder. Wrong where it is not there; whatever the module
    raises."""
    module_name, _, name = entrypoint.rpartition(":")
    _check_file(folder, module_name)
    module = importlib.import_module(module_name)
    if not Path(module.__file__ or "/").is_relative_to(folder):
        raise Wrong(f"is not there: {module_name} is a module of Python or a package, so give the file another name")
    if name not in vars(module):
        raise Wrong(f"is not there: {module_name}.py has no {name}, but {_own_names(module)}")
    found = vars(module)[name]
    if not callable(found):
        raise Wrong(f"is {reprlib.repr(found)}: name a function or a class")
    return found


def accepted(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments that a function takes. Wrong where it needs another one."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return dict(arguments)
    if missing := [p.name for p in parameters if p.default is p.empty and _is_named(p) and p.name not in arguments]:
        raise Wrong(f"takes {', '.join(missing)}, which is not there: it is given {', '.join(arguments)}")
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return dict(arguments)
    names = {parameter.name for parameter in parameters if _is_named(parameter)}
    return {name: value for name, value in arguments.items() if name in names}


def called(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """What a function returns, awaited where it is asynchronous."""
    found = function(**arguments)
    if not inspect.isawaitable(found):
        return found

    async def awaited() -> Any:
        return await found

    return asyncio.run(awaited())


def scores(found: Any, count: int) -> list[float | None]:
    """What a reward returned as numbers, one for each completion. Wrong names the first that is none."""
    found = found.tolist() if hasattr(found, "tolist") else found
    if not isinstance(found, (list, tuple)):
        raise Wrong(f"returned {reprlib.repr(found)}: return a list with a number or None for each completion")
    if len(found) != count:
        raise Wrong(f"returned a list of {len(found)} for {count} completions")
    return [_score(value, f"completion {number} of {count}") for number, value in enumerate(found, start=1)]


def sentence(error: BaseException, folder: Path) -> str:
    """What an exception says, with the last line of the user's that it came through."""
    if isinstance(error, Wrong):
        return str(error)[:MAX_SENTENCE]
    said = traceback.format_exception_only(error)[-1].strip()
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    if isinstance(error, SyntaxError):
        said = f"SyntaxError: {error.msg}"
        place = f"{Path(error.filename or '?').name}, line {error.lineno}"
    else:
        place = f"{Path(lines[-1].filename).relative_to(folder)}, line {lines[-1].lineno}" if lines else ""
    return f"raised {said[:MAX_SENTENCE]}" + (f" ({place})" if place else "")


def _check_file(folder: Path, module_name: str) -> None:
    path = folder.joinpath(*module_name.split("."))
    if path.with_name(f"{path.name}.py").is_file() or (path / "__init__.py").is_file():
        return
    if not folder.is_dir():
        raise Wrong(f"is not there: there is no folder {folder}")
    there = sorted(str(found.relative_to(folder)) for found in folder.glob("*.py"))
    raise Wrong(f"is not there: there is no {module_name}.py, but {', '.join(there) or 'no module at all'}")


def _own_names(module: ModuleType) -> str:
    own = [
        name
        for name, value in vars(module).items()
        if callable(value) and not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]
    return ", ".join(own) or "nothing that can be called"


def _is_named(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)


def _score(value: Any, where: str) -> float | None:
    if value is None:
        return None
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, numbers.Real):
        raise Wrong(f"returned {reprlib.repr(value)} for {where}: write a number or None")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found):
        raise Wrong(
            f"returned {reprlib.repr(value)} for {where}: write a finite number, or None where it has nothing to say"
        )
    return found


def hide(package: str) -> None:
    """Take a package of ours out of reach of `import`: what is loaded goes on working."""
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        del sys.modules[name]
