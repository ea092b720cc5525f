"""What to do next, from what is: a pure function without a clock, files or HTTP."""

from dataclasses import dataclass

from posttrain_api.conditions import Reason
from posttrain_api.server_contract import DesiredAdapter
from posttrain_server.agent.failure import Failure
from posttrain_server.agent.world import EngineView, World, version
from posttrain_server.exchange import Route, RouteTable, engine_name


@dataclass(frozen=True)
class Decision:
    """One step of the reconciliation, carried out in the order of the fields."""

    refuse: tuple[tuple[str, Failure], ...] = ()
    """Versions that fail before anything is tried."""
    forget: tuple[str, ...] = ()
    """Digests whose copies nobody needs."""
    fetch: DesiredAdapter | None = None
    """Copy and check its artifact, beside everything else."""
    routes: RouteTable | None = None
    """What clients may call from now on."""
    unload: tuple[str, ...] = ()
    """Versions that are no longer called and answer nobody any more."""
    prove: DesiredAdapter | None = None
    """Compare its answers with its manifest."""
    load: DesiredAdapter | None = None
    """Give it to the engine."""


def decide(world: World) -> Decision:
    """The next step: nothing in it depends on how the world came to be as it is."""
    served = within_capacity(world)
    unproven = [adapter for adapter in served if not world.is_failed(adapter) and world.proven_at(adapter) is None]
    forget = _unneeded_copies(world)
    if world.engine is None:
        return Decision(refuse=_refused(world), forget=forget, fetch=_next_fetch(world))
    routes = route_table(world)
    prove = next((a for a in unproven if world.is_registered(a) and a.digest in world.local), None)
    return Decision(
        refuse=_refused(world),
        forget=forget,
        fetch=_next_fetch(world),
        routes=routes if routes != world.engine.state.table else None,
        unload=_unneeded_versions(world, world.engine, routes),
        prove=prove,
        load=None if prove else _next_load(world, world.engine, unproven),
    )


def within_capacity(world: World) -> tuple[DesiredAdapter, ...]:
    """The wanted adapters that the engine has room for."""
    return world.wanted[: world.capacity]


def _refused(world: World) -> tuple[tuple[str, Failure], ...]:
    if world.runner == "generate":
        return _over_capacity(world)
    message = "the base is a reward model, which is served alone: take the adapter out of this deployment"
    failure = Failure(Reason.UNSUPPORTED_ADAPTER, message)
    return tuple((version(adapter), failure) for adapter in world.wanted if not world.is_failed(adapter))


def _over_capacity(world: World) -> tuple[tuple[str, Failure], ...]:
    message = f"the engine keeps {world.capacity} adapters: raise engine.maxCachedAdapters"
    failure = Failure(Reason.OVER_CAPACITY, message)
    beyond = world.wanted[world.capacity :]
    return tuple((version(adapter), failure) for adapter in beyond if not world.is_failed(adapter))


def route_table(world: World) -> RouteTable:
    """The wanted version of each name where it is proven, else the one that answers now, else `waiting`."""
    adapters: dict[str, Route] = {}
    for adapter in world.wanted:
        route = _proven_route(world, adapter) or world.serving(adapter.name)
        if route is not None:
            adapters[adapter.name] = route
    return RouteTable(adapters=adapters, waiting=sorted({a.name for a in world.wanted} - adapters.keys()))


def _proven_route(world: World, adapter: DesiredAdapter) -> Route | None:
    proven_at, local = world.proven_at(adapter), world.local.get(adapter.digest)
    if proven_at is None or local is None:
        return None
    return Route(
        digest=adapter.digest,
        proven_at=proven_at,
        chat_template=local.chat_template,
        stop_token_ids=local.manifest.end_of_turn_token_ids,
    )


def _next_fetch(world: World) -> DesiredAdapter | None:
    if world.fetching is not None or world.base_digest is None or world.runner == "pooling":
        return None
    candidates = within_capacity(world)
    return next((a for a in candidates if a.digest not in world.local and not world.is_failed(a)), None)


def _next_load(world: World, engine: EngineView, unproven: list[DesiredAdapter]) -> DesiredAdapter | None:
    """One at a time: a load stalls the engine's loop. One place more than the capacity is there for a swap."""
    if len(engine.registered) > world.capacity:
        return None
    ready = (adapter for adapter in unproven if adapter.digest in world.local)
    return next((adapter for adapter in ready if version(adapter) not in engine.registered), None)


def _unneeded_versions(world: World, engine: EngineView, routes: RouteTable) -> tuple[str, ...]:
    """What nobody is routed to, by the old table or the new, and nobody waits for."""
    keep = {engine_name(name, route.digest) for name, route in routes.adapters.items()}
    keep |= {engine_name(name, route.digest) for name, route in engine.table.adapters.items()}
    keep |= {version(a) for a in within_capacity(world) if world.is_registered(a) and not world.is_failed(a)}
    return tuple(sorted(n for n in engine.registered if n not in keep and not engine.state.in_flight.get(n)))


def _unneeded_copies(world: World) -> tuple[str, ...]:
    """Copies of no wanted version, once the engine has none of their versions either; known only while it is up."""
    if world.engine is None:
        return ()
    wanted = {adapter.digest for adapter in world.wanted}
    in_use = set(world.engine.registered.values())
    idle = [digest for digest, local in world.local.items() if str(local.folder) not in in_use]
    return tuple(sorted({*idle, *world.stray} - wanted)) if world.fetching is None else ()
