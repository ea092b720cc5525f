"""HTTP to our pods: bounded, without redirects, and no trouble of a pod is ours."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import ResolveResult
from aiohttp.test_utils import TestServer

from posttrain_api.server_contract import AGENT_PORT, AgentReport, DesiredAdapters, EngineReport
from posttrain_api.trainer_contract import STATUS_PORT, TrainerStatus
from posttrain_operator import pods
from posttrain_operator.actions import Tell
from posttrain_operator.pods import Pods

STATUS = TrainerStatus(stage="Training", step=1, total_steps=2, updated_at=datetime(2026, 11, 21, tzinfo=UTC))
REPORT = AgentReport(desired_digest="x", engine=EngineReport(state="Healthy"))

Answer = Callable[[web.Request], Awaitable[web.Response]]


@dataclass
class Pod:
    """A pod that answers in one way, and keeps what it was asked."""

    answer: Answer
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, str(request.url.path), await request.text()))
        return await self.answer(request)


class ToOneServer(aiohttp.TCPConnector):
    """Connects every address and port to one server."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._one_port = port

    async def _resolve_host(self, host: str, *_: object, **__: object) -> list[ResolveResult]:
        found: ResolveResult = {
            "hostname": host,
            "host": "127.0.0.1",
            "port": self._one_port,
            "family": 2,
            "proto": 0,
            "flags": 0,
        }
        return [found]


@asynccontextmanager
async def asking(pod: Pod, clock: Callable[[], float] = lambda: 0.0) -> AsyncIterator[Pods]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", pod.handle)
    async with TestServer(app) as server, aiohttp.ClientSession(connector=ToOneServer(server.port or 0)) as session:
        yield Pods(session, clock=clock)


def says(text: str, status: int = 200) -> Answer:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text, status=status, headers={"Location": "http://elsewhere/"})

    return answer


async def test_a_trainer_says_what_it_does() -> None:
    async with asking(Pod(says(STATUS.model_dump_json(by_alias=True)))) as found:
        assert await found.trainer_status("uid", "10.0.0.7") == STATUS


async def test_an_agent_says_what_it_knows() -> None:
    pod = Pod(says(REPORT.model_dump_json(by_alias=True)))
    async with asking(pod) as found:
        assert await found.agent_report("fd00::7") == REPORT
    assert pod.asked == [("GET", "/adapters", "")]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(says("{}"), id="another language"),
        pytest.param(says("<html>"), id="no JSON"),
        pytest.param(says(STATUS.model_dump_json(), 500), id="an error"),
        pytest.param(says(STATUS.model_dump_json(), 302), id="a redirect"),
        pytest.param(says(" " * (pods.MAX_ANSWER_BYTES + 1)), id="an answer without end"),
    ],
)
async def test_what_is_no_answer_is_none(answer: Answer) -> None:
    async with asking(Pod(answer)) as found:
        assert await found.trainer_status("uid", "10.0.0.7") is None


async def test_a_pod_that_is_not_there_is_none() -> None:
    async with aiohttp.ClientSession() as session:
        assert await Pods(session).trainer_status("uid", "127.0.0.1") is None


async def test_a_trainer_is_asked_every_two_seconds_at_most() -> None:
    now = [0.0]
    pod = Pod(says(STATUS.model_dump_json(by_alias=True)))
    async with asking(pod, clock=lambda: now[0]) as found:
        for moment, num_asked in [(0.0, 1), (1.9, 1), (2.0, 2), (2.1, 2)]:
            now[0] = moment
            assert await found.trainer_status("uid", "10.0.0.7") == STATUS
            assert len(pod.asked) == num_asked

        await found.trainer_status("another", "10.0.0.8")
        found.forget(["uid"])
        await found.trainer_status("uid", "10.0.0.7")
        assert len(pod.asked) == 4


async def test_a_trainer_that_falls_silent_keeps_its_last_words() -> None:
    now = [0.0]
    pod = Pod(says(STATUS.model_dump_json(by_alias=True)))
    async with asking(pod, clock=lambda: now[0]) as found:
        await found.trainer_status("uid", "10.0.0.7")
        pod.answer, now[0] = says("", 503), 5.0

        assert await found.trainer_status("uid", "10.0.0.7") == STATUS


async def test_agents_are_told_with_their_token() -> None:
    tokens: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        tokens.append(request.headers.get("Authorization"))
        return web.Response()

    pod = Pod(answer)
    async with asking(pod) as found:
        await found.tell([Tell("server-0", "10.0.0.9", DesiredAdapters(), "secret")])

    assert tokens == ["Bearer secret"]
    assert pod.asked == [("POST", "/adapters", json.dumps(DesiredAdapters().to_json()))]


async def test_an_agent_that_is_not_there_stops_nobody() -> None:
    async with aiohttp.ClientSession() as session:
        await Pods(session).tell([Tell("server-0", "127.0.0.1", DesiredAdapters(), "secret")])


def test_ports_are_those_of_the_contract() -> None:
    assert (STATUS_PORT, AGENT_PORT) == (9400, 8001)
