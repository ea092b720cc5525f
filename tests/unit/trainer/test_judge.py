"""A judge that is asked by HTTP: a real server on this machine, which behaves badly in every way."""

import json
import logging
import threading
from array import array
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from posttrain_api.conditions import Reason
from posttrain_api.v1alpha1.environment import Reward
from posttrain_trainer.examples import Prompt
from posttrain_trainer.refusal import Refused
from posttrain_trainer.rewards import judge
from posttrain_trainer.rewards.failure import RewardFailed
from posttrain_trainer.rewards.judge import Judge

Answer = Callable[["Handler"], None]
SECRET = "t0ken-of-the-judge"


class Server(ThreadingHTTPServer):
    """Answers each request in the next of the given ways, the last one from then on."""

    daemon_threads = True

    def __init__(self, *answers: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = list(answers)
        self.seen: list[tuple[dict[str, str], Any]] = []
        self.ended = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/score?key=of-the-url"

    def next(self) -> Answer:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((dict(self.headers), body))
        self.server.next()(self)

    def says(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def saying(content: bytes | str, status: int = 200, **headers: str) -> Answer:
    content = content.encode() if isinstance(content, str) else content
    return lambda handler: handler.says(content, status, **headers)


def hanging(handler: Handler) -> None:
    handler.server.ended.wait(60)


def dripping(handler: Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.ended.wait(0.2):
        handler.wfile.write(b" ")


def closing(handler: Handler) -> None:
    handler.connection.close()


FINE = saying('{"score": 0.5}')


@pytest.fixture
def served() -> Iterator[Callable[..., Server]]:
    """Starts servers with given answers."""
    started: list[Server] = []

    def start(*answers: Answer) -> Server:
        server = Server(*answers)
        started.append(server)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return server

    yield start
    for server in started:
        server.ended.set()
        server.shutdown()
        server.server_close()


def judging(url: str, token: str | None = None, *, timeout_seconds: int = 60, **http: Any) -> Judge:
    reward = {"http": {"url": url} | http, "timeoutSeconds": timeout_seconds}
    return Judge(Reward.model_validate(reward), token)


def prompt(number: int = 1, **columns: Any) -> Prompt:
    return Prompt(number, [{"role": "user", "content": f"Say {number}"}], array("i"), str(number), columns)


def test_a_judge_is_told_the_row_and_the_answer_and_says_a_number_or_nothing(served: Callable[..., Server]) -> None:
    server = served(saying('{"score": 2, "why": "good"}'), saying('{"score": null}'))
    asked = judging(server.url, SECRET)
    assert asked.scores([(prompt(level=3), "1")]) == [2.0]
    assert asked.scores([(prompt(), "no")]) == [None]
    headers, body = server.seen[0]
    assert body == {"prompt": [{"role": "user", "content": "Say 1"}], "completion": "1", "gold": "1", "level": 3}
    assert headers["Authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(saying("", 500), id="an error of the server"),
        pytest.param(saying("", 429, Retry_After="1"), id="too many requests"),
        pytest.param(closing, id="a connection that breaks off"),
    ],
)
def test_what_failed_is_asked_again(served: Callable[..., Server], first: Answer) -> None:
    server = served(first, FINE)
    assert judging(server.url).scores([(prompt(), "1")]) == [0.5]
    assert len(server.seen) == 2


@pytest.mark.parametrize(
    ("answer", "requests", "problem"),
    [
        pytest.param(saying("", 503), 2, "answered 503", id="an error that stays"),
        pytest.param(saying("", 404), 1, "answered 404", id="an error of ours"),
        pytest.param(saying("", 401), 1, "answered 401: give it the right http.token", id="no access"),
        pytest.param(saying("oops"), 1, "answered 'oops', which is no JSON", id="garbage"),
        pytest.param(saying(b"\xff\xfe"), 1, "which is no JSON", id="bytes"),
        pytest.param(saying("[" * 9000), 1, "which is no JSON", id="deep JSON"),
        pytest.param(saying('{"score": NaN}'), 1, 'write {"score": <number or null>}', id="NaN"),
        pytest.param(saying('{"score": 1e999}'), 1, 'write {"score": <number or null>}', id="infinite"),
        pytest.param(saying('{"score": "1"}'), 1, 'write {"score": <number or null>}', id="text"),
        pytest.param(saying('{"score": true}'), 1, 'write {"score": <number or null>}', id="a truth value"),
        pytest.param(saying("[1]"), 1, 'write {"score": <number or null>}', id="a list"),
        pytest.param(saying("{}"), 1, 'write {"score": <number or null>}', id="no score"),
        pytest.param(saying(b" " * (1 << 20)), 1, "answered with more than 64 KiB", id="huge"),
        pytest.param(hanging, 2, "did not answer within timeoutSeconds", id="never"),
        pytest.param(dripping, 1, "did not end its answer within 1 s", id="slowly without end"),
        pytest.param(closing, 2, "broke off", id="breaking off"),
    ],
)
def test_a_judge_of_no_use_is_a_failure_that_says_why(
    served: Callable[..., Server], answer: Answer, requests: int, problem: str
) -> None:
    server = served(answer)
    [found] = judging(server.url, SECRET, timeout_seconds=1, retries=1).scores([(prompt(), "1")])
    assert isinstance(found, RewardFailed)
    assert str(found).startswith(f"http://127.0.0.1:{server.server_port}/score ")
    assert problem in str(found)
    assert "of-the-url" not in str(found)
    assert SECRET not in str(found)
    assert len(server.seen) == requests


def test_nobody_there_is_a_failure_too() -> None:
    [found] = judging("http://127.0.0.1:9/score", retries=0).scores([(prompt(), "1")])
    assert str(found) == "http://127.0.0.1:9/score could not be reached"


def test_a_token_follows_no_redirect(served: Callable[..., Server]) -> None:
    other = served(FINE)
    server = served(saying("", 307, Location=other.url))
    [found] = judging(server.url, SECRET).scores([(prompt(), "1")])
    assert "redirects are not followed" in str(found)
    assert other.seen == []


def test_one_failure_does_not_cost_the_others(served: Callable[..., Server]) -> None:
    server = served(FINE, saying("", 400), FINE)
    found = judging(server.url, concurrency=1).scores([(prompt(n), "1") for n in range(3)])
    assert [type(score) for score in found] == [float, RewardFailed, float]


def test_equal_requests_are_asked_once(served: Callable[..., Server]) -> None:
    server = served(FINE)
    asked = judging(server.url)
    assert asked.scores([(prompt(), "1"), (prompt(), "2"), (prompt(), "1")]) == [0.5, 0.5, 0.5]
    assert asked.scores([(prompt(), "2")]) == [0.5]
    assert len(server.seen) == 2
    asked.forget()
    asked.scores([(prompt(), "2")])
    assert len(server.seen) == 3


def test_as_many_requests_are_under_way_as_may_be(served: Callable[..., Server]) -> None:
    together, active, most = threading.Barrier(3), [], []

    def counted(handler: Handler) -> None:
        active.append(None)
        most.append(len(active))
        together.wait(30)
        active.pop()
        handler.says(b'{"score": 1}')

    server = served(counted)
    assert judging(server.url, concurrency=3).scores([(prompt(n), "1") for n in range(6)]) == [1.0] * 6
    assert max(most) == 3


def test_a_token_is_in_no_log(served: Callable[..., Server], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    judging(served(saying("", 500), FINE).url, SECRET).scores([(prompt(), "1")])
    assert caplog.text
    assert SECRET not in caplog.text


WITH_TOKEN = Reward.model_validate({"http": {"url": "http://judge/score", "token": {"name": "judge", "key": "token"}}})


def test_a_token_is_read_where_it_is_mounted(tmp_path: Path) -> None:
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "token").write_text(f"{SECRET}\n")
    assert judge.token(WITH_TOKEN, 2, tmp_path) == SECRET
    assert judge.token(Reward.model_validate({"http": {"url": "http://judge/score"}}), 2, tmp_path) is None


@pytest.mark.parametrize("content", [None, b"", b"two\nlines", b"a b", "tökén".encode(), b"\xff"])
def test_what_is_no_token_is_refused_and_not_shown(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "0").mkdir()
        (tmp_path / "0" / "token").write_bytes(content)
    with pytest.raises(Refused, match=r"^environment.rewards.0.http.token: ") as refused:
        judge.token(WITH_TOKEN, 0, tmp_path)
    assert refused.value.reason == Reason.REWARD_INVALID
    assert "lines" not in str(refused.value)
    assert refused.value.__context__ is None or "lines" not in str(refused.value.__context__)
