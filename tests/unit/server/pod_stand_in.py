"""A server pod on this machine: the real agent and gateway, and a stand-in for vLLM that can be killed and started."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tests.unit.server.builders import KEY, published, write_model
from tests.unit.server.vllm_stand_in import Vllm

from posttrain_api import artifact
from posttrain_api.artifact import Probe
from posttrain_api.server_contract import AdapterReport, DesiredAdapter, DesiredAdapters
from posttrain_server.agent import web
from posttrain_server.agent.base import Base
from posttrain_server.agent.engine_client import EngineClient
from posttrain_server.agent.metrics import AgentMetrics
from posttrain_server.agent.reconcile import Agent, AgentSettings
from posttrain_server.agent.store import Store
from posttrain_server.exchange import KEY_HEADER
from posttrain_server.gateway.app import Gateway, GatewaySettings


class Engines(httpx.AsyncBaseTransport):
    """The address of the engine: whatever engine runs there now, or none."""

    def __init__(self) -> None:
        self.vllm = Vllm()
        self.start(self.vllm)

    def start(self, vllm: Vllm) -> None:
        """Start an engine: new process, new gateway, nothing loaded."""
        self.vllm = vllm
        gateway = Gateway(vllm.app(), settings=GatewaySettings(KEY, "float32"))
        self._app: httpx.ASGITransport | None = httpx.ASGITransport(app=gateway)

    def kill(self) -> None:
        """Nobody listens any more."""
        self._app = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer as the engine that runs now."""
        if self._app is None:
            raise httpx.ConnectError("connection refused", request=request)
        return await self._app.handle_async_request(request)


@dataclass
class Pod:
    """A server pod on this machine."""

    root: Path
    base: Path = Path("models/tiny")
    """Of the claims: what the engine loads."""
    engines: Engines = field(default_factory=Engines)

    def __post_init__(self) -> None:
        (self.root / "state").mkdir(exist_ok=True)
        (self.root / "token").write_text("secret\n")
        if not self.folder.exists():
            write_model(self.folder)

    @property
    def folder(self) -> Path:
        """Where the base lies on this machine."""
        return self.root / "claims" / self.base

    @asynccontextmanager
    async def agent(self) -> AsyncIterator["Running"]:
        """The agent's container, from start to end."""
        http = httpx.AsyncClient(transport=self.engines, base_url="http://engine", headers={KEY_HEADER: KEY})
        metrics, engine = AgentMetrics(), EngineClient(http)
        settings = AgentSettings(self.root / "adapters.json", 16, 2)
        store = Store(self.root / "state", self.root / "claims", retry_seconds=0.01)
        base = Base(self.folder, memory=self.root / "state/base.json", retry_seconds=0.01)
        agent = Agent(settings, engine=engine, store=store, base=base, metrics=metrics, tick_seconds=0.005)
        app = web.application(agent, engine=engine, metrics=metrics, token_file=self.root / "token")
        loop = asyncio.create_task(agent.run())
        async with http, httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://agent") as client:
            yield Running(self, agent, metrics, client)
            loop.cancel()
            await asyncio.wait([loop])

    def publish(self, name: str, *, result: float = -1.0, **config: Any) -> DesiredAdapter:
        """An artifact on the claim, and the entry of a list that wants it."""
        base = artifact.base_digest(self.folder)
        probe = Probe(token_ids=[1, 2, 3], base=[-2.0, -3.0], result=[result, result])
        folder = f"{name}{result}"
        made = published(self.root / "claims/artifacts", folder=folder, base=base, probes=[probe], config=config)
        return DesiredAdapter(name=name, uri=f"pvc://artifacts/{folder}", digest=made.digest)


@dataclass
class Running:
    """A running agent and ways to look at it."""

    pod: Pod
    agent: Agent
    metrics: AgentMetrics
    http: httpx.AsyncClient

    async def post(self, *adapters: DesiredAdapter) -> httpx.Response:
        """The operator's list."""
        body = DesiredAdapters(adapters=list(adapters)).to_json()
        return await self.http.post("/adapters", json=body, headers={"Authorization": "Bearer secret"})

    async def until(self, holds: Callable[[], bool]) -> None:
        """Let the agent work until this holds."""
        async with asyncio.timeout(5):
            while not holds():
                await asyncio.to_thread(lambda: None)

    def state(self, adapter: DesiredAdapter) -> AdapterReport:
        """What the agent reports of this adapter."""
        return next(report for report in self.agent.report().adapters if report.name == adapter.name)

    async def settled(self, *adapters: DesiredAdapter, state: str = "Loaded") -> None:
        """Wait until these adapters are in this state."""
        await self.until(lambda: all(self.state(adapter).state == state for adapter in adapters))

    async def ask(self, name: str) -> Any:
        """A client's request."""
        async with httpx.AsyncClient(transport=self.pod.engines, base_url="http://engine") as client:
            response = await client.post("/v1/completions", json={"model": name})
        return response.json()["choices"][0]["text"] if response.status_code == 200 else response.status_code
