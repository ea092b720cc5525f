"""HTTP to the engine of this pod, through the doors that the shared key opens: the only place that speaks to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx

from posttrain_server.exchange import (
    BASE_NAME,
    KEY_HEADER,
    METRICS_PATH,
    ROUTES_PATH,
    STATE_PATH,
    GatewayState,
    RouteTable,
)

_ASK_SECONDS = 10.0
_LOAD_SECONDS = 600.0
"""A load waits for the engine's loop; the first one on a GPU also allocates."""


class EngineUnreachable(Exception):
    """The engine does not answer: it starts, is busy, or is gone."""


class EngineSlow(EngineUnreachable):
    """The engine is there and did not answer in time."""


class EngineRefused(Exception):
    """The engine answered with an error; the text is its own."""


@dataclass(frozen=True)
class Registered:
    """What the engine's list of models says."""

    adapters: dict[str, str]
    """Its own name for each version -> folder."""
    max_model_length: int


class EngineClient:
    """A connection to one engine."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    @classmethod
    def connect(cls, url: str, *, key: str) -> Self:
        """A client for the engine at this URL."""
        return cls(httpx.AsyncClient(base_url=url, headers={KEY_HEADER: key}, timeout=_ASK_SECONDS, trust_env=False))

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def check_health(self) -> None:
        """Return where the engine is healthy; EngineUnreachable or EngineRefused else."""
        await self._ask("GET", "/health")

    async def state(self) -> GatewayState:
        """What the gateway knows."""
        return GatewayState.model_validate_json((await self._ask("GET", STATE_PATH)).content)

    async def registered(self) -> Registered:
        """The versions that the engine has by name."""
        cards = (await self._ask("GET", "/v1/models")).json()["data"]
        lengths = [card["max_model_len"] for card in cards if card["id"] == BASE_NAME]
        return Registered({card["id"]: card["root"] for card in cards if card.get("parent")}, lengths[0])

    async def load(self, name: str, folder: str) -> None:
        """Load a version; returns when the engine has its weights."""
        body = {"lora_name": name, "lora_path": folder}
        await self._ask("POST", "/v1/load_lora_adapter", json=body, timeout=_LOAD_SECONDS)

    async def unload(self, name: str) -> None:
        """Make the engine forget a version."""
        await self._ask("POST", "/v1/unload_lora_adapter", json={"lora_name": name})

    async def put_routes(self, table: RouteTable) -> None:
        """Replace what clients may call."""
        await self._ask("PUT", ROUTES_PATH, content=table.model_dump_json(by_alias=True, exclude_none=True))

    async def log_probabilities(self, name: str, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """log p of each token but the first of each prompt, given those before it: shape [prompts][length - 1]."""
        body = {"model": name, "prompt": prompts, "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        answer = await self._ask("POST", "/v1/completions", json=body, timeout=_LOAD_SECONDS)
        choices = sorted(answer.json()["choices"], key=lambda choice: choice["index"])
        return [_of_prompt(choice, prompt) for choice, prompt in zip(choices, prompts, strict=True)]

    async def metrics(self) -> bytes:
        """The engine's and the gateway's metrics, as Prometheus reads them."""
        engine = await self._ask("GET", "/metrics")
        gateway = await self._ask("GET", METRICS_PATH)
        return engine.content + gateway.content

    async def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, path, **options)
        except httpx.TimeoutException as error:
            raise EngineSlow(f"the engine did not answer {path} in time") from error
        except httpx.TransportError as error:
            raise EngineUnreachable(f"the engine does not answer: {error or type(error).__name__}") from error
        if response.status_code >= 400:
            raise EngineRefused(_message(response))
        return response


def _of_prompt(choice: dict[str, Any], prompt: Sequence[int]) -> list[float]:
    found = choice["prompt_logprobs"][1:]
    return [entry[str(token)]["logprob"] for entry, token in zip(found, prompt[1:], strict=True)]


def _message(response: httpx.Response) -> str:
    """The engine's own words."""
    kind = response.headers.get("content-type", "")
    error = response.json().get("error", {}) if kind.startswith("application/json") else {}
    return str(error.get("message") or f"{response.status_code} {response.text[:500]}".strip())
