"""Requests to the API server as they leave us, and its answers as they reach the caller."""

import json
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import urllib3
from kubernetes.client import ApiClient
from tests.unit.operator_core.builders import key, run

from posttrain_operator.actions import Event, Manifest
from posttrain_operator.kube import Api, ApiError, NotFound, Refused, Unreachable
from posttrain_operator.kube.resources import RESOURCES, WATCHED


@dataclass
class Response:
    """An answer's body."""

    data: bytes


@dataclass
class Answer:
    """An answer of the API server."""

    status: int
    body: Any

    @property
    def response(self) -> Response:
        """As the client library gives it."""
        return Response(self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode())


@dataclass
class Connection:
    """Stands in for the client library: answers in order, keeps what it was asked."""

    answers: list[Answer | Exception]
    asked: list[tuple[str, str, str, Any]] = field(default_factory=list)

    @property
    def configuration(self) -> "Connection":
        """Where the API server is."""
        return self

    host: str = "https://api"

    def update_params_for_auth(self, headers: dict[str, str], *_: Any) -> None:
        """The token of now."""
        headers["Authorization"] = "Bearer token"

    def call_api(self, method: str, url: str, headers: dict[str, str], body: Any, **_: Any) -> Answer:
        """Send a request."""
        assert headers["Authorization"] == "Bearer token"
        self.asked.append((method, url, headers["Content-Type"], body))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def api_of(*answers: Answer | Exception) -> tuple[Api, Connection, list[tuple[str, str, int]]]:
    connection, observed = Connection(list(answers)), list[tuple[str, str, int]]()
    api = Api(cast(ApiClient, connection), observer=lambda verb, what, code, _: observed.append((verb, what, code)))
    return api, connection, observed


RUNS = "https://api/apis/posttrain.dev/v1alpha1/namespaces/team/trainingruns"
STATUS = {"reason": "Because", "message": "so"}


def test_apply_takes_our_fields_over() -> None:
    api, connection, observed = api_of(Answer(201, run(version=2)))

    assert api.apply(run()) == run(version=2)
    assert connection.asked == [
        ("PATCH", f"{RUNS}/dates?fieldManager=posttrain&force=true", "application/apply-patch+yaml", run())
    ]
    assert observed == [("apply", "trainingruns", 201)]


def test_a_status_is_merged_into_its_subresource() -> None:
    api, connection, _ = api_of(Answer(200, run()))

    api.patch(key(), {"status": {"phase": "x"}}, subresource="status")

    assert connection.asked[0][1] == f"{RUNS}/dates/status?fieldManager=posttrain"
    assert connection.asked[0][2] == "application/merge-patch+json"


def test_create_makes_only_what_is_not_there() -> None:
    api, connection, _ = api_of(Answer(201, run()), Answer(409, STATUS))

    assert api.create(run()) == run()
    assert api.create(run()) is None
    assert connection.asked[0][:2] == ("POST", f"{RUNS}?fieldManager=posttrain")


def test_what_is_not_there_is_none() -> None:
    api, _, _ = api_of(*(Answer(404, STATUS) for _ in range(3)))

    assert api.get(key()) is None
    assert api.patch(key(), {}) is None
    api.delete(key())


def test_delete_works_in_the_background_and_on_this_object_only() -> None:
    api, connection, _ = api_of(Answer(200, {}), Answer(409, STATUS))

    api.delete(key(), uid="x")
    api.delete(key(), uid="x")

    assert connection.asked[0][3] == {"propagationPolicy": "Background", "preconditions": {"uid": "x"}}


def test_lists_come_page_by_page_with_their_kind() -> None:
    first = {"metadata": {"continue": "more"}, "items": [{"metadata": {"name": "a"}}]}
    second: Manifest = {"metadata": {}, "items": [{"metadata": {"name": "b"}}]}
    api, connection, _ = api_of(Answer(200, first), Answer(200, second))

    found = list(api.list(RESOURCES["Job"], None, selector="a=b"))

    assert found == [{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}} for name in ("a", "b")]
    assert [asked[1] for asked in connection.asked] == [
        "https://api/apis/batch/v1/jobs?limit=250&labelSelector=a%3Db",
        "https://api/apis/batch/v1/jobs?limit=250&labelSelector=a%3Db&continue=more",
    ]


def test_an_event_speaks_of_its_object() -> None:
    api, connection, _ = api_of(Answer(201, {}))

    api.post_event(run(), Event("Warning", "OutOfMemory", "x" * 2000), time="2026-11-21T12:00:00.000000Z")

    method, url, _, body = connection.asked[0]
    assert (method, url) == ("POST", "https://api/apis/events.k8s.io/v1/namespaces/team/events")
    assert body["metadata"] == {"generateName": "dates-", "namespace": "team"}
    assert body["regarding"]["uid"] == "uid-of-dates"
    assert (body["type"], body["reason"], len(body["note"])) == ("Warning", "OutOfMemory", 1024)


@pytest.mark.parametrize(
    ("answer", "kind", "is_final"),
    [
        pytest.param(Answer(404, STATUS), NotFound, None, id="not found"),
        pytest.param(Answer(422, STATUS), Refused, True, id="not valid"),
        pytest.param(Answer(400, STATUS), Refused, True, id="not understood"),
        pytest.param(Answer(403, STATUS), Refused, False, id="not allowed"),
        pytest.param(Answer(500, STATUS), ApiError, None, id="its own trouble"),
        pytest.param(Answer(502, b"<html>bad gateway</html>"), ApiError, None, id="a proxy's words"),
        pytest.param(urllib3.exceptions.ProtocolError("reset"), Unreachable, None, id="no answer"),
    ],
)
def test_an_error_is_an_exception_of_its_kind(
    answer: Answer | Exception, kind: type[ApiError], *, is_final: bool | None
) -> None:
    api, _, _ = api_of(answer)

    with pytest.raises(kind) as raised:
        api.apply(run())

    assert type(raised.value) is kind
    assert getattr(raised.value, "is_final", None) == is_final


@pytest.mark.parametrize("resource", WATCHED, ids=lambda resource: resource.plural)
def test_every_watched_kind_has_a_path(resource: Any) -> None:
    group = f"/apis/{resource.group}/{resource.version}" if resource.group else f"/api/{resource.version}"

    assert resource.path(None) == f"{group}/{resource.plural}"
    assert resource.path("team", "x", "status") == f"{group}/namespaces/team/{resource.plural}/x/status"
