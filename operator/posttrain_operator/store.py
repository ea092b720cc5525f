"""What the watches and our own writes say of the cluster: observe() reads here, never with a LIST.

An object is replaced only by a newer version of itself, so that a watch that lags behind our own write is no news and
an answer that lags behind a deletion does not bring the dead back. Only the event loop's thread touches a Store.

Objects are kept serialised: as dicts they take three times the memory, and most are read seldom.
"""

import marshal
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from posttrain_api import labels
from posttrain_api.v1alpha1 import adapter_deployment, training_run
from posttrain_operator.actions import Manifest


class Key(NamedTuple):
    """Names an object of the cluster."""

    kind: str
    namespace: str
    name: str


OWNER_LABELS = {
    labels.TRAINING_RUN: training_run.KIND,
    labels.ADAPTER_DEPLOYMENT: adapter_deployment.KIND,
}
"""Label of a child -> kind of its owner."""

KEPT_OF_SPEC = {
    "Pod": ("nodeName",),
    "Job": ("activeDeadlineSeconds",),
    "NetworkPolicy": (),
    "Deployment": ("replicas",),
    "Service": (),
    "PersistentVolumeClaim": (),
}
"""Kind -> fields of the spec that a reconcile needs; of other kinds everything is kept."""

DROPPED_OF_METADATA = frozenset({"managedFields", "finalizers", "generateName"})
DROPPED_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
MAX_GRAVES = 10_000


def key_of(manifest: Manifest) -> Key:
    """The key of an object."""
    metadata = manifest["metadata"]
    return Key(manifest["kind"], metadata["namespace"], metadata["name"])


def owner_of(manifest: Manifest) -> Key | None:
    """The key of the object that a child's labels name as its owner."""
    metadata = manifest["metadata"]
    found = metadata.get("labels") or {}
    owners = (Key(kind, metadata["namespace"], found[label]) for label, kind in OWNER_LABELS.items() if label in found)
    return next(owners, None)


def slim(manifest: Manifest) -> Manifest:
    """The object without what no reconcile reads: memory is counted."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in DROPPED_OF_METADATA}
    annotations = metadata.pop("annotations", None) or {}
    kept_annotations = {key: value for key, value in annotations.items() if key != DROPPED_ANNOTATION}
    if kept_annotations:
        metadata["annotations"] = kept_annotations
    fields = KEPT_OF_SPEC.get(manifest["kind"])
    if fields is None:
        return {**manifest, "metadata": metadata}
    spec = manifest.get("spec") or {}
    return {**manifest, "metadata": metadata, "spec": {name: spec[name] for name in fields if name in spec}}


def version(manifest: Manifest) -> int:
    """The resource version, which Kubernetes promises to be a growing number."""
    return int(manifest["metadata"]["resourceVersion"])


class Known(NamedTuple):
    """An object as it is kept."""

    uid: str
    version: int
    data: bytes

    @property
    def manifest(self) -> Manifest:
        """The object; a copy of its own."""
        found: Manifest = marshal.loads(self.data)
        return found


Tell = Callable[[Key, Manifest | None, Manifest], None]
"""Takes an object's key, what was known of it, and what it is now."""


class Store:
    """The newest known version of every object that we watch, children by owner, and who refers to whom."""

    def __init__(self) -> None:
        self._objects: dict[Key, Known] = {}
        self._children: defaultdict[Key, set[Key]] = defaultdict(set)
        self._references: dict[Key, frozenset[Key]] = {}
        self._followers: defaultdict[Key, set[Key]] = defaultdict(set)
        self._graves: dict[str, None] = {}
        self._tell: Tell | None = None

    def tell_of_followed(self, tell: Tell) -> None:
        """Call this on each new version of an object that others refer to: a watch told of it, or we wrote it."""
        self._tell = tell

    def get(self, key: Key) -> Manifest | None:
        """The object as last seen."""
        known = self._objects.get(key)
        return known.manifest if known else None

    def children(self, owner: Key) -> list[Manifest]:
        """The objects whose labels name this owner, in no order."""
        return [self._objects[key].manifest for key in self._children.get(owner, ())]

    def of_kind(self, kind: str) -> Iterator[Manifest]:
        """All objects of a kind."""
        return (known.manifest for key, known in list(self._objects.items()) if key.kind == kind)

    def put(self, manifest: Manifest) -> bool:
        """Remember the object; whether that was news."""
        key, uid, new = key_of(manifest), manifest["metadata"]["uid"], version(manifest)
        known = self._objects.get(key)
        if uid in self._graves or (known and known.version >= new):
            return False
        self._objects[key] = Known(uid, new, marshal.dumps(slim(manifest)))
        owner = owner_of(manifest)
        if owner:
            self._children[owner].add(key)
        if self._tell and self._followers.get(key):
            self._tell(key, known.manifest if known else None, manifest)
        return True

    def remove(self, manifest: Manifest) -> bool:
        """Forget the object; whether it was known."""
        key, uid = key_of(manifest), manifest["metadata"]["uid"]
        self._bury(uid)
        known = self._objects.get(key)
        if known is None or known.uid != uid:
            return False
        del self._objects[key]
        self._forget_child(known.manifest)
        self.follow(key, ())
        return True

    def follow(self, follower: Key, references: Iterable[Key]) -> None:
        """Say to which objects this one refers now; it is to be woken when they change."""
        wanted, before = frozenset(references), self._references.pop(follower, frozenset())
        for key in before - wanted:
            self._followers[key].discard(follower)
            if not self._followers[key]:
                del self._followers[key]
        for key in wanted - before:
            self._followers[key].add(follower)
        if wanted:
            self._references[follower] = wanted

    def followers(self, key: Key) -> list[Key]:
        """The objects that refer to this one."""
        return list(self._followers.get(key, ()))

    def _bury(self, uid: str) -> None:
        self._graves[uid] = None
        if len(self._graves) > MAX_GRAVES:
            del self._graves[next(iter(self._graves))]

    def _forget_child(self, manifest: Manifest) -> None:
        owner = owner_of(manifest)
        if owner is None:
            return
        self._children[owner].discard(key_of(manifest))
        if not self._children[owner]:
            del self._children[owner]
