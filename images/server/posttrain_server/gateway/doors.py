"""The allowlist of (method, exact path). vLLM has many more doors; what is not named here does not exist."""

from typing import Literal

from posttrain_server.exchange import METRICS_PATH, ROUTES_PATH, STATE_PATH

Who = Literal["client", "agent"]
Door = Literal["health", "models", "chat", "completions", "engine", "routes", "state", "metrics"]
"""engine: vLLM itself, unchanged."""

CHAT_PATH = "/v1/chat/completions"
COMPLETIONS_PATH = "/v1/completions"
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


def door(who: Who, method: str, path: str) -> Door | None:
    """The door that this request may pass, None where there is none."""
    return (_AGENT if who == "agent" else _CLIENT).get((method, path))
