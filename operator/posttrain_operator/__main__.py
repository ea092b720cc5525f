"""The operator's program: reads the environment, puts the parts together, runs until it is told to stop."""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import aiohttp
import kopf
from prometheus_client import start_http_server

from posttrain_operator import kube, poll, probes, startup
from posttrain_operator.adapter_deployment import handler as adapter_deployment
from posttrain_operator.intake import Intake
from posttrain_operator.kind import Tools
from posttrain_operator.metrics import Metrics
from posttrain_operator.pods import Pods
from posttrain_operator.queue import Queue
from posttrain_operator.reconcile import Reconciler
from posttrain_operator.settings import Settings, from_environment
from posttrain_operator.store import Store
from posttrain_operator.training_run import handler as training_run


async def run(settings: Settings) -> None:
    """Run the operator until SIGTERM or SIGINT."""
    metrics, ready = Metrics(), asyncio.Event()
    async with AsyncExitStack() as resources:
        await resources.enter_async_context(probes.served(settings.probe_port, ready=ready))
        session = await resources.enter_async_context(aiohttp.ClientSession())
        threads = resources.enter_context(ThreadPoolExecutor(settings.num_workers, thread_name_prefix="api"))
        tools = Tools(
            settings=settings,
            store=Store(),
            api=kube.Api(kube.connect(num_connections=settings.num_workers), observer=metrics.api_request),
            pods=Pods(session),
            threads=threads,
            clock=lambda: datetime.now(UTC),
        )
        start_http_server(settings.metrics_port, registry=metrics.registry)
        await _reconcile(tools, metrics=metrics, ready=ready)


async def _reconcile(tools: Tools, *, metrics: Metrics, ready: asyncio.Event) -> None:
    """Watch and reconcile both kinds until a signal ends kopf."""
    kinds = {kind.name: kind for kind in (training_run.kind(tools), adapter_deployment.kind(tools))}
    queue = Queue(Reconciler(tools=tools, kinds=kinds, metrics=metrics))
    intake = Intake(store=tools.store, queue=queue, kinds=kinds)
    metrics.watch_queue(lambda: queue.depth)
    metrics.watch_objects(lambda: [found for kind in kinds for found in tools.store.of_kind(kind)])

    def begin() -> None:
        queue.open()
        ready.set()

    stop, namespaces = asyncio.Event(), tools.settings.watch_namespaces
    async with asyncio.TaskGroup() as group:
        group.create_task(poll.keep_in_step(intake, tools=tools, on_first=begin, stop=stop))
        await kopf.operator(
            registry=startup.registry(intake),
            settings=startup.kopf_settings(tools.settings),
            standalone=True,
            clusterwide=not namespaces,
            namespaces=namespaces,
        )
        stop.set()


def main() -> None:
    """Run the operator with the settings in the environment."""
    startup.set_up_logging()
    asyncio.run(run(from_environment(os.environ)))


if __name__ == "__main__":
    main()
