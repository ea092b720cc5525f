"""The agent's HTTP: the operator's list in, the report, readiness and metrics out."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from posttrain_server import key
from posttrain_server.agent import desired
from posttrain_server.agent.engine_client import EngineClient, EngineRefused, EngineUnreachable
from posttrain_server.agent.metrics import AgentMetrics
from posttrain_server.agent.reconcile import Agent

_MAX_LIST_BYTES = 1024 * 1024
"""256 adapters need a tenth of it."""


def application(agent: Agent, *, engine: EngineClient, metrics: AgentMetrics, token_file: Path) -> Starlette:
    """The agent's ASGI application. Reading needs no token: there is no secret in it."""

    async def adapters(_: Request) -> Response:
        return JSONResponse(agent.report().to_json())

    async def post_adapters(request: Request) -> Response:
        if not _is_operator(request, token_file):
            return JSONResponse({"error": "the bearer token is missing or wrong"}, status_code=401)
        body = await _body(request)
        if body is None:
            return JSONResponse({"error": f"the list is larger than {_MAX_LIST_BYTES} bytes"}, status_code=413)
        try:
            given = desired.parse(body)
        except ValueError as error:
            return JSONResponse({"error": str(error)}, status_code=400)
        return JSONResponse(agent.post(given).to_json())

    async def ready(_: Request) -> Response:
        if agent.is_ready():
            return Response("ready\n", media_type="text/plain")
        return Response("not ready\n", status_code=503, media_type="text/plain")

    async def alive(_: Request) -> Response:
        return Response("ok\n", media_type="text/plain")

    async def show_metrics(_: Request) -> Response:
        return Response(metrics.text(await _engine_metrics(engine)), media_type="text/plain; version=0.0.4")

    return Starlette(
        routes=[
            Route("/adapters", adapters, methods=["GET"]),
            Route("/adapters", post_adapters, methods=["POST"]),
            Route("/readyz", ready, methods=["GET"]),
            Route("/healthz", alive, methods=["GET"]),
            Route("/metrics", show_metrics, methods=["GET"]),
        ]
    )


def _is_operator(request: Request, token_file: Path) -> bool:
    """Whether the request holds the token. The file is read each time: a Secret may be renewed."""
    kind, _, given = request.headers.get("authorization", "").partition(" ")
    token = token_file.read_text().strip()
    return kind.lower() == "bearer" and bool(token) and key.matches(given.strip(), token)


async def _body(request: Request) -> bytes | None:
    """The request's body, None where it is too large."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MAX_LIST_BYTES:
            return None
    return body


async def _engine_metrics(engine: EngineClient) -> list[bytes]:
    try:
        return [await engine.metrics()]
    except (EngineUnreachable, EngineRefused):
        return []
