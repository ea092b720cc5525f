"""`kubectl posttrain env init`: a new environment to change at will, which passes `env test` as it is."""

import re
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from posttrain_cli.env_kind import Kind
from posttrain_cli.failure import Failure

MAX_NAME_LENGTH = 36
"""A run's name has 40 characters at most, and one of the two is called NAME-sft."""
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_NAMED = frozenset({"run.yaml", "kustomization.yaml", "README.md"})
"""Files in which ${name} stands for the name."""


def init(name: str, kind: Kind, folder: Path) -> str:
    """Write the files of an environment into a folder; what to do next. Failure where one of them is there already."""
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        raise Failure(
            f"{name}: write a name of at most {MAX_NAME_LENGTH} small letters, digits and -, with a letter or digit at "
            "both ends"
        )
    files = {source.name: _content(source, name) for source in _sources(kind)}
    there = next((folder / file for file in files if (folder / file).exists()), None)
    if there is not None:
        raise Failure(f"{there} is there already: nothing was written, name another folder by --folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in files.items():
            (folder / file).write_text(content)
    except OSError as problem:
        raise Failure(f"{problem.filename}: cannot be written: {problem.strerror}") from problem
    return f"wrote {', '.join(sorted(files))} in {folder}\nnext: kubectl posttrain env test -f {folder / 'run.yaml'}"


def _sources(kind: Kind) -> list[Traversable]:
    """The files of a kind, and those that all have."""
    found = resources.files("posttrain_cli") / "environments"
    folders = [found / kind.value, found / "shared"]
    return [file for folder in folders for file in folder.iterdir() if file.is_file()]


def _content(source: Traversable, name: str) -> str:
    text = source.read_text()
    return Template(text).substitute(name=name) if source.name in _NAMED else text
