"""Following objects to their end, against a server that lists and watches by a script."""

from collections.abc import Sequence

import pytest
from kubernetes.client.exceptions import ApiException
from rich.console import Console
from tests.unit.cli import builders
from tests.unit.cli.api_stand_in import DROP, GONE, ApiStandIn, api_server, modified

from posttrain_cli import watch
from posttrain_cli.failure import Failure

RUNS, DEPLOYMENTS = "trainingruns", "adapterdeployments"


def follow(server: ApiStandIn, *names: str, is_terminal: bool = False) -> tuple[int, list[str]]:
    """Exit code and what was printed."""
    console = Console(width=100, force_terminal=is_terminal, color_system=None, highlight=False)
    with console.capture() as captured:
        code = watch.follow(builders.api_client(server), "team", names, console, pause_seconds=0.01)
    return code, builders.seen_lines(captured.get())


def test_a_log_has_a_line_for_each_phase_and_each_ten_percent():
    steps = [0, 10, 45, 50, 60, 120, 121, 500]
    events = [modified(builders.training(step=step)) for step in steps]
    with api_server(
        lists={RUNS: [[builders.run()]]}, watches={RUNS: [[*events, modified(builders.succeeded())]]}
    ) as server:
        assert follow(server, "trun/dates") == (
            0,
            [
                "trun/dates: New (waits for the operator to see it)",
                "trun/dates: Training 0% (0/500, loss 1.31, 14m left)",
                "trun/dates: Training 10% (50/500, loss 1.31, 14m left)",
                "trun/dates: Training 24% (120/500, loss 1.31, 14m left)",
                "trun/dates: Training 100% (500/500, loss 1.31, 14m left)",
                "trun/dates: Succeeded 100% (500/500, exactMatch 0.00 → 0.95)",
                "trun/dates is ready",
            ],
        )


def test_all_of_a_namespace_are_followed_and_others_that_come_later():
    started = [modified(builders.training("later", step=0), type_="ADDED"), modified(builders.succeeded())]
    with api_server(
        lists={RUNS: [[builders.run()]]}, watches={RUNS: [[*started, modified(builders.succeeded("later"))]]}
    ) as server:
        code, lines = follow(server)
    assert (code, lines[-1]) == (0, "all 2 are ready")


def test_a_name_without_a_kind_is_looked_for_in_both_kinds():
    item = builders.serving(builders.adapter("dates", "Loaded"), conditions=builders.ready(), phase="Ready")
    with api_server(lists={RUNS: [[builders.failed("other")]], DEPLOYMENTS: [[item]]}) as server:
        assert follow(server, "assistants") == (
            0,
            ["adep/assistants: Ready 100% (1/1 adapters, 1/1 replicas)", "adep/assistants is ready"],
        )


def test_the_first_failure_ends_it():
    found = [builders.training(step=120), builders.run("numbers")]
    with api_server(lists={RUNS: [found]}, watches={RUNS: [[modified(builders.failed("numbers"))]]}) as server:
        code, lines = follow(server)
    assert (code, lines[-1]) == (1, "trun/numbers failed: DatasetInvalid: row 3 has no answer")


def test_an_old_failure_does_not_count_for_a_new_spec():
    old = {**builders.failed("dates"), "metadata": {"name": "dates", "generation": 2}}
    with api_server(
        lists={RUNS: [[old]]}, watches={RUNS: [[modified(builders.succeeded(observedGeneration=2))]]}
    ) as server:
        code, lines = follow(server, "trun/dates")
    assert (code, lines[-1]) == (0, "trun/dates is ready")


ABSENT = {
    "a run": (["trun/x"], 'TrainingRun "x" not found in namespace team'),
    "either": (["x"], 'TrainingRun or AdapterDeployment "x" not found in namespace team'),
    "one of two": (["dates", "adep/x"], 'AdapterDeployment "x" not found in namespace team'),
}


@pytest.mark.parametrize(("names", "expected"), ABSENT.values(), ids=ABSENT.keys())
def test_what_is_not_there_is_said(names: Sequence[str], expected: str):
    with api_server(lists={RUNS: [[builders.training(step=0)]]}) as server:
        code, lines = follow(server, *names)
    assert (code, lines[-1]) == (1, expected)


def test_an_empty_namespace_is_said():
    with api_server(lists={}) as server:
        assert follow(server) == (1, ["no TrainingRuns and no AdapterDeployments in namespace team"])


def test_a_deleted_object_is_said():
    gone = modified(builders.training(step=120), type_="DELETED")
    with api_server(lists={RUNS: [[builders.training(step=120)]]}, watches={RUNS: [[gone]]}) as server:
        code, lines = follow(server, "trun/dates")
    assert (code, lines[-1]) == (1, 'TrainingRun "dates" was deleted')


@pytest.mark.parametrize("text", ["pod/x", "trun/", "trun/a/b"])
def test_what_is_no_name_is_refused(text: str):
    with api_server(lists={}) as server, pytest.raises(Failure, match="write NAME, trun/NAME or adep/NAME"):
        follow(server, text)


def test_a_watch_that_ends_is_resumed_from_the_last_event():
    bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "9"}}}
    with api_server(
        lists={RUNS: [[builders.run()]]},
        watches={
            RUNS: [[modified(builders.training(step=0), version="8"), bookmark], [modified(builders.succeeded())]]
        },
    ) as server:
        assert follow(server, "trun/dates")[0] == 0
        assert server.watched_from == ["7", "9"]


@pytest.mark.parametrize("end", [GONE, DROP], ids=["the version is too old", "the connection breaks"])
def test_a_broken_watch_begins_with_a_list(end: object):
    with api_server(
        lists={RUNS: [[builders.run()], [builders.training(step=120)]]},
        watches={RUNS: [[end], [modified(builders.succeeded())]]},
    ) as server:
        code, lines = follow(server, "trun/dates")
    assert code == 0
    assert "trun/dates: Training 24% (120/500, loss 1.31, 14m left)" in lines


def test_an_object_that_went_while_the_watch_was_broken_is_missed():
    with api_server(lists={RUNS: [[builders.training(step=120)], []]}, watches={RUNS: [[DROP]]}) as server:
        assert follow(server, "trun/dates")[1][-1] == 'TrainingRun "dates" was deleted'


def test_a_server_in_trouble_is_asked_again():
    with api_server(
        lists={RUNS: [[builders.training(step=120)], 503, 503, [builders.succeeded()]]}, watches={RUNS: [[DROP]]}
    ) as server:
        assert follow(server, "trun/dates")[0] == 0


@pytest.mark.parametrize("lists", [[403], [[builders.run()], 403]], ids=["at first", "later"])
def test_a_refusal_is_final(lists: list[list[builders.Object] | int]):
    with api_server(lists={RUNS: lists}, watches={RUNS: [[DROP]]}) as server, pytest.raises(ApiException) as refused:
        follow(server, "trun/dates")
    assert refused.value.status == 403


def test_a_terminal_gets_a_table_that_stays():
    item = builders.serving(
        builders.adapter("dates", "Loaded"), builders.adapter("numbers", "Loaded"), conditions=builders.ready()
    )
    with api_server(lists={RUNS: [[builders.succeeded()]], DEPLOYMENTS: [[item]]}) as server:
        code, lines = follow(server, is_terminal=True)
    assert code == 0
    assert lines[-3:] == [
        "✓  trun/dates       Succeeded  ━━━━━━━━━━━━━━━━ 100%  500/500       exactMatch 0.00 → 0.95",
        "✓  adep/assistants  Loading    ━━━━━━━━━━━━━━━━ 100%  2/2 adapters  1/1 replicas",
        "all 2 are ready",
    ]
