"""The same question to several models, with the real OpenAI client, against a small server."""

from collections.abc import Callable, Sequence

import pytest
from rich.console import Console
from tests.unit.cli import builders
from tests.unit.cli.openai_stand_in import OpenAIStandIn, Refusing, Turns, last_turn, openai_server, says

from posttrain_cli import chat, reach
from posttrain_cli.ask import Sampling
from posttrain_cli.failure import Failure


def console(*, is_terminal: bool = False, width: int = 80) -> Console:
    """A console whose output is captured."""
    return Console(width=width, height=40, force_terminal=is_terminal, color_system=None, highlight=False)


def compare(server: OpenAIStandIn, models: Sequence[str], questions: Sequence[str]) -> tuple[int, list[str]]:
    """Exit code and lines of a log."""
    log = console()
    with log.capture() as captured:
        code = chat.compare(server.url, models, questions, log)
    return code, captured.get().splitlines()


def typed(*texts: str) -> Callable[[], str]:
    """A prompt at which these lines are typed, and then Ctrl-D."""
    left = iter(texts)

    def prompt() -> str:
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    return prompt


def test_every_model_is_asked_every_question_on_its_own():
    with openai_server(base=says("I do not\nknow."), dates=last_turn) as server:
        assert compare(server, ["base", "dates"], ["one", "two"]) == (
            0,
            ["> one", "base: I do not know.", "dates: ONE", "> two", "base: I do not know.", "dates: TWO"],
        )
        assert server.turns("dates") == [
            [{"role": "user", "content": "one"}],
            [{"role": "user", "content": "two"}],
        ]


def test_a_comparison_asks_for_the_likeliest_answer():
    with openai_server(base=last_turn) as server:
        chat.compare(server.url + "/v1/", ["base"], ["one"], console(), sampling=Sampling(max_tokens=7))
    chosen = {name: server.asked[0][name] for name in ("temperature", "max_tokens", "stream")}
    assert chosen == {"temperature": 0.0, "max_tokens": 7, "stream": True}


def test_a_model_that_cannot_answer_says_so_beside_the_others():
    busy = Refusing(503, "The model `numbers` is not ready on this replica. Try again.")
    with openai_server(base=says("yes"), numbers=busy) as server:
        assert compare(server, ["base", "numbers", "poems"], ["?"]) == (
            1,
            [
                "> ?",
                "base: yes",
                "numbers: 503: The model `numbers` is not ready on this replica. Try again.",
                "poems: 404: The model does not exist.",
            ],
        )


def test_a_terminal_shows_the_answers_in_columns():
    with openai_server(base=says("I do not know."), dates=says("2020-05-01")) as server:
        terminal = console(is_terminal=True)
        with terminal.capture() as captured:
            chat.compare(server.url, ["base", "dates"], ["1 May 2020"], terminal)
    table = builders.seen_lines(captured.get())[-5:]
    assert [[cell.strip() for cell in line.strip("┃│").replace("┃", "│").split("│")] for line in table[1::2]] == [
        ["question", "base", "dates"],
        ["1 May 2020", "I do not know.", "2020-05-01"],
    ]


def test_many_models_stand_below_each_other():
    models = {f"m{index}": says(f"answer {index}") for index in range(5)}
    with openai_server(**models) as server:
        terminal = console(is_terminal=True)
        with terminal.capture() as captured:
            chat.compare(server.url, list(models), ["why?"], terminal)
    lines = [line.split() for line in builders.seen_lines(captured.get())[-6:]]
    assert lines == [["why?"], *(["m" + str(index), "answer", str(index)] for index in range(5))]


def test_each_model_has_its_own_conversation():
    def forgetful(turns: Turns) -> str:
        return f"turn {len(turns)}"

    with openai_server(base=says("hm"), dates=forgetful) as server:
        assert chat.converse(server.url, ["base", "dates"], console(), prompt=typed("one", "  ", "two", "/quit")) == 0
        assert server.turns("dates")[-1] == [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "turn 1"},
            {"role": "user", "content": "two"},
        ]
        assert server.turns("base")[-1][1] == {"role": "assistant", "content": "hm"}


def test_a_question_without_an_answer_is_no_part_of_the_conversation():
    with openai_server(base=Refusing(400, "too long")) as server:
        chat.converse(server.url, ["base"], console(), prompt=typed("one", "two"))
        assert server.turns("base")[-1] == [{"role": "user", "content": "two"}]


def test_control_characters_of_a_model_do_not_reach_the_terminal():
    with openai_server(base=says("a\x1b[2Jb")) as server:
        assert compare(server, ["base"], ["?"]) == (0, ["> ?", "base: a [2Jb"])


def test_the_base_is_the_first_of_the_models():
    with openai_server(alpha=last_turn, base=last_turn) as server:
        assert chat.served_models(server.url) == ["base", "alpha"]
    assert chat.with_base(["dates", "base", "dates"]) == ["base", "dates"]


ADAPTERS = {"all that are served": ([], ["base", "dates", "numbers"]), "one of them": (["dates"], ["base", "dates"])}


@pytest.mark.parametrize(("adapters", "expected"), ADAPTERS.values(), ids=ADAPTERS.keys())
def test_a_url_needs_no_cluster(adapters: list[str], expected: list[str]):
    with (
        openai_server(dates=last_turn, numbers=last_turn, base=last_turn) as server,
        reach.server(None, url=server.url, adapters=adapters, cluster=reach.Cluster(), console=console()) as found,
    ):
        assert found == reach.Server(server.url, expected)


def test_a_url_without_a_server_is_a_failure():
    with pytest.raises(Failure, match=r"no answer from http://127\.0\.0\.1:1: "):
        chat.served_models("http://127.0.0.1:1")


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "assistants", "ftp://assistants", "http://"])
def test_what_is_no_url_is_a_failure(url: str):
    with pytest.raises(Failure, match=f"{url}: write a URL such as http://127.0.0.1:8000"):
        chat.served_models(url)


def test_only_what_is_loaded_is_asked():
    found = builders.serving(
        builders.adapter("dates", "Loaded"),
        builders.adapter("numbers", "Pending", "WaitingForRun"),
        conditions=builders.waiting("WaitingForRun"),
    )
    chat.check_available(found)
    assert chat.loaded_adapters(found) == ["dates"]
    assert chat.unloaded_adapters(found) == ["numbers (WaitingForRun)"]


def test_a_deployment_without_a_ready_replica_is_a_failure():
    found = builders.deployment(conditions=builders.waiting("Starting", "0 of 1 replicas answer"))
    with pytest.raises(Failure, match="adep/assistants does not answer yet: Starting: 0 of 1 replicas answer"):
        chat.check_available(found)
