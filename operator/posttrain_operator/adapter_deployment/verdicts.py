"""The conditions of an AdapterDeployment: each from what was observed, and the worst of them as Ready. Pure.

`Ready` is never true because something was so a moment ago: each reconcile derives it anew from the pods as they are
and from what their agents answered in this very reconcile.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from posttrain_api.conditions import Condition, Reason, condition
from posttrain_api.v1alpha1.adapter_deployment import AdapterStatus
from posttrain_operator.adapter_deployment.replicas import Fleet, Trouble
from posttrain_operator.followed_run import Missing

_INCOMPATIBLE = frozenset(
    {
        Reason.ADAPTER_NOT_FOUND,
        Reason.DIGEST_MISMATCH,
        Reason.BASE_MISMATCH,
        Reason.RANK_TOO_LARGE,
        Reason.UNSUPPORTED_ADAPTER,
        Reason.BEHAVIOUR_MISMATCH,
        Reason.NO_EFFECT,
    }
)


class Verdict(NamedTuple):
    """A condition without its name and times; None is Unknown."""

    holds: bool | None
    reason: Reason
    message: str


@dataclass(frozen=True)
class Facts:
    """Everything that conditions are made from."""

    adapters: Sequence[AdapterStatus]
    fleet: Fleet
    trouble: Trouble | None
    """The worst of what keeps pods from serving."""
    max_cached_adapters: int
    base: Missing | None = None
    """Why the base is not the wanted one."""

    @property
    def num_ready(self) -> int:
        """Pods that take requests."""
        return sum(replica.is_ready for replica in self.fleet.live)

    def in_state(self, state: str) -> list[AdapterStatus]:
        """The adapters in this state."""
        return [adapter for adapter in self.adapters if adapter.state == state]


def resolved(facts: Facts) -> Verdict:
    """Whether the base and each adapter have an accepted artifact."""
    if facts.base:
        return _about_base(facts.base)
    missing = [adapter for adapter in facts.adapters if adapter.digest is None]
    if not missing:
        return Verdict(True, Reason.READY, "the base and every adapter have an artifact")
    return _about(min(missing, key=lambda adapter: adapter.state != "Failed"))


def compatible(facts: Facts) -> Verdict:
    """Whether the engine can serve each adapter as what it claims to be."""
    refused = [adapter for adapter in facts.in_state("Failed") if adapter.reason in _INCOMPATIBLE]
    if refused:
        return _about(refused[0])
    if len(facts.in_state("Loaded")) == len(facts.adapters):
        return Verdict(True, Reason.READY, "every adapter fits base and engine")
    return Verdict(None, Reason.PENDING, "not every adapter was checked on every replica yet")


def capacity(facts: Facts) -> Verdict:
    """Whether the engine has a place for each adapter."""
    refused = [adapter for adapter in facts.in_state("Failed") if adapter.reason == Reason.OVER_CAPACITY]
    if refused:
        return _about(refused[0])
    return Verdict(True, Reason.READY, f"{len(facts.adapters)} of {facts.max_cached_adapters} places are taken")


def available(facts: Facts) -> Verdict:
    """Whether the base answers on as many replicas as are wanted, be they of an old template or of the current one."""
    ready, total = facts.num_ready, facts.fleet.total
    if total == 0:
        return Verdict(False, Reason.SCALED_TO_ZERO, "replicas is 0: nothing answers")
    if ready >= total:
        return Verdict(True, Reason.READY, f"{ready} of {total} replicas answer")
    return _troubled(facts) or Verdict(False, Reason.STARTING, f"{ready} of {total} replicas answer")


def loaded(facts: Facts) -> Verdict:
    """Whether each adapter is proven on every replica."""
    rest = [adapter for adapter in facts.adapters if adapter.state != "Loaded"]
    if not rest:
        return Verdict(True, Reason.READY, f"{len(facts.adapters)} of {len(facts.adapters)} adapters are proven")
    return _about(_most_telling(rest))


def ready(facts: Facts) -> Verdict:
    """Whether these very weights, and the base, answer on every replica of the current template, and on no other pod.

    With replicas 0 nothing answers, so it is not Ready, though nothing is left to do either.
    """
    if facts.base and not (facts.trouble and facts.trouble.is_final):
        return _about_base(facts.base)
    failed = facts.in_state("Failed")
    if failed:
        return _about(failed[0])
    return _troubled(facts) or _not_answering(facts) or _not_loaded(facts) or _all_well(facts)


def _troubled(facts: Facts) -> Verdict | None:
    return Verdict(False, facts.trouble.reason, facts.trouble.message) if facts.trouble else None


def _not_answering(facts: Facts) -> Verdict | None:
    fleet, base = facts.fleet, available(facts)
    if base.holds is not True:
        return base
    if len(fleet.current) < len(fleet.live) or len(fleet.current) < fleet.total:
        message = f"rolling out: {len(fleet.current)} of {fleet.total} replicas are of the current template"
        return Verdict(False, Reason.STARTING, message)
    silent = [replica.name for replica in fleet.live if not (replica.is_ready and replica.is_healthy)]
    return Verdict(False, Reason.STARTING, f"pod {silent[0]} does not answer yet") if silent else None


def _not_loaded(facts: Facts) -> Verdict | None:
    adapters = loaded(facts)
    if adapters.holds is not True:
        return adapters
    if facts.fleet.is_complete:
        return None
    return Verdict(False, Reason.LOADING, "not every replica works on the list of now")


def _all_well(facts: Facts) -> Verdict:
    adapters, total = len(facts.adapters), facts.fleet.total
    return Verdict(True, Reason.READY, f"the base and {adapters} adapters answer on {total} replicas")


def _most_telling(adapters: Sequence[AdapterStatus]) -> AdapterStatus:
    order = [Reason.LOADING, Reason.STARTING, Reason.SCALED_TO_ZERO, Reason.WAITING_FOR_RUN, Reason.RUN_NOT_FOUND]
    ranks = {reason.value: index for index, reason in enumerate(order)}
    return min(adapters, key=lambda adapter: ranks.get(adapter.reason or "", -1))


def _about(adapter: AdapterStatus) -> Verdict:
    return Verdict(False, Reason(adapter.reason or Reason.PENDING), f"{adapter.name}: {adapter.message}")


def _about_base(missing: Missing) -> Verdict:
    return Verdict(False, missing.reason, f"baseModel: {missing.message}")


def is_stalled(facts: Facts) -> bool:
    """Whether it stays as it is until the user changes something."""
    failed = facts.in_state("Failed") or (facts.base and facts.base.is_failed)
    return bool(failed) or (facts.trouble is not None and facts.trouble.is_final)


def conditions(facts: Facts, *, generation: int, now: datetime) -> list[Condition]:
    """Every condition of a deployment, as observed now."""
    whole = ready(facts)
    verdicts = {
        "Resolved": resolved(facts),
        "Compatible": compatible(facts),
        "CapacityOK": capacity(facts),
        "Available": available(facts),
        "AdaptersLoaded": loaded(facts),
        "Ready": whole,
    }
    if is_stalled(facts):
        verdicts["Stalled"] = whole._replace(holds=True)
    elif not whole.holds and (facts.fleet.total or facts.fleet.live):
        verdicts["Reconciling"] = whole._replace(holds=True)
    return [
        condition(type_, verdict.holds, verdict.reason, verdict.message, generation=generation, now=now)
        for type_, verdict in verdicts.items()
    ]
