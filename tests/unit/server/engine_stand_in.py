"""A small real ASGI application in vLLM's place: the same doors and shapes of answers, a record of what it saw."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

VLLM_ROUTES = [
    ("POST", "/adapters"),
    ("DELETE", "/adapters"),
    ("DELETE", "/adapters/support"),
    ("POST", "/invocations"),
    ("POST", "/tokenize"),
    ("POST", "/detokenize"),
    ("POST", "/generative_scoring"),
    ("GET", "/load"),
    ("GET", "/metrics"),
    ("GET", "/ping"),
    ("POST", "/ping"),
    ("GET", "/version"),
    ("POST", "/scale_elastic_ep"),
    ("POST", "/is_scaling_elastic_ep"),
    ("GET", "/kv_event_sources"),
    ("POST", "/v1/chat/completions/batch"),
    ("POST", "/v1/messages"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/systemone"),
    ("POST", "/v1/load_lora_adapter"),
    ("POST", "/v1/unload_lora_adapter"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("POST", "/collective_rpc"),
    ("POST", "/sleep"),
    ("POST", "/reset_prefix_cache"),
    ("GET", "/server_info"),
    ("POST", "/classify"),
    ("POST", "/pooling"),
    ("POST", "/score"),
    ("POST", "/v1/score"),
    ("POST", "/rerank"),
]
"""Doors of vLLM 0.32 with runtime LoRA updating, of its pooling runner, and of its development mode."""
_OPEN = [("GET", "/health"), ("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("POST", "/v1/completions")]


@dataclass
class Engine:
    """What the stand-in answers and what reached it."""

    chunks: list[bytes] = field(default_factory=list)
    """The pieces of a streamed answer, as they are to be sent."""
    error: dict[str, Any] | None = None
    """An error to answer with."""
    seen: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)
    """Path, headers and decoded body of every request that came through."""

    def app(self) -> Starlette:
        """The application."""
        doors = dict.fromkeys([*_OPEN, *VLLM_ROUTES])
        return Starlette(routes=[Route(path, self._answer, methods=[method]) for method, path in doors])

    @property
    def asked(self) -> Any:
        """The last body."""
        return self.seen[-1][2]

    async def _answer(self, request: Request) -> Response:
        raw = await request.body()
        body = json.loads(raw) if raw else None
        self.seen.append((request.url.path, dict(request.headers), body))
        if self.error is not None:
            return JSONResponse({"error": self.error}, status_code=self.error["code"])
        if isinstance(body, dict) and body.get("stream"):
            return StreamingResponse(self._stream(), media_type="text/event-stream")
        model = body.get("model") if isinstance(body, dict) else None
        usage = {"prompt_tokens": 5, "completion_tokens": 2}
        return JSONResponse({"id": "1", "model": model, "choices": [{"text": "Grüße"}], "usage": usage})

    async def _stream(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk
