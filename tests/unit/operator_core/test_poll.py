"""The task that lists: nothing begins before everything is known, and what a watch has lost is found."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import cast

from tests.unit.operator_core.builders import key, pod, run
from tests.unit.operator_core.test_execute import NOW

from posttrain_operator import poll
from posttrain_operator.actions import Manifest
from posttrain_operator.intake import Intake
from posttrain_operator.kind import Tools
from posttrain_operator.kube import WATCHED, Api, ApiError, Resource
from posttrain_operator.pods import Pods
from posttrain_operator.queue import Queue
from posttrain_operator.settings import Settings
from posttrain_operator.store import Key, Store


@dataclass
class Cluster:
    """Stands in for the API server's lists."""

    items: list[Manifest] = field(default_factory=list)
    listed: list[tuple[str, str | None, str]] = field(default_factory=list)
    trouble: ApiError | None = None
    meanwhile: Callable[[], object] = lambda: None

    def list(self, resource: Resource, namespace: str | None, *, selector: str = "") -> Iterator[Manifest]:
        self.listed.append((resource.plural, namespace, selector))
        self.meanwhile()
        if self.trouble:
            trouble, self.trouble = self.trouble, None
            raise trouble
        return (item for item in self.items if item["kind"] == resource.kind)


async def never(_: Key) -> float | None:
    raise AssertionError("the queue is not open")


@dataclass
class World:
    """A cluster and what we know of it."""

    cluster: Cluster = field(default_factory=Cluster)
    namespaces: tuple[str, ...] = ()
    store: Store = field(default_factory=Store)
    begun: int = 0

    async def look(self) -> None:
        """List until everything is known."""
        stop = asyncio.Event()

        def begin() -> None:
            self.begun += 1
            stop.set()

        settings = Settings(trainer_image="t", server_image="s", watch_namespaces=self.namespaces)
        with ThreadPoolExecutor(1) as threads:
            tools = Tools(settings, self.store, cast(Api, self.cluster), cast(Pods, None), threads, lambda: NOW)
            intake = Intake(store=self.store, queue=Queue(never), kinds={})
            listing = poll.keep_in_step(intake, tools=tools, on_first=begin, stop=stop, retry_seconds=0.0)
            await asyncio.wait_for(listing, 5)


async def test_everything_is_listed_before_the_work_begins() -> None:
    world = World(Cluster([run(), pod()]))

    await world.look()

    assert world.begun == 1
    assert [listed[0] for listed in world.cluster.listed] == [resource.plural for resource in WATCHED]
    assert world.store.get(key())
    assert world.store.get(key("dates-0-0-x", "Pod"))


async def test_children_are_listed_by_our_label_and_users_objects_are_not() -> None:
    world = World()

    await world.look()

    selectors = {plural: selector for plural, _, selector in world.cluster.listed}
    assert selectors["trainingruns"] == ""
    assert selectors["jobs"] == "app.kubernetes.io/managed-by=posttrain"


async def test_only_the_watched_namespaces_are_listed() -> None:
    world = World(namespaces=("a", "b"))

    await world.look()

    assert {namespace for _, namespace, _ in world.cluster.listed} == {"a", "b"}


async def test_what_vanished_without_an_event_is_found() -> None:
    world = World(Cluster([run("there", version=2)]))
    world.store.put(run("there"))
    world.store.put(run("vanished"))

    await world.look()

    assert world.store.get(key("vanished")) is None
    assert world.store.get(key("there")) == run("there", version=2)


async def test_what_changed_while_we_listed_is_not_taken_for_vanished() -> None:
    world = World()
    world.store.put(run("new", version=1))
    world.cluster.meanwhile = lambda: world.store.put(run("new", version=2))

    await world.look()

    assert world.store.get(key("new")) == run("new", version=2)


async def test_an_api_server_that_is_away_is_waited_for() -> None:
    world = World(Cluster([run()], trouble=ApiError(503, "ServiceUnavailable", "starting")))

    await world.look()

    assert world.begun == 1
    assert world.store.get(key())
