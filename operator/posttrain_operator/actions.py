"""What a reconcile decided, as a value: plan() of each kind returns it, execute() carries it out."""

from dataclasses import dataclass, field
from typing import Any, Literal

from posttrain_api.server_contract import DesiredAdapters

Manifest = dict[str, Any]
"""A Kubernetes object as JSON, with only the fields that we own."""


@dataclass(frozen=True)
class Child:
    """Names an object of the parent's namespace."""

    api_version: str
    kind: str
    name: str


@dataclass(frozen=True)
class Patch:
    """A change of the few fields of a child that may be changed while it lives; the others are immutable."""

    child: Child
    change: Manifest
    """A JSON merge patch."""


@dataclass(frozen=True)
class Event:
    """Something that happened, for `kubectl describe`."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str


@dataclass(frozen=True)
class Tell:
    """The desired list, for the agent of a pod that works on another one: its mounted copy lags by up to a minute."""

    pod: str
    """Name of the pod."""
    address: str
    """Its IP address."""
    desired: DesiredAdapters
    token: str = field(repr=False)
    """The agent's bearer token: never logged."""


@dataclass(frozen=True)
class Plan:
    """Everything that one reconcile does, in the order of the fields."""

    create: tuple[Manifest, ...] = ()
    """Objects to make where there are none of that name; others of that name are left alone."""
    apply: tuple[Manifest, ...] = ()
    """Children as they are to be, by server-side apply; only those that differ from what was observed."""
    patch: tuple[Patch, ...] = ()
    """Changes of children that cannot be applied as a whole, such as Jobs."""
    delete: tuple[Child, ...] = ()
    """Children that are no longer wanted."""
    tell: tuple[Tell, ...] = ()
    """Lists for agents; one that does not answer is told again at the next reconcile."""
    status: dict[str, Any] | None = None
    """The parent's whole status; None leaves it as it is."""
    events: tuple[Event, ...] = field(default=())
    """Told after the status was written."""
    recheck_seconds: float | None = None
    """Look again after this long, whatever happens; None waits for an event."""
    delete_parent: bool = False
    """The parent's time to live is over."""
