"""What the agent sees at one moment: the input of decide() and report(), as a value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import PurePosixPath

from posttrain_api.artifact import folder_name
from posttrain_api.server_contract import DesiredAdapter, Runner
from posttrain_server.agent.failure import Failure
from posttrain_server.agent.store import LocalArtifact
from posttrain_server.exchange import GatewayState, Route, RouteTable, engine_name


@dataclass(frozen=True)
class EngineView:
    """A healthy engine."""

    state: GatewayState
    registered: Mapping[str, str]
    """The engine's names -> folders."""
    max_model_length: int

    @property
    def table(self) -> RouteTable:
        """What clients may call now."""
        return self.state.table or RouteTable()

    def has(self, name: str, digest: str) -> bool:
        """Whether this version is registered, from a folder named by its digest: paths are content-addressed."""
        folder = self.registered.get(engine_name(name, digest))
        return folder is not None and PurePosixPath(folder).name == folder_name(digest)


@dataclass(frozen=True)
class Proof:
    """A version that answered as its manifest says, on the engine that runs now."""

    proven_at: datetime
    distance: float


@dataclass(frozen=True)
class World:
    """Everything that counts for the next decision."""

    now: float
    """The agent's monotonic clock, in seconds."""
    wanted: tuple[DesiredAdapter, ...]
    capacity: int
    """Adapters that the engine keeps in memory."""
    base_digest: str | None = None
    """None until it is computed, and found to be what its folder promises."""
    base_failure: Failure | None = None
    """Why the base is not to be served."""
    is_base_awaited: bool = False
    """The base's folder promises its content, and that was not found true yet."""
    runner: Runner = "generate"
    """pooling: the base is a reward model, which takes no adapters."""
    local: Mapping[str, LocalArtifact] = field(default_factory=dict)
    """Checked copies, by digest."""
    stray: frozenset[str] = frozenset()
    """Digests of copies on the disk that are not checked."""
    fetching: str | None = None
    """The engine's name of the version that is being copied and checked."""
    failures: Mapping[str, Failure] = field(default_factory=dict)
    """By the engine's name for the version."""
    proofs: Mapping[str, Proof] = field(default_factory=dict)
    """By the engine's name for the version."""
    engine: EngineView | None = None

    def is_failed(self, adapter: DesiredAdapter) -> bool:
        """Whether a version failed and is not to be tried again yet."""
        failure = self.failures.get(version(adapter))
        return failure is not None and (failure.retry_at is None or self.now < failure.retry_at)

    def is_registered(self, adapter: DesiredAdapter) -> bool:
        """Whether the engine has a version, from the folder of that digest."""
        return self.engine is not None and self.engine.has(adapter.name, adapter.digest)

    def serving(self, name: str) -> Route | None:
        """The version that answers under a name now."""
        route = self.engine.table.adapters.get(name) if self.engine else None
        return route if route and self.engine and self.engine.has(name, route.digest) else None

    def proven_at(self, adapter: DesiredAdapter) -> datetime | None:
        """When a version was proven on this engine, while the engine still has it; None where it is not.

        The gateway's table lives as long as the engine: what an agent before this one proved is still proven.
        """
        if self.engine is None or not self.is_registered(adapter):
            return None
        proof = self.proofs.get(version(adapter))
        if proof is not None:
            return proof.proven_at
        route = self.serving(adapter.name)
        return route.proven_at if route and route.digest == adapter.digest else None


def version(adapter: DesiredAdapter) -> str:
    """The engine's name for a wanted version."""
    return engine_name(adapter.name, adapter.digest)
