"""`kubectl posttrain validate`: what the API server and the operator would say of files, without either."""

from collections.abc import Collection, Sequence

from rich.console import Console
from rich.text import Text

from posttrain_cli import between, documents
from posttrain_cli.documents import Document
from posttrain_cli.failure import Failure, one_line
from posttrain_cli.faults import Fault, faults


def validate(files: Sequence[str], console: Console, *, known: Collection[str] = ()) -> int:
    """Print a line for each object and one for each fault in it; 1 where there is any, Failure where nothing is ours.

    known: names of runs that exist although no file has them.
    """
    found = documents.read(files)
    if not any(document.is_ours for document in found):
        raise Failure(f"{', '.join(files)}: there is no TrainingRun and no AdapterDeployment")
    outer = between.faults(found, known=known)
    wrong = [_told(document, outer.get(index, []), console) for index, document in enumerate(found)]
    return 1 if any(wrong) else 0


def _told(document: Document, outer: Sequence[Fault], console: Console) -> bool:
    """Print what there is to say of a document; whether something is wrong with it."""
    if not document.is_ours:
        _print(console, f"{document.label}: skipped, it is not for posttrain to judge", "dim")
        return False
    problems = [*faults(document), *outer]
    if not problems:
        _print(console, f"{document.label}: ok", "green")
        return False
    _print(console, f"{document.label}: {len(problems)} to change ({document.place})", "bold red")
    for problem in problems:
        _print(console, f"  {one_line(str(problem))}", "red")
    return True


def _print(console: Console, text: str, style: str) -> None:
    console.print(Text(text, style), soft_wrap=True)
