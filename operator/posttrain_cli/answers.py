"""How answers of several models are shown side by side. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from posttrain_cli.failure import one_line

MIN_COLUMN = 22
"""Narrower than this, an answer is easier to read below the others than beside them."""


@dataclass
class Answer:
    """What one model says to one question; the text grows while it arrives."""

    model: str
    text: str = ""
    problem: str = ""
    is_done: bool = False


@dataclass(frozen=True)
class Asked:
    """A question and its answers, one for each model, in one order."""

    question: str
    answers: Sequence[Answer]


def table(asked: Sequence[Asked], *, width: int, with_questions: bool) -> Table:
    """One column for each model and one row for each question; on a narrow terminal one row for each answer."""
    models = [answer.model for answer in asked[0].answers] if asked else []
    columns = len(models) + with_questions
    if columns * MIN_COLUMN > width:
        return _below(asked, with_questions=with_questions)
    made = Table(expand=True, show_lines=len(asked) > 1)
    if with_questions:
        made.add_column("question", style="dim", ratio=1)
    for model in models:
        made.add_column(Text(model, "bold cyan"), ratio=1)
    for each in asked:
        question: list[RenderableType] = [Text(each.question)] if with_questions else []
        made.add_row(*question, *(cell(answer) for answer in each.answers))
    return made


def _below(asked: Sequence[Asked], *, with_questions: bool) -> Table:
    made = Table(box=None, show_header=False, pad_edge=False, expand=True)
    made.add_column(style="bold cyan", no_wrap=True)
    made.add_column(ratio=1)
    for each in asked:
        if with_questions:
            made.add_row("", Text(each.question, "dim"))
        for answer in each.answers:
            made.add_row(Text(answer.model), cell(answer))
    return made


def cell(answer: Answer) -> Text:
    """One answer: its text, what went wrong, or a sign that it is still to come."""
    text = Text(_printable(answer.text))
    if answer.problem:
        text.append(("\n" if answer.text else "") + answer.problem, "red")
    elif not answer.is_done:
        text.append("▌", "dim")
    elif not answer.text:
        text.append("(empty)", "dim")
    return text


def lines(asked: Asked) -> list[str]:
    """The same for a log: the question, then one line for each model."""
    said = [f"{answer.model}: {one_line(answer.problem or answer.text)}" for answer in asked.answers]
    return [f"> {one_line(asked.question)}", *said]


def _printable(text: str) -> str:
    """Without control characters, which a model may produce as any others."""
    return "".join(letter for letter in text if letter.isprintable() or letter == "\n").strip()
