"""vLLM's LoRA doors in small: a real ASGI application that registers adapters and answers from their manifests."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from posttrain_api.artifact import Manifest


@dataclass
class Vllm:
    """An engine whose weights are the manifests in the folders that it loads."""

    registered: dict[str, str] = field(default_factory=dict)
    """Name -> folder."""
    asked: list[str] = field(default_factory=list)
    """Loads, unloads and probed models, in order."""
    is_healthy: bool = True
    load_error: str | None = None
    answers_like_base: bool = False
    """As if no module of an adapter matched."""

    def app(self) -> Starlette:
        """The application."""
        return Starlette(
            routes=[
                Route("/health", self._health),
                Route("/metrics", self._metrics),
                Route("/v1/models", self._models),
                Route("/v1/load_lora_adapter", self._load, methods=["POST"]),
                Route("/v1/unload_lora_adapter", self._unload, methods=["POST"]),
                Route("/v1/completions", self._complete, methods=["POST"]),
            ]
        )

    async def _health(self, _: Request) -> Response:
        return Response(status_code=200 if self.is_healthy else 503)

    async def _metrics(self, _: Request) -> Response:
        return PlainTextResponse("vllm:num_requests_running 0\n")

    async def _models(self, _: Request) -> Response:
        cards: list[dict[str, Any]] = [{"id": "base", "root": "/models/tiny", "parent": None, "max_model_len": 512}]
        cards += [{"id": name, "root": root, "parent": "base"} for name, root in self.registered.items()]
        return JSONResponse({"data": cards})

    async def _load(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(f"load {body['lora_name']}")
        if self.load_error is not None:
            return JSONResponse({"error": {"message": self.load_error, "code": 500}}, status_code=500)
        self.registered[body["lora_name"]] = body["lora_path"]
        return PlainTextResponse("Success")

    async def _unload(self, request: Request) -> Response:
        name = (await request.json())["lora_name"]
        self.asked.append(f"unload {name}")
        del self.registered[name]
        return PlainTextResponse("Success")

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        if "prompt_logprobs" not in body:
            return JSONResponse({"model": body["model"], "choices": [{"text": self._folder(body["model"])}]})
        self.asked.append(f"probe {body['model']}")
        choices = [self._choice(index, body["model"], prompt) for index, prompt in enumerate(body["prompt"])]
        return JSONResponse({"model": body["model"], "choices": choices})

    def _folder(self, model: str) -> str:
        return Path(self.registered[model]).name if model != "base" else "base"

    def _choice(self, index: int, model: str, prompt: list[int]) -> dict[str, Any]:
        values = self._log_probabilities(model, index)
        rows = [{str(token): {"logprob": value}} for token, value in zip(prompt[1:], values, strict=True)]
        return {"index": index, "prompt_logprobs": [None, *rows]}

    def _log_probabilities(self, model: str, index: int) -> list[float]:
        folder = self.registered.get(model) or next(iter(self.registered.values()))
        probe = Manifest.model_validate(json.loads((Path(folder) / "manifest.json").read_text())).probes[index]
        return probe.base if model == "base" or self.answers_like_base else probe.result
