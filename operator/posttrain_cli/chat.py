"""`kubectl posttrain chat`: the base and its adapters, asked the same, side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from posttrain_api.v1alpha1.adapter_deployment import BASE_NAME
from posttrain_cli import answers, ask
from posttrain_cli.answers import Answer, Asked
from posttrain_cli.ask import Column, Sampling
from posttrain_cli.failure import Failure, one_line

QUIT = frozenset({"/quit", "/exit", "/q"})
FRAMES_PER_SECOND = 10
LINES_PER_QUESTION = 5
"""A guess, for choosing how many questions are seen while answers arrive."""
LIKELIEST = Sampling()

Object = Mapping[str, Any]


def check_available(deployment: Object) -> None:
    """Failure while no replica of an AdapterDeployment takes requests."""
    status = deployment.get("status") or {}
    if not status.get("readyReplicas"):
        raise Failure(f"adep/{deployment['metadata']['name']} does not answer yet: {_why(status)}")


def loaded_adapters(deployment: Object) -> list[str]:
    """The adapters of an AdapterDeployment that are proven on every replica."""
    return [adapter["name"] for adapter in _adapters(deployment) if adapter["state"] == "Loaded"]


def unloaded_adapters(deployment: Object) -> list[str]:
    """The others, each with the reason: `numbers (WaitingForRun)`."""
    others = [adapter for adapter in _adapters(deployment) if adapter["state"] != "Loaded"]
    return [f"{adapter['name']} ({adapter.get('reason') or adapter['state']})" for adapter in others]


def _adapters(deployment: Object) -> Sequence[Object]:
    return (deployment.get("status") or {}).get("adapters") or []


def _why(status: Object) -> str:
    ready = next((known for known in status.get("conditions") or [] if known["type"] == "Ready"), None)
    return one_line(f"{ready['reason']}: {ready['message']}") if ready else "the operator has not seen it"


def served_models(url: str) -> list[str]:
    """Every model that the server at this URL names, `base` first; Failure where it does not answer."""
    return ask.models(url)


def with_base(adapters: Sequence[str]) -> list[str]:
    """The models to compare: `base`, then these, each once."""
    return list(dict.fromkeys([BASE_NAME, *adapters]))


def compare(
    url: str, models: Sequence[str], questions: Sequence[str], console: Console, *, sampling: Sampling = LIKELIEST
) -> int:
    """Ask each question on its own and show all answers in one table; 1 where a model could not answer, else 0.

    `url` is the server's, with or without /v1. Raises Failure where there is no server.
    """
    asked: list[Asked] = []
    with _shown(asked, console, with_questions=True):
        for question in questions:
            asked.append(Asked(question, [Answer(model) for model in models]))
            ask.all_at_once(url, [Column(model) for model in models], asked[-1], sampling=sampling)
    return 1 if any(answer.problem for each in asked for answer in each.answers) else 0


def converse(
    url: str, models: Sequence[str], console: Console, *, prompt: Callable[[], str], sampling: Sampling = LIKELIEST
) -> int:
    """Put each line of `prompt` to every model, each in its own conversation, until /quit or EOFError; 0."""
    columns = [Column(model) for model in models]
    for question in _questions(prompt):
        asked = Asked(question, [Answer(model) for model in models])
        with _shown([asked], console, with_questions=False):
            ask.all_at_once(url, columns, asked, sampling=sampling)
    return 0


def _questions(prompt: Callable[[], str]) -> Iterator[str]:
    while True:
        try:
            text = prompt().strip()
        except EOFError:
            return
        if text in QUIT:
            return
        if text:
            yield text


@contextmanager
def _shown(asked: Sequence[Asked], console: Console, *, with_questions: bool) -> Iterator[None]:
    """Show the answers: on a terminal as they arrive and then in full, elsewhere as lines at the end."""
    if not console.is_terminal:
        yield
        for line in (line for each in asked for line in answers.lines(each)):
            console.print(Text(line), soft_wrap=True)
        return

    def drawn(newest: int) -> Table:
        return answers.table(asked[-newest:], width=console.width, with_questions=with_questions)

    # A live table is cut at the terminal's height: it shows the newest and is replaced by the whole at the end.
    fitting = max(1, console.height // LINES_PER_QUESTION)
    with Live(
        get_renderable=lambda: drawn(fitting),
        console=console,
        refresh_per_second=FRAMES_PER_SECOND,
        transient=True,
    ):
        yield
    console.print(drawn(len(asked)))
