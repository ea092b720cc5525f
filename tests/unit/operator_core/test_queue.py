"""The queue: one reconcile per object at a time, duplicates coalesce, failures come back later."""

import asyncio
from collections import Counter, defaultdict
from dataclasses import dataclass, field

import pytest
from tests.unit.operator_core.builders import Alarms, key

from posttrain_operator.queue import MAX_BACKOFF_SECONDS, Queue, backoff_seconds
from posttrain_operator.store import Key

A, B = key("a"), key("b")


@dataclass
class Work:
    """A reconcile that ends when the test lets it."""

    delay: float | None = None
    error: Exception | None = None
    done: Counter[Key] = field(default_factory=Counter)
    running: Counter[Key] = field(default_factory=Counter)
    most_at_once: int = 0
    began: defaultdict[Key, asyncio.Event] = field(default_factory=lambda: defaultdict(asyncio.Event))
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, key: Key) -> float | None:
        self.running[key] += 1
        self.began[key].set()
        self.most_at_once = max(self.most_at_once, self.running.total())
        assert self.running[key] == 1, "one reconcile per object at a time"
        await self.may_end.wait()
        self.running[key] -= 1
        self.done[key] += 1
        if self.error:
            raise self.error
        return self.delay


def opened(work: Work, *, alarms: Alarms | None = None, num_at_once: int = 8) -> Queue:
    queue = Queue(work, num_at_once=num_at_once, call_later=(alarms or Alarms()).call_later)
    queue.open()
    return queue


async def let_it_run(queue: Queue, work: Work) -> None:
    work.may_end.set()
    await queue.idle()


async def test_what_is_added_once_is_done_once() -> None:
    work = Work()
    queue = opened(work)

    queue.add(A)
    await let_it_run(queue, work)

    assert work.done == {A: 1}
    assert queue.depth == 0


async def test_nothing_is_done_before_everything_is_known() -> None:
    work = Work()
    queue = Queue(work)
    queue.add(A)
    await let_it_run(queue, work)
    assert work.done == {}

    queue.open()
    await queue.idle()

    assert work.done == {A: 1}


async def test_changes_during_a_reconcile_are_one_more_reconcile() -> None:
    work = Work()
    queue = opened(work)
    queue.add(A)
    await work.began[A].wait()

    for _ in range(10):
        queue.add(A)
    await let_it_run(queue, work)

    assert work.done == {A: 2}


async def test_objects_do_not_wait_for_each_other() -> None:
    work = Work()
    queue = opened(work)

    queue.add(A)
    queue.add(B)
    await work.began[A].wait()
    await work.began[B].wait()

    assert work.most_at_once == 2
    await let_it_run(queue, work)


async def test_no_more_than_so_many_run_at_once() -> None:
    work = Work()
    queue = opened(work, num_at_once=2)
    for number in range(10):
        queue.add(key(str(number)))
    assert queue.depth == 10
    await work.began[key("1")].wait()

    await let_it_run(queue, work)

    assert work.done.total() == 10
    assert work.most_at_once == 2


async def test_a_reconcile_may_ask_for_a_later_look() -> None:
    work, alarms = Work(delay=2.0), Alarms()
    queue = opened(work, alarms=alarms)
    queue.add(A)
    await let_it_run(queue, work)
    assert alarms.due == [2.0]

    alarms.ring()
    await queue.idle()

    assert work.done == {A: 2}


async def test_a_change_before_the_later_look_takes_its_place() -> None:
    work, alarms = Work(delay=2.0), Alarms()
    queue = opened(work, alarms=alarms)
    queue.add(A)
    await let_it_run(queue, work)

    queue.add(A)
    await queue.idle()

    assert alarms.due == [2.0]
    assert work.done == {A: 2}


async def test_an_object_that_is_gone_has_no_later_look() -> None:
    work, alarms = Work(delay=2.0), Alarms()
    queue = opened(work, alarms=alarms)
    queue.add(A)
    await let_it_run(queue, work)

    queue.forget(A)

    assert alarms.due == []


async def test_the_unexpected_comes_back_later_and_later_and_is_forgotten_by_success() -> None:
    work, alarms = Work(error=RuntimeError("unexpected")), Alarms()
    queue = opened(work, alarms=alarms)
    work.may_end.set()
    queue.add(A)
    await queue.idle()
    waited = [*alarms.due]
    for _ in range(2):
        alarms.ring()
        await queue.idle()
        waited += alarms.due
    assert waited == [0.5, 1.0, 2.0]

    work.error = None
    alarms.ring()
    await queue.idle()
    assert alarms.due == []

    work.error = RuntimeError("again")
    queue.add(A)
    await queue.idle()
    assert alarms.due == [0.5]


async def test_one_object_in_trouble_does_not_stop_another() -> None:
    work = Work(error=RuntimeError("unexpected"))
    queue = opened(work)

    queue.add(A)
    queue.add(B)
    await let_it_run(queue, work)

    assert work.done == {A: 1, B: 1}


@pytest.mark.parametrize(("failures", "seconds"), [(1, 0.5), (2, 1.0), (5, 8.0), (5000, MAX_BACKOFF_SECONDS)])
def test_backing_off_has_an_end(failures: int, seconds: float) -> None:
    assert backoff_seconds(failures) == seconds
