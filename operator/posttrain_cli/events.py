"""What happens to the objects of a namespace, through the watch API: one thread for each kind, one queue for all."""

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import urllib3
from kubernetes import client, watch
from kubernetes.client.exceptions import ApiException

from posttrain_cli import connect

Object = dict[str, Any]
PAUSE_SECONDS = 0.5
"""Between two connections: a server that closes each watch at once is not asked in a tight loop."""
WATCH_SECONDS = 300


@dataclass(frozen=True)
class Kind:
    """A kind as people and URLs name it."""

    name: str
    plural: str
    short: str


@dataclass(frozen=True)
class Listed:
    """Every object of a kind as it is now: the first word of a watch, and again where one was lost."""

    kind: Kind
    objects: list[Object]


@dataclass(frozen=True)
class Changed:
    """One object as it is now, or as it was when it was deleted."""

    kind: Kind
    object: Object
    is_deleted: bool


@dataclass(frozen=True)
class Lost:
    """The API server does not answer; it is asked again."""

    kind: Kind


@dataclass(frozen=True)
class Refused:
    """It makes no sense to go on."""

    problem: ApiException | urllib3.exceptions.HTTPError


@dataclass(frozen=True)
class Ended:
    """The thread of a kind is over, be it by an error of ours that it printed: nothing more will be heard of it."""

    kind: Kind


Event = Listed | Changed | Lost | Refused | Ended


@contextmanager
def watching(
    connection: client.ApiClient, namespace: str, kinds: Iterable[Kind], *, pause_seconds: float = PAUSE_SECONDS
) -> Iterator[Iterator[Event]]:
    """What happens to these kinds, without an end, for as long as the block lasts."""
    happened: queue.Queue[Event] = queue.Queue()
    watchers = [_Watcher(connection, namespace, kind, happened, pause_seconds) for kind in kinds]
    for watcher in watchers:
        watcher.start()
    try:
        yield iter(happened.get, None)
    finally:
        for watcher in watchers:
            watcher.stop()


class _Watcher(threading.Thread):
    """Lists a kind and watches it from there on; lists again where the watch cannot be resumed."""

    def __init__(
        self,
        connection: client.ApiClient,
        namespace: str,
        kind: Kind,
        happened: "queue.Queue[Event]",
        pause_seconds: float,
    ) -> None:
        super().__init__(name=f"watch {kind.plural}", daemon=True)
        self._connection = connection
        self._namespace = namespace
        self._kind = kind
        self._happened = happened
        self._pause_seconds = pause_seconds
        self._stopped = threading.Event()
        self._watch = watch.Watch()  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        """End soon, without waiting for the API server."""
        self._stopped.set()
        self._watch.stop()  # type: ignore[no-untyped-call]

    def run(self) -> None:
        """Until stop() or a refusal."""
        try:
            self._follow()
        finally:
            self._happened.put(Ended(self._kind))

    def _follow(self) -> None:
        has_listed = False
        while not self._stopped.is_set():
            try:
                version = self._list()
                has_listed = True
                self._watch_from(version)
            except (ApiException, urllib3.exceptions.HTTPError) as problem:
                if not has_listed or _is_final(problem):
                    self._happened.put(Refused(problem))
                    return
                if not _is_too_old(problem):
                    self._happened.put(Lost(self._kind))
            self._stopped.wait(self._pause_seconds)

    def _list(self) -> str:
        """Tell of every object there is; the version from which to watch."""
        answer = connect.get(self._connection, self._namespace, self._kind.plural).json()
        self._happened.put(Listed(self._kind, answer["items"]))
        version: str = answer["metadata"]["resourceVersion"]
        return version

    def _watch_from(self, version: str) -> None:
        """Tell of each change, over as many connections as it takes, until one breaks."""
        while not self._stopped.is_set():
            for event in self._watch.stream(  # type: ignore[no-untyped-call]
                self._open, resource_version=version, timeout_seconds=WATCH_SECONDS
            ):
                item: Object = event["raw_object"]
                version = item["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    self._happened.put(Changed(self._kind, item, is_deleted=event["type"] == "DELETED"))
            self._stopped.wait(self._pause_seconds)

    def _open(self, *, resource_version: str, timeout_seconds: int, **_: object) -> Any:
        """The request of a watch, as the library's Watch wants to call it."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds),
        }
        return connect.get(self._connection, self._namespace, self._kind.plural, query=query)


def _is_too_old(problem: Exception) -> bool:
    return isinstance(problem, ApiException) and problem.status == 410


def _is_final(problem: Exception) -> bool:
    """Whether asking again would not help: 410 is only a version that is too old, 429 a server in trouble."""
    if not isinstance(problem, ApiException):
        return False
    return problem.status not in (410, 429) and 400 <= (problem.status or 0) < 500
