"""Starts the agent: its parts, its loop and its HTTP server in one process."""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from posttrain_server import key
from posttrain_server.agent import web
from posttrain_server.agent.base import BASE_FILE, Base
from posttrain_server.agent.engine_client import EngineClient
from posttrain_server.agent.metrics import AgentMetrics
from posttrain_server.agent.reconcile import Agent, AgentSettings
from posttrain_server.agent.store import Store


@dataclass(frozen=True)
class ServiceSettings:
    """Where the agent finds its engine, its secrets and its disk."""

    agent: AgentSettings
    base: Path
    engine_url: str
    key_file: Path
    token_file: Path
    state_folder: Path
    claims_root: Path
    host: str = "0.0.0.0"
    port: int = 8001


def run(settings: ServiceSettings) -> None:
    """Run the agent until SIGTERM; anything unexpected ends the process, so that it is started again."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(_serve(settings))


async def _serve(settings: ServiceSettings) -> None:
    settings.state_folder.mkdir(parents=True, exist_ok=True)
    engine = EngineClient.connect(settings.engine_url, key=key.read(settings.key_file))
    metrics = AgentMetrics()
    store = Store(settings.state_folder, settings.claims_root)
    base = Base(settings.base, memory=settings.state_folder / BASE_FILE)
    agent = Agent(settings.agent, engine=engine, store=store, base=base, metrics=metrics)
    app = web.application(agent, engine=engine, metrics=metrics, token_file=settings.token_file)
    config = uvicorn.Config(app, host=settings.host, port=settings.port, log_level="warning", access_log=False)
    async with asyncio.TaskGroup() as tasks:
        loop = tasks.create_task(agent.run())
        await uvicorn.Server(config).serve()
        loop.cancel()
    await engine.close()
