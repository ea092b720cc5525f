"""What the agent says of itself: never Loaded where the weights do not answer."""

import pytest
from tests.unit.server.builders import BASE_DIGEST, DIGEST, NOW, OTHER_DIGEST, adapter, engine_view, local, route, world

from posttrain_api.conditions import Reason
from posttrain_api.server_contract import AdapterReport, AgentReport, DesiredAdapters, EngineReport
from posttrain_server.agent.failure import Failure
from posttrain_server.agent.report import Readiness, adapter_report, agent_report
from posttrain_server.agent.world import World
from posttrain_server.exchange import RouteTable

HEALTHY = EngineReport(state="Healthy")
STARTING = EngineReport(state="Starting", message="not yet")
FAILED = EngineReport(state="Failed", message="it is gone")
SERVED = RouteTable(adapters={"support": route()})
OLD = "support@" + "1" * 12
HERE = {DIGEST: local()}


def expected(digest: str = DIGEST, **changes: object) -> AdapterReport:
    return AdapterReport.model_validate({"name": "support", "digest": digest, "state": "Loading", **changes})


@pytest.mark.parametrize(
    ("seen", "engine", "shown"),
    [
        pytest.param(
            world(adapter()), STARTING,
            expected(state="Pending", reason=Reason.STARTING, message="not yet"), id="the engine starts",
        ),
        pytest.param(
            world(adapter(), local=HERE), FAILED,
            expected(state="Pending", reason=Reason.ENGINE_FAILED, message="it is gone"), id="the engine is gone",
        ),
        pytest.param(
            world(adapter(), engine=engine_view(table=None)), HEALTHY,
            expected(reason=Reason.LOADING, message="copying and checking its files"), id="files first",
        ),
        pytest.param(
            world(adapter(), local=HERE, engine=engine_view(table=None)), HEALTHY,
            expected(reason=Reason.LOADING, message="waiting to be loaded into the engine"), id="then the engine",
        ),
        pytest.param(
            world(adapter(), local=HERE, engine=engine_view(("support", DIGEST), table=RouteTable())), HEALTHY,
            expected(reason=Reason.LOADING, message="proving its answers"), id="loaded is not proven",
        ),
        pytest.param(
            world(adapter(), local=HERE, engine=engine_view(("support", DIGEST), table=SERVED)), HEALTHY,
            expected(state="Loaded", serving_digest=DIGEST, proven_at=NOW), id="proven, and clients are routed to it",
        ),
        pytest.param(
            world(adapter(), local=HERE, engine=engine_view(table=SERVED)), HEALTHY,
            expected(reason=Reason.LOADING, message="waiting to be loaded into the engine"),
            id="routed, but unloaded by hand: not Loaded",
        ),
        pytest.param(
            world(adapter(digest=OTHER_DIGEST), engine=engine_view(("support", DIGEST), table=SERVED)), HEALTHY,
            expected(OTHER_DIGEST, reason=Reason.LOADING, message="copying and checking its files",
                     serving_digest=DIGEST, proven_at=NOW),
            id="a swap: the old version is said to serve",
        ),
        pytest.param(
            world(adapter(), failures={OLD: Failure(Reason.RANK_TOO_LARGE, "64")}, engine=engine_view(table=None)),
            HEALTHY, expected(state="Failed", reason=Reason.RANK_TOO_LARGE, message="64"), id="failed",
        ),
        pytest.param(
            world(adapter(), failures={OLD: Failure(Reason.ADAPTER_NOT_FOUND, "gone", retry_at=1)}, now=2,
                  engine=engine_view(table=None)),
            HEALTHY, expected(state="Failed", reason=Reason.ADAPTER_NOT_FOUND, message="gone"),
            id="failed while it is tried again",
        ),
    ],
)  # fmt: skip
def test_one_adapter(seen: World, engine: EngineReport, shown: AdapterReport):
    assert adapter_report(seen, seen.wanted[0], engine) == shown


def test_a_report_says_which_list_it_speaks_of():
    seen = world(adapter(), engine=None)
    engine = STARTING.replace(base_digest=BASE_DIGEST)
    assert agent_report(seen, engine) == AgentReport(
        desired_digest=DesiredAdapters(adapters=[adapter()]).digest,
        engine=engine,
        adapters=[expected(state="Pending", reason=Reason.STARTING, message="not yet")],
    )


def look(readiness: Readiness, seen: World, *, has_list: bool = True) -> Readiness:
    reports = [adapter_report(seen, wanted, HEALTHY) for wanted in seen.wanted]
    return readiness.after(seen, reports, has_list=has_list)


EMPTY = engine_view(table=RouteTable())
LOADED = world(adapter(), local=HERE, engine=engine_view(("support", DIGEST), table=SERVED))
LOADING = world(adapter(), local=HERE, engine=EMPTY)


@pytest.mark.parametrize(
    ("worlds", "ready"),
    [
        pytest.param([world(adapter())], False, id="no engine"),
        pytest.param([LOADING], False, id="an adapter of the start is not proven"),
        pytest.param([LOADING, LOADED], True, id="it is proven"),
        pytest.param([world(engine=EMPTY)], True, id="no adapter is wanted"),
        pytest.param(
            [world(adapter(), failures={OLD: Failure(Reason.BASE_MISMATCH, "")}, engine=EMPTY)], True,
            id="a failed adapter does not keep the others from serving",
        ),
        pytest.param([LOADED, world(adapter(), adapter("new"), engine=EMPTY)], True, id="later ones take nothing away"),
        pytest.param(
            [LOADING, world(adapter(), adapter("new"), local=HERE,
                            engine=engine_view(("support", DIGEST), table=SERVED))],
            True, id="later ones are not waited for",
        ),
        pytest.param([LOADING, world(engine=EMPTY)], True, id="one that is no longer wanted is not waited for"),
        pytest.param([LOADED, world(adapter(), local=HERE)], False, id="the engine died"),
        pytest.param([LOADED, world(adapter(), local=HERE), LOADING], False, id="a new engine has no adapter yet"),
        pytest.param([LOADED, world(adapter(), local=HERE), LOADING, LOADED], True, id="and then it has"),
    ],
)  # fmt: skip
def test_readiness(worlds: list[World], ready: bool):
    readiness = Readiness()
    for seen in worlds:
        readiness = look(readiness, seen)
    assert readiness.reached == ready


def test_a_pod_that_knows_no_list_is_not_ready():
    assert not look(Readiness(), world(engine=EMPTY), has_list=False).reached
