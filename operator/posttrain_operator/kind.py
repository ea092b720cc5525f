"""The shape that both kinds share: what the core needs to know of a kind, and what a kind gets from the core."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import ParamSpec, TypeVar

from posttrain_operator.actions import Manifest, Plan
from posttrain_operator.kube import Api, Refused
from posttrain_operator.pods import Pods
from posttrain_operator.settings import Settings
from posttrain_operator.store import Key, Store

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Tools:
    """What observe() may look through, and what plan() is told."""

    settings: Settings
    store: Store
    api: Api
    pods: Pods
    threads: ThreadPoolExecutor
    clock: Callable[[], datetime]
    """The present time, in UTC."""

    async def in_thread(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Call something that blocks, such as a method of `api`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.threads, lambda: function(*args, **kwargs))


def refers_to_nothing(_: Manifest) -> Iterable[Key]:
    """The references of a kind that has none."""
    return ()


@dataclass(frozen=True)
class Kind:
    """A kind of ours. `handler.kind(tools)` of each kind makes one."""

    name: str
    """As manifests write it, such as TrainingRun."""
    decide: Callable[[Manifest, Refused | None], Awaitable[Plan]]
    """observe() and plan(): from the object as last seen, and from what the API server said where it has just refused a
    child of the last plan."""
    references: Callable[[Manifest], Iterable[Key]] = refers_to_nothing
    """Objects whose change wakes this one, besides its children. The manifest may be invalid: no error then."""
