"""The agent's loop: gather, decide, act. What it does depends on what is, not on what changed."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from posttrain_api.conditions import Reason
from posttrain_api.server_contract import AgentReport, DesiredAdapter, DesiredAdapters, EngineReport
from posttrain_server.agent import decide, desired, failure, proof, report
from posttrain_server.agent.base import Base
from posttrain_server.agent.engine_client import EngineClient, EngineRefused, EngineSlow, EngineUnreachable
from posttrain_server.agent.failure import ArtifactError, Failure
from posttrain_server.agent.metrics import AgentMetrics, Stage
from posttrain_server.agent.store import LocalArtifact, Store
from posttrain_server.agent.world import EngineView, Proof, World, version
from posttrain_server.exchange import RouteTable

_PATIENCE = 3
"""So many answers in a row may be late before a healthy engine counts as gone: on a busy machine one is no sign."""

log = logging.getLogger("posttrain.agent")


@dataclass(frozen=True)
class AgentSettings:
    """What the operator decided for this agent."""

    desired_file: Path
    max_rank: int
    max_cached_adapters: int


class Agent:
    """One agent for one engine. Its memory is what it checked itself; everything else it looks up at every step."""

    def __init__(
        self,
        settings: AgentSettings,
        *,
        engine: EngineClient,
        store: Store,
        base: Base,
        metrics: AgentMetrics,
        clock: Callable[[], float] = time.monotonic,
        tick_seconds: float = 1.0,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._tick_seconds = tick_seconds
        self._wake = asyncio.Event()
        self._desired = desired.load(store.folder)
        self._refused_file: bytes | None = None
        self._base = base
        self._local: dict[str, LocalArtifact] = {}
        self._failures: dict[str, Failure] = {}
        self._proofs: dict[str, Proof] = {}
        self._fetching: str | None = None
        self._view: EngineView | None = None
        self._late = 0
        self._engine_report = EngineReport(state="Starting", message="the engine has not answered yet")
        self._readiness = report.Readiness()

    def report(self) -> AgentReport:
        """The truth about this pod, as of the last look at the engine."""
        return report.agent_report(self._world(), self._engine_report.replace(base_digest=self._base.digest))

    def is_ready(self) -> bool:
        """Whether the pod may take requests."""
        return self._readiness.reached

    def post(self, given: DesiredAdapters) -> AgentReport:
        """Take a list from the operator and begin at once."""
        self._take(self._desired.after_post(given, now=self._clock()))
        self._wake.set()
        return self.report()

    async def run(self) -> None:
        """Reconcile until cancelled. Only the unexpected ends it, and with it the process: a restart is honest."""
        self._store.clear_incomplete()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._base.know()).add_done_callback(lambda _: self._wake.set())
            while True:
                self._wake.clear()
                if not await self.step(tasks):
                    await self._wait()

    async def step(self, tasks: asyncio.TaskGroup) -> bool:
        """Look, decide, act; True where something was done, so that there may be more to do."""
        self._read_file()
        await self._gather()
        self._show()
        decision = decide.decide(self._world())
        try:
            return await self._act(decision, tasks)
        except EngineUnreachable as error:
            log.warning("%s", error)
            return False

    async def _wait(self) -> None:
        # Not wait_for(): Python 3.11's may lose the cancellation that ends the agent.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._tick_seconds):
                await self._wake.wait()

    # gather

    def _world(self) -> World:
        current = self._desired.current or DesiredAdapters()
        return World(
            now=self._clock(),
            wanted=tuple(current.adapters),
            capacity=self._settings.max_cached_adapters,
            base_digest=self._base.digest,
            runner=self._base.runner,
            is_base_awaited=self._base.is_awaited,
            base_failure=self._base.failure,
            local=self._local,
            stray=frozenset(self._store.digests()) - self._local.keys(),
            fetching=self._fetching,
            failures=self._failures,
            proofs=self._proofs,
            engine=self._view,
        )

    def _show(self) -> None:
        shown = self.report()
        has_list = self._desired.current is not None
        self._readiness = self._readiness.after(self._world(), shown.adapters, has_list=has_list)
        self._metrics.show(shown)

    def _read_file(self) -> None:
        try:
            body = self._settings.desired_file.read_bytes()
        except FileNotFoundError:
            return
        if body == self._refused_file:
            return
        try:
            self._take(self._desired.after_file(desired.parse(body), now=self._clock()))
        except ValueError as error:
            self._refused_file = body
            log.warning("%s is not used: %s", self._settings.desired_file, error)

    def _take(self, new: desired.Desired) -> None:
        if new == self._desired:
            return
        if new.current != self._desired.current and new.current is not None:
            log.info("the list of adapters is now %s", [version(adapter) for adapter in new.current.adapters])
            self._failures.clear()
        self._desired = new
        desired.save(new, self._store.folder)

    async def _gather(self) -> None:
        try:
            await self._engine.check_health()
            state, registered = await self._engine.state(), await self._engine.registered()
        except EngineSlow as error:
            self._late += 1
            if self._late >= _PATIENCE:
                self._lose_engine("Failed", str(error))
        except EngineUnreachable as error:
            self._lose_engine("Starting" if self._engine_report.state == "Starting" else "Failed", str(error))
        except EngineRefused as error:
            self._lose_engine("Failed", f"the engine is not healthy: {error}")
        else:
            self._late = 0
            self._see(EngineView(state, registered.adapters, registered.max_model_length))

    def _see(self, view: EngineView) -> None:
        if self._view is None or self._view.state.instance != view.state.instance:
            log.info("the engine is healthy: instance %s, %s", view.state.instance, view.state.dtype)
            self._metrics.engine_started()
            self._failures.clear()
            self._proofs.clear()
        # What was unloaded behind our back is proven anew, even if it comes back.
        self._proofs = {name: found for name, found in self._proofs.items() if name in view.registered}
        self._view = view
        self._engine_report = EngineReport(state="Healthy")

    def _lose_engine(self, state: str, message: str) -> None:
        if self._view is not None:
            log.warning("%s", message)
        self._view = None
        self._engine_report = EngineReport.model_validate({"state": state, "message": message})

    # act

    async def _act(self, decision: decide.Decision, tasks: asyncio.TaskGroup) -> bool:
        for name, why in decision.refuse:
            self._fail(name, why)
        for digest in decision.forget:
            self._local.pop(digest, None)
            await asyncio.to_thread(self._store.forget, digest)
        if decision.fetch is not None:
            self._fetching = version(decision.fetch)
            tasks.create_task(self._fetch(decision.fetch))
        if decision.routes is not None:
            await self._put_routes(decision.routes)
        for name in decision.unload:
            await self._unload(name)
        if decision.prove is not None:
            await self._prove(decision.prove)
        if decision.load is not None:
            await self._load(decision.load)
        return any([decision.refuse, decision.routes, decision.unload, decision.prove, decision.load])

    async def _fetch(self, adapter: DesiredAdapter) -> None:
        assert self._base.digest is not None
        began = self._clock()
        try:
            self._local[adapter.digest] = await asyncio.to_thread(
                self._store.bring, adapter, base_digest=self._base.digest, max_rank=self._settings.max_rank
            )
            self._failures.pop(version(adapter), None)
            self._took("fetch", began)
        except ArtifactError as error:
            self._fail(version(adapter), failure.of(error, now=self._clock()))
        finally:
            self._fetching = None
            self._wake.set()

    async def _put_routes(self, table: RouteTable) -> None:
        await self._engine.put_routes(table)
        log.info(
            "clients may call %s; waiting: %s", {n: r.digest[:19] for n, r in table.adapters.items()}, table.waiting
        )

    async def _unload(self, name: str) -> None:
        try:
            await self._engine.unload(name)
            log.info("unloaded %s", name)
        except EngineRefused as error:
            log.info("not unloaded, it is gone: %s", error)
        self._proofs.pop(name, None)

    async def _load(self, adapter: DesiredAdapter) -> None:
        began = self._clock()
        try:
            await self._engine.load(version(adapter), str(self._local[adapter.digest].folder))
            self._took("load", began)
            log.info("loaded %s", version(adapter))
        except EngineRefused as error:
            self._fail(version(adapter), Failure(Reason.LOAD_FAILED, f"the engine cannot load it: {error}"))

    async def _prove(self, adapter: DesiredAdapter) -> None:
        began = self._clock()
        try:
            verdict = await self._verdict(adapter)
        except EngineRefused as error:
            self._fail(version(adapter), Failure(Reason.LOAD_FAILED, f"the engine cannot answer the probes: {error}"))
            return
        self._metrics.proved(adapter.name, verdict.distance)
        if verdict.failure is not None:
            self._fail(version(adapter), Failure(Reason.BEHAVIOUR_MISMATCH, verdict.failure))
            return
        self._took("prove", began)
        self._proofs[version(adapter)] = Proof(datetime.now(UTC), verdict.distance)
        log.info("proved %s: %.2g nats from its manifest", version(adapter), verdict.distance)

    async def _verdict(self, adapter: DesiredAdapter) -> proof.Verdict:
        assert self._view is not None
        manifest = self._local[adapter.digest].manifest
        prompts = proof.prompts(manifest.probes, max_length=self._view.max_model_length)
        served = proof.Served(
            base=await self._engine.log_probabilities("base", prompts),
            adapter=await self._engine.log_probabilities(version(adapter), prompts),
        )
        return proof.judge(manifest.probes, served, allowed=proof.tolerance(manifest.dtype, self._view.state.dtype))

    def _fail(self, name: str, why: Failure) -> None:
        if self._failures.get(name) is None or self._failures[name].message != why.message:
            log.warning("%s: %s: %s", name, why.reason, why.message)
        self._failures[name] = why
        self._metrics.failed(why.reason)

    def _took(self, stage: Stage, began: float) -> None:
        self._metrics.took(stage, self._clock() - began)
