"""What agent and gateway say to each other inside one pod, and how a version of an adapter is called in the engine."""

from datetime import datetime

from posttrain_api.artifact import Digest, Dtype
from posttrain_api.model import Model
from posttrain_api.v1alpha1.adapter_deployment import BASE_NAME

KEY_HEADER = "x-posttrain-key"
"""Carries the shared key in hexadecimal; it opens the engine's admin doors for the agent alone."""
ROUTES_PATH = "/posttrain/routes"
STATE_PATH = "/posttrain/state"
METRICS_PATH = "/posttrain/metrics"

_DIGEST_CHARACTERS = 12


class Route(Model):
    """The version of an adapter that answers under its name, and what its requests get."""

    digest: Digest
    """The artifact that was proven."""
    proven_at: datetime
    """When."""
    chat_template: str | None = None
    """The template that it was trained with; None leaves the engine's."""
    stop_token_ids: list[int] = []
    """Tokens that end its answers."""


class RouteTable(Model):
    """Everything that clients may call. It lives as long as the engine, and so do the proofs behind it."""

    adapters: dict[str, Route] = {}
    """By the clients' name: the adapters that are proven on this engine."""
    waiting: list[str] = []
    """Names that are wanted and not proven here, sorted."""


class GatewayState(Model):
    """What the gateway knows, for the agent."""

    instance: str
    """Differs after every start of the engine."""
    dtype: Dtype
    """The precision in which the engine computes."""
    table: RouteTable | None = None
    """The last table; None since the engine started."""
    in_flight: dict[str, int] = {}
    """Requests that the engine is answering, by the engine's name for the version."""


def engine_name(name: str, digest: str) -> str:
    """The name by which the engine knows one version of an adapter: it keys its prefix cache by that name."""
    return f"{name}@{digest.removeprefix('sha256:')[:_DIGEST_CHARACTERS]}"


__all__ = [
    "BASE_NAME",
    "KEY_HEADER",
    "METRICS_PATH",
    "ROUTES_PATH",
    "STATE_PATH",
    "GatewayState",
    "Route",
    "RouteTable",
    "engine_name",
]
