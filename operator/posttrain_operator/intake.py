"""From what the watches say to who must look again: remember the object, wake its owner and those that refer to it."""

from collections.abc import Mapping

from posttrain_operator.actions import Manifest
from posttrain_operator.kind import Kind
from posttrain_operator.queue import Queue
from posttrain_operator.store import Key, Store, key_of, owner_of


class Intake:
    """Takes in objects that were seen, and objects that are gone."""

    def __init__(self, *, store: Store, queue: Queue, kinds: Mapping[str, Kind]) -> None:
        self._store = store
        self._queue = queue
        self._kinds = kinds
        store.tell_of_followed(self._tell_followers)

    def seen(self, manifest: Manifest) -> None:
        """An object as it is; what we know already, such as the echo of our own write, wakes nobody."""
        key = key_of(manifest)
        if not self._store.put(manifest):
            return
        kind = self._kinds.get(key.kind)
        if kind:
            self._store.follow(key, kind.references(manifest))
        self._wake_owner(key, manifest)

    def gone(self, manifest: Manifest) -> None:
        """An object that was deleted."""
        key = key_of(manifest)
        if not self._store.remove(manifest):
            return
        self._wake_followers(key)
        if key.kind in self._kinds:
            self._queue.forget(key)
        else:
            self._wake_owner(key, manifest)

    def _wake_owner(self, key: Key, manifest: Manifest) -> None:
        woken = key if key.kind in self._kinds else owner_of(manifest)
        if woken:
            self._queue.add(woken)

    def _tell_followers(self, key: Key, before: Manifest | None, after: Manifest) -> None:
        if before is None or _is_news_to_followers(before, after):
            self._wake_followers(key)

    def _wake_followers(self, key: Key) -> None:
        for follower in self._store.followers(key):
            self._queue.add(follower)


def _is_news_to_followers(before: Manifest, after: Manifest) -> bool:
    """Whether more has changed than a run's progress, which is written every two seconds."""
    if before.get("spec") != after.get("spec"):
        return True
    old, new = before.get("status") or {}, after.get("status") or {}
    told = ("conditions", "artifact", "checkpoints", "mergedBases", "finishedAt")
    return any(old.get(field) != new.get(field) for field in told)
