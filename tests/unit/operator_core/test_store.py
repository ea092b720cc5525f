"""The store keeps the newest version of each object, whoever tells of it first."""

import pytest
from tests.unit.operator_core.builders import key, pod, run

from posttrain_operator import store
from posttrain_operator.store import Store


def test_a_newer_version_is_news_and_an_older_or_equal_one_is_not() -> None:
    known = Store()

    assert known.put(run(version=5)) is True
    assert known.put(run(version=5)) is False
    assert known.put(run(version=4, status={"phase": "Old"})) is False
    assert known.put(run(version=10)) is True
    assert known.get(key()) == run(version=10)


def test_versions_are_compared_as_numbers() -> None:
    known = Store()
    known.put(run(version=9))

    assert known.put(run(version=10)) is True


def test_what_is_gone_does_not_come_back_by_a_late_answer() -> None:
    known = Store()
    known.put(run(version=1))

    assert known.remove(run(version=3)) is True
    assert known.put(run(version=2)) is False
    assert known.get(key()) is None


def test_an_object_of_the_same_name_is_another_object() -> None:
    known = Store()
    known.put(run(version=1, uid="first"))
    known.remove(run(version=2, uid="first"))

    assert known.put(run(version=3, uid="second")) is True
    assert known.remove(run(version=4, uid="first")) is False
    assert known.get(key()) == run(version=3, uid="second")


def test_an_unknown_object_may_be_gone() -> None:
    assert Store().remove(run()) is False


def test_graves_are_bounded() -> None:
    known = Store()
    for number in range(store.MAX_GRAVES + 1):
        known.remove(run(uid=f"uid-{number}"))

    assert known.put(run(uid="uid-0")) is True
    assert known.put(run(version=2, uid="uid-1")) is False


def test_children_are_found_by_their_owner() -> None:
    known = Store()
    for child in (pod("a"), pod("b"), pod("c", owner="numbers")):
        known.put(child)
    known.remove(pod("a"))

    assert [child["metadata"]["name"] for child in known.children(key())] == ["b"]
    assert known.children(key("unknown")) == []


@pytest.mark.parametrize(
    ("first", "then", "followers"),
    [
        pytest.param(["x"], ["x"], ["assistants"], id="the same"),
        pytest.param(["x"], ["y"], [], id="another"),
        pytest.param(["x"], ["x", "y"], ["assistants"], id="one more"),
        pytest.param(["x"], [], [], id="none any more"),
        pytest.param([], ["x"], ["assistants"], id="a first one"),
    ],
)
def test_followers_are_those_that_refer_to_it_now(first: list[str], then: list[str], followers: list[str]) -> None:
    known, follower = Store(), key("assistants", "AdapterDeployment")

    for names in (first, then):
        known.follow(follower, [key(name) for name in names])

    assert [found.name for found in known.followers(key("x"))] == followers


def test_who_is_gone_follows_nobody() -> None:
    known = Store()
    known.put(run())
    known.follow(key(), [key("x")])

    known.remove(run())

    assert known.followers(key("x")) == []


def test_only_what_a_reconcile_reads_is_kept() -> None:
    kept = store.slim(pod(phase="Running"))

    assert kept["spec"] == {"nodeName": "node"}
    assert kept["status"] == {"phase": "Running"}
    assert "managedFields" not in kept["metadata"]
    assert "annotations" not in kept["metadata"]
    assert store.slim(run(spec={"method": "sft"}))["spec"] == {"method": "sft"}
