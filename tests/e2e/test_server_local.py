"""A real vLLM with its agent as two processes of this machine, under load: nobody gets another one's weights."""

import asyncio
import os
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import openai
import pytest
from tests.e2e import random_model

from posttrain_api.server_contract import DesiredAdapter, DesiredAdapters

pytestmark = pytest.mark.e2e
_COLD_START_SECONDS = 240
"""33 s on two idle cores; as long as it takes where something else compiles."""
QUESTION = "What is 1+1?"
ROOT = Path(__file__).parents[2]
SOURCES = (ROOT / "operator", ROOT / "images" / "server")


@dataclass
class Agent:
    """The agent's log, line by line, to wait for what it says."""

    lines: list[str] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def listen(self, stream: asyncio.StreamReader) -> None:
        """Take in the log until it ends."""
        async for line in stream:
            async with self.news:
                self.lines.append(line.decode())
                self.news.notify_all()

    async def says(self, text: str, *, within: float) -> None:
        """Wait for a line with this text that came after the last call."""
        async with asyncio.timeout(within), self.news:
            await self.news.wait_for(lambda: any(text in line for line in self.lines))
            self.lines.clear()


@dataclass
class Server:
    """A server pod without a cluster."""

    agent: Agent
    agent_url: str
    client: openai.AsyncOpenAI

    async def serve(self, *adapters: DesiredAdapter, within: float = 20) -> None:
        """Post a list and wait until exactly these adapters may be called."""
        body = DesiredAdapters(adapters=list(adapters)).to_json()
        async with httpx.AsyncClient() as http:
            answer = await http.post(f"{self.agent_url}/adapters", json=body, headers={"authorization": "Bearer t"})
        assert answer.status_code == 200, answer.text
        table = {adapter.name: adapter.digest[:19] for adapter in adapters}
        await self.agent.says(f"clients may call {table}; waiting: []", within=within)

    async def complete(self, model: str) -> str:
        """A greedy answer of 30 tokens."""
        made = await self.client.completions.create(
            model=model, prompt=QUESTION, max_tokens=30, temperature=0, extra_body={"ignore_eos": True}
        )
        assert made.model == model
        return made.choices[0].text

    async def stream_chat(self, model: str) -> str:
        """A greedy answer of 30 tokens as a stream, in the adapter's own template."""
        stream = await self.client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": QUESTION}],
            max_tokens=30,
            temperature=0,
            stream=True,
        )
        chunks = [chunk async for chunk in stream]
        assert {chunk.model for chunk in chunks} == {model}
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _python() -> str:
    """The server image's environment."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "posttrain"
    return str(Path(os.environ.get("POSTTRAIN_CACHE", default)) / "env/server/bin/python")


@asynccontextmanager
async def _process(*arguments: str, log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """One command of the server's image, until the end of the block; its standard output goes to a file."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(folder) for folder in SOURCES)}
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *(_python(), "-m", "posttrain_server", *arguments),
            stdout=output,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 30)


@asynccontextmanager
async def running_server(root: Path, *options: str) -> AsyncIterator[Server]:
    """Engine, with more options, and agent, up and healthy."""
    engine_port, agent_port = _free_port(), _free_port()
    (root / "token").write_text("t")
    shared = ["--base=pvc://models/random", f"--claims-root={root}/claims", f"--key-file={root}/key"]
    shared += ["--max-rank=8", "--max-cached-adapters=2", "--host=127.0.0.1"]
    async with _process("key", f"--file={root}/key", log=root / "key.log") as process:
        assert await process.wait() == 0
    engine = ["engine", *shared, f"--port={engine_port}", "--max-loaded-adapters=2", *options]
    agent = ["agent", *shared, f"--port={agent_port}", f"--engine=http://127.0.0.1:{engine_port}"]
    agent += [f"--token-file={root}/token", f"--desired-file={root}/none", f"--state-folder={root}/state"]
    url = f"http://127.0.0.1:{engine_port}/v1"
    async with (
        _process(*engine, log=root / "engine.log") as engine_process,
        _process(*agent, log=root / "agent.log") as agent_process,
        openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, timeout=60) as client,
        asyncio.TaskGroup() as tasks,
    ):
        heard = Agent()
        readers = [
            tasks.create_task(heard.listen(agent_process.stderr)),
            tasks.create_task(Agent().listen(engine_process.stderr)),
        ]
        await heard.says("the engine is healthy", within=_COLD_START_SECONDS)
        yield Server(heard, f"http://127.0.0.1:{agent_port}", client)
        for reader in readers:
            reader.cancel()


async def test_under_load_base_and_adapters_keep_their_own_weights_and_a_swap_is_clean(tmp_path: Path):
    claims = tmp_path / "claims"
    random_model.save_base(claims / "models/random")
    first, second = (random_model.publish(claims, "support", seed=seed) for seed in (1, 2))
    other = random_model.publish(claims, "billing", seed=3)
    async with running_server(tmp_path) as server:
        base_alone = await server.complete("base")
        await server.serve(second, other)
        second_alone = await server.stream_chat("support")
        await server.serve(first, other)
        first_alone = await server.stream_chat("support")
        other_alone = await server.complete("billing")
        assert len({base_alone, first_alone, second_alone, other_alone}) == 4

        seen: dict[str, Counter[str]] = {"base": Counter(), "billing": Counter(), "support": Counter()}
        over = asyncio.Event()

        async def ask(model: str) -> None:
            while not over.is_set():
                seen[model][await (server.stream_chat(model) if model == "support" else server.complete(model))] += 1

        async with asyncio.TaskGroup() as clients:
            for model in ("base", "billing", "support", "support"):
                clients.create_task(ask(model))
            for version, answer in [(second, second_alone), (first, first_alone)] * 3:
                await server.serve(version, other)
                assert await server.stream_chat("support") == answer, "after the swap only the new version answers"
            over.set()

    assert set(seen["base"]) == {base_alone}
    assert set(seen["billing"]) == {other_alone}
    assert set(seen["support"]) <= {first_alone, second_alone}
