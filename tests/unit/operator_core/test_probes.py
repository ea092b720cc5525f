"""The kubelet's probes: alive at once, ready when everything was listed."""

import asyncio

import aiohttp
from aiohttp.test_utils import unused_port

from posttrain_operator import probes


async def test_the_operator_is_ready_when_it_knows_the_cluster() -> None:
    ready, port = asyncio.Event(), unused_port()
    async with probes.served(port, ready=ready), aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:

        async def status(path: str) -> int:
            async with session.get(path) as response:
                return response.status

        assert await status("/healthz") == 200
        assert await status("/readyz") == 503

        ready.set()

        assert await status("/readyz") == 200


async def test_a_probe_leaves_no_connection_that_would_hold_up_the_end() -> None:
    port = unused_port()
    async with probes.served(port, ready=asyncio.Event()), aiohttp.ClientSession() as session:
        before = asyncio.all_tasks()

        async with session.get(f"http://127.0.0.1:{port}/healthz") as response:
            await response.read()

        async with asyncio.timeout(1):
            while asyncio.all_tasks() - before:
                await asyncio.to_thread(lambda: None)
