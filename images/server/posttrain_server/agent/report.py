"""What the agent tells the operator and the kubelet: a pure view of the world."""

from collections.abc import Iterable
from dataclasses import dataclass

from posttrain_api.conditions import Reason
from posttrain_api.server_contract import AdapterReport, AgentReport, DesiredAdapter, DesiredAdapters, EngineReport
from posttrain_server.agent.world import World, version
from posttrain_server.exchange import engine_name

_SETTLED = frozenset({"Loaded", "Failed"})


def agent_report(world: World, engine: EngineReport) -> AgentReport:
    """GET /adapters."""
    refused = world.base_failure
    if refused:
        engine = engine.replace(state="Failed", reason=refused.reason, message=refused.message)
    return AgentReport(
        desired_digest=DesiredAdapters(adapters=list(world.wanted)).digest,
        engine=engine,
        adapters=[adapter_report(world, adapter, engine) for adapter in world.wanted],
    )


def adapter_report(world: World, adapter: DesiredAdapter, engine: EngineReport) -> AdapterReport:
    """What is known of one wanted adapter. Loaded only while clients are routed to the wanted, proven version."""
    route = world.serving(adapter.name)
    serving = AdapterReport(
        name=adapter.name,
        digest=adapter.digest,
        state="Pending",
        serving_digest=route.digest if route else None,
        proven_at=route.proven_at if route else None,
    )
    if route is not None and route.digest == adapter.digest:
        return serving.replace(state="Loaded")
    failure = world.failures.get(version(adapter))
    if failure is not None:
        return serving.replace(state="Failed", reason=failure.reason, message=failure.message)
    if engine.state != "Healthy":
        reason = engine.reason or (Reason.ENGINE_FAILED if engine.state == "Failed" else Reason.STARTING)
        return serving.replace(reason=reason, message=engine.message)
    return serving.replace(state="Loading", reason=Reason.LOADING, message=_progress(world, adapter))


def _progress(world: World, adapter: DesiredAdapter) -> str:
    if adapter.digest not in world.local:
        return "copying and checking its files"
    return "proving its answers" if world.is_registered(adapter) else "waiting to be loaded into the engine"


@dataclass(frozen=True)
class Readiness:
    """Whether the pod takes requests: decided once for each start of the engine, by the adapters wanted at that time.

    Later adapters never take it away, or a new adapter would take every replica out of the Service.
    """

    instance: str | None = None
    """The engine that it speaks of."""
    awaited: frozenset[str] = frozenset()
    """The versions that must be proven or Failed first."""
    reached: bool = False

    def after(self, world: World, adapters: Iterable[AdapterReport], *, has_list: bool) -> "Readiness":
        """Readiness after one more look; without a healthy engine, a base as promised, or any list, it begins again."""
        if world.engine is None or world.is_base_awaited or not has_list:
            return Readiness()
        instance = world.engine.state.instance
        versions = frozenset(version(adapter) for adapter in world.wanted)
        awaited = self.awaited & versions if instance == self.instance else versions
        settled = {engine_name(report.name, report.digest) for report in adapters if report.state in _SETTLED}
        return Readiness(instance, awaited, (self.reached and instance == self.instance) or awaited <= settled)
