"""What the agent does next, as a table of worlds."""

import pytest
from tests.unit.server.builders import DIGEST, NOW, OTHER_DIGEST, adapter, engine_view, local, route, world

from posttrain_api.conditions import Reason
from posttrain_server.agent.decide import Decision, decide
from posttrain_server.agent.failure import Failure
from posttrain_server.agent.world import Proof, World
from posttrain_server.exchange import RouteTable

SUPPORT = adapter()
SWAPPED = adapter(digest=OTHER_DIGEST)
OLD, NEW = "support@" + "1" * 12, "support@" + "2" * 12
WAITING = RouteTable(waiting=["support"])
TRAINED = route(chat_template="TRAINED", stop_token_ids=[7])
SERVED = RouteTable(adapters={"support": TRAINED})
SERVED_NEW = RouteTable(adapters={"support": TRAINED.replace(digest=OTHER_DIGEST)})
PROOF = Proof(NOW, 0.0)
FINAL = Failure(Reason.DIGEST_MISMATCH, "other bytes")
LATER = Failure(Reason.ADAPTER_NOT_FOUND, "not there", retry_at=5.0)
BOTH = {DIGEST: local(), OTHER_DIGEST: local(OTHER_DIGEST)}


CASES = [
    # a new adapter, step by step
    pytest.param(
        world(SUPPORT), Decision(fetch=SUPPORT), id="files are copied while the engine still starts"
    ),
    pytest.param(
        world(SUPPORT, base_digest=None), Decision(), id="nothing can be checked before the base's digest is known"
    ),
    pytest.param(world(SUPPORT, fetching=OLD), Decision(), id="one copy at a time"),
    pytest.param(
        world(SUPPORT, engine=engine_view(table=None)),
        Decision(fetch=SUPPORT, routes=WAITING),
        id="a new engine learns first which names may still come",
    ),
    pytest.param(
        world(SUPPORT, local={DIGEST: local()}, engine=engine_view(table=WAITING)),
        Decision(load=SUPPORT),
        id="checked files are loaded",
    ),
    pytest.param(
        world(SUPPORT, local={DIGEST: local()}, engine=engine_view(("support", DIGEST), table=WAITING)),
        Decision(prove=SUPPORT),
        id="what is loaded is proven before anyone may call it",
    ),
    pytest.param(
        world(SUPPORT, local={DIGEST: local()}, proofs={OLD: PROOF},
              engine=engine_view(("support", DIGEST), table=WAITING)),
        Decision(routes=SERVED),
        id="what is proven may be called, with its template and stop tokens",
    ),
    pytest.param(
        world(SUPPORT, local={DIGEST: local()}, engine=engine_view(("support", DIGEST), table=SERVED)),
        Decision(),
        id="then there is nothing to do",
    ),
    pytest.param(
        world(adapter("a"), adapter("b", OTHER_DIGEST), local=BOTH,
              engine=engine_view(("a", DIGEST), table=RouteTable(waiting=["a", "b"]))),
        Decision(prove=adapter("a")),
        id="one load at a time: the first is proven before the second is loaded",
    ),
    # a swap
    pytest.param(
        world(SWAPPED, local=BOTH, engine=engine_view(("support", DIGEST), table=SERVED)),
        Decision(load=SWAPPED),
        id="swap: the new one is loaded beside the old one, which keeps answering",
    ),
    pytest.param(
        world(SWAPPED, local=BOTH, engine=engine_view(("support", DIGEST), ("support", OTHER_DIGEST), table=SERVED)),
        Decision(prove=SWAPPED),
        id="swap: the new one is proven",
    ),
    pytest.param(
        world(SWAPPED, local=BOTH, proofs={NEW: PROOF},
              engine=engine_view(("support", DIGEST), ("support", OTHER_DIGEST), table=SERVED)),
        Decision(routes=SERVED_NEW),
        id="swap: the name moves; the old one is still in the engine's table",
    ),
    pytest.param(
        world(SWAPPED, local=BOTH, proofs={NEW: PROOF},
              engine=engine_view(("support", DIGEST), ("support", OTHER_DIGEST), table=SERVED_NEW,
                                 in_flight={OLD: 1})),
        Decision(),
        id="swap: the old one stays while it answers someone",
    ),
    pytest.param(
        world(SWAPPED, local=BOTH, proofs={NEW: PROOF},
              engine=engine_view(("support", DIGEST), ("support", OTHER_DIGEST), table=SERVED_NEW)),
        Decision(unload=(OLD,)),
        id="swap: the old one goes when it answers nobody",
    ),
    pytest.param(
        world(SWAPPED, local=BOTH, proofs={NEW: PROOF},
              engine=engine_view(("support", OTHER_DIGEST), table=SERVED_NEW)),
        Decision(forget=(DIGEST,)),
        id="swap: its files go last",
    ),
    pytest.param(
        world(SUPPORT, local=BOTH, proofs={OLD: PROOF},
              engine=engine_view(("support", DIGEST), ("support", OTHER_DIGEST), table=SERVED_NEW)),
        Decision(routes=SERVED),
        id="rollback: the old one that is still there and proven answers at once",
    ),
    pytest.param(
        world(SWAPPED, local={DIGEST: local()}, failures={NEW: FINAL},
              engine=engine_view(("support", DIGEST), table=SERVED)),
        Decision(),
        id="a failed swap leaves the old one answering",
    ),
    # taken away
    pytest.param(
        world(local={DIGEST: local()}, engine=engine_view(("support", DIGEST), table=SERVED)),
        Decision(routes=RouteTable()),
        id="no longer wanted: first its name goes",
    ),
    pytest.param(
        world(local={DIGEST: local()}, engine=engine_view(("support", DIGEST), table=RouteTable())),
        Decision(unload=(OLD,)),
        id="no longer wanted: then its weights",
    ),
    pytest.param(
        world(local={DIGEST: local()}, stray=frozenset({OTHER_DIGEST}), engine=engine_view(table=RouteTable())),
        Decision(forget=(DIGEST, OTHER_DIGEST)),
        id="no longer wanted: then its files, and others that an earlier agent left",
    ),
    pytest.param(
        world(local={DIGEST: local()}, stray=frozenset({OTHER_DIGEST})),
        Decision(),
        id="no files go while nobody knows what the engine uses",
    ),
    # failures
    pytest.param(
        world(SUPPORT, failures={OLD: FINAL}, engine=engine_view(table=WAITING)),
        Decision(),
        id="a final failure is not tried again",
    ),
    pytest.param(
        world(SUPPORT, failures={OLD: LATER}, engine=engine_view(table=WAITING)), Decision(), id="not yet time"
    ),
    pytest.param(
        world(SUPPORT, now=5.0, failures={OLD: LATER}, engine=engine_view(table=WAITING)),
        Decision(fetch=SUPPORT),
        id="time to look again",
    ),
    pytest.param(
        world(SUPPORT, local={DIGEST: local()}, failures={OLD: FINAL},
              engine=engine_view(("support", DIGEST), table=WAITING)),
        Decision(unload=(OLD,)),
        id="what was not proven leaves the engine",
    ),
    pytest.param(
        world(adapter("a"), adapter("b", OTHER_DIGEST), local=BOTH, failures={"a@" + "1" * 12: FINAL},
              engine=engine_view(table=RouteTable(waiting=["a", "b"]))),
        Decision(load=adapter("b", OTHER_DIGEST)),
        id="a failed adapter does not hold up the others",
    ),
    # what others did
    pytest.param(
        world(SUPPORT, local={DIGEST: local()}, proofs={OLD: PROOF}, engine=engine_view(table=SERVED)),
        Decision(routes=WAITING, load=SUPPORT),
        id="unloaded by hand: its name waits and it is loaded again",
    ),
    pytest.param(
        world(SUPPORT, engine=engine_view(("support", DIGEST), table=SERVED)),
        Decision(fetch=SUPPORT),
        id="a restarted agent leaves a running adapter alone and checks its files again",
    ),
    # room
    pytest.param(
        world(adapter("a"), adapter("b"), adapter("c"), local={DIGEST: local()}, capacity=2,
              engine=engine_view(("a", DIGEST), ("b", DIGEST), table=RouteTable(
                  adapters={"a": TRAINED, "b": TRAINED}, waiting=["c"]))),
        Decision(refuse=(("c@" + "1" * 12, Failure(
            Reason.OVER_CAPACITY, "the engine keeps 2 adapters: raise engine.maxCachedAdapters")),)),
        id="more adapters than places",
    ),
    pytest.param(
        world(SWAPPED, capacity=1, local=BOTH, engine=engine_view(
            ("support", DIGEST), ("x", DIGEST), table=SERVED, in_flight={"x@" + "1" * 12: 1})),
        Decision(),
        id="a swap waits for the one place more",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("seen", "decision"), CASES)
def test_next_step(seen: World, decision: Decision):
    assert decide(seen) == decision


def test_a_foreign_folder_under_a_wanted_versions_name_is_thrown_out():
    engine = engine_view(("support", DIGEST), table=WAITING)
    foreign = engine.__class__(engine.state, {OLD: "/somewhere/else"}, 512)
    assert decide(world(SUPPORT, local={DIGEST: local()}, engine=foreign)) == Decision(unload=(OLD,))
