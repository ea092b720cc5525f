"""The questions of `recommend`, for what no option says. Asked on the standard error: the manifest may go to a file."""

from typing import Any

import typer

from posttrain_cli.situation import MEANINGS, Have, Situation, asks_for_knowledge


def situation(
    *,
    have: Have | None,
    rows: int | None,
    base: str | None,
    is_tuned: bool | None,
    data: str | None,
    teaches_knowledge: bool | None,
    teacher: str | None,
    name: str,
) -> Situation:
    """All that was said or is answered now."""
    kind = have or _kind()
    count: int = rows if rows is not None else _asked("How many rows", type=int)
    start: str = base or _asked("Model to start from", default="pvc://models/base")
    if is_tuned is None:
        is_tuned = typer.confirm("Does it follow instructions already", default=True, err=True)
    rows_uri: str = data or _asked("The rows", default="pvc://data/train.jsonl")
    if teaches_knowledge is None and asks_for_knowledge(kind, count):
        teaches_knowledge = typer.confirm("Do they hold facts that are new to the model", default=False, err=True)
    if kind is Have.TEACHER:
        teacher = teacher or _asked("The teacher", default="pvc://models/teacher")
    return Situation(kind, count, start, is_tuned, rows_uri, bool(teaches_knowledge), teacher or "", name)


def _kind() -> Have:
    typer.echo("\n".join(f"  {kind.value:10}{meaning}" for kind, meaning in MEANINGS.items()), err=True)
    return Have(_asked("What do you have", type=Have))


def _asked(question: str, **options: Any) -> Any:
    return typer.prompt(question, err=True, **options)
