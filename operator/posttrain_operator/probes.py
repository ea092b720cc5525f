"""The endpoints of the kubelet's probes: alive while the event loop turns, ready once the watches have listed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web


@asynccontextmanager
async def served(port: int, *, ready: asyncio.Event) -> AsyncIterator[None]:
    """Serve /healthz and /readyz on all addresses."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok") if ready.is_set() else web.Response(text="listing", status=503)

    app = web.Application()
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz)])
    # A connection that is kept would be a task of this loop, and hold up the end of kopf by five seconds.
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    try:
        yield
    finally:
        await runner.cleanup()
