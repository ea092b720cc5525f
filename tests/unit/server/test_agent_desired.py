"""Which list counts: the newest by arrival, and an old echo never."""

from pathlib import Path

import pytest
from tests.unit.server.builders import DIGEST, adapter

from posttrain_api.server_contract import DesiredAdapters
from posttrain_server.agent import desired
from posttrain_server.agent.desired import ECHO_SECONDS, Desired

A, B, C = (DesiredAdapters(adapters=[adapter(name)]) for name in "abc")


def post(given: DesiredAdapters, at: float = 0.0):
    return lambda state: state.after_post(given, now=at)


def mount(found: DesiredAdapters, at: float = 0.0):
    return lambda state: state.after_file(found, now=at)


@pytest.mark.parametrize(
    ("arrivals", "current"),
    [
        pytest.param([mount(A)], A, id="the mounted file alone"),
        pytest.param([post(A)], A, id="a post alone"),
        pytest.param([mount(A), post(B)], B, id="a post after the file"),
        pytest.param([mount(A), post(B), mount(A, 1)], B, id="the file did not change"),
        pytest.param([mount(A), post(B), mount(C, 1)], C, id="the file changed: the operator cannot reach this pod"),
        pytest.param([mount(A), post(B), post(C, 1), mount(B, 60)], C, id="the kubelet brings an older list late"),
        pytest.param([mount(A), post(B), post(C, 1), mount(B, 60), mount(C, 90)], C, id="and then the newer one"),
        pytest.param(
            [mount(A), post(B), post(C, 1), mount(B, ECHO_SECONDS + 1)], B, id="much later it is a rollback, no echo"
        ),
        pytest.param([mount(A), mount(B, 1), mount(A, 2)], A, id="a rollback by file alone"),
        pytest.param([post(A), post(B, 1), post(A, 2)], A, id="a rollback by posts"),
    ],
)
def test_the_newest_list_counts(arrivals: list, current: DesiredAdapters):
    state = Desired()
    for arrive in arrivals:
        state = arrive(state)
    assert state.current == current


def test_a_list_survives_a_restart_of_the_agent(tmp_path: Path):
    state = Desired().after_file(A, now=0).after_post(B, now=1)
    desired.save(state, tmp_path)
    assert desired.load(tmp_path).after_file(A, now=0).current == B, "the old file is no news"


def test_without_a_list_nothing_is_kept(tmp_path: Path):
    desired.save(Desired(), tmp_path)
    assert desired.load(tmp_path) == Desired()


def entry(**changes: str) -> str:
    fields = {"name": "a", "uri": "pvc://a/b", "digest": DIGEST, **changes}
    return "{" + ",".join(f'"{key}": "{value}"' for key, value in fields.items()) + "}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param("{", "Invalid JSON", id="no JSON"),
        pytest.param("[]", "should be an object", id="no object"),
        pytest.param('{"adapters": [{"name": "a"}]}', "Field required", id="no digest"),
        pytest.param('{"adapters": [], "more": 1}', "not permitted", id="an unknown key"),
        pytest.param(f'{{"adapters": [{entry(digest="sha256:1")}]}}', "match pattern", id="a short digest"),
        pytest.param(f'{{"adapters": [{entry(name="base")}]}}', "name of the base", id="the base's name"),
        pytest.param(f'{{"adapters": [{entry(name="a@b")}]}}', "match pattern", id="a name like a version"),
        pytest.param(f'{{"adapters": [{entry(name="../x")}]}}', "match pattern", id="a name like a path"),
        pytest.param(f'{{"adapters": [{entry()}, {entry()}]}}', "two adapters are called a", id="a name twice"),
    ],
)
def test_a_list_that_is_none_is_refused(body: str, message: str):
    with pytest.raises(ValueError, match=message):
        desired.parse(body.encode())
