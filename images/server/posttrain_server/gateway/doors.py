"""The allowlist of (method, exact path). vLLM has many more doors; what is not named here does not exist."""

from typing import Literal

from posttrain_api.server_contract import Runner
from posttrain_server.exchange import METRICS_PATH, ROUTES_PATH, STATE_PATH

Who = Literal["client", "agent"]
Door = Literal["health", "models", "chat", "completions", "classify", "engine", "routes", "state", "metrics"]
"""engine: vLLM itself, unchanged."""

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"
CLASSIFY_PATH = "/classify"
"""Answers with one score for each input: data[i].probs[0], which is no probability."""
MODELS_PATH = "/v1/models"

_CLIENT: dict[tuple[str, str], Door] = {
    ("GET", "/health"): "health",
    ("GET", MODELS_PATH): "models",
    ("POST", CHAT_PATH): "chat",
    ("POST", COMPLETIONS_PATH): "completions",
}
_AGENT: dict[tuple[str, str], Door] = {
    ("GET", "/health"): "engine",
    ("GET", MODELS_PATH): "engine",
    ("GET", "/metrics"): "engine",
    ("POST", COMPLETIONS_PATH): "engine",
    ("POST", "/v1/load_lora_adapter"): "engine",
    ("POST", "/v1/unload_lora_adapter"): "engine",
    ("PUT", ROUTES_PATH): "routes",
    ("GET", STATE_PATH): "state",
    ("GET", METRICS_PATH): "metrics",
}
_SCORING_CLIENT: dict[tuple[str, str], Door] = {
    ("GET", "/health"): "health",
    ("GET", MODELS_PATH): "models",
    ("POST", CLASSIFY_PATH): "classify",
}
_DOORS: dict[tuple[Runner, Who], dict[tuple[str, str], Door]] = {
    ("generate", "client"): _CLIENT,
    ("generate", "agent"): _AGENT,
    ("pooling", "client"): _SCORING_CLIENT,
    ("pooling", "agent"): _AGENT,
}


def door(who: Who, method: str, path: str, *, runner: Runner = "generate") -> Door | None:
    """The door that this request may pass, None where there is none."""
    return _DOORS[runner, who].get((method, path))
