"""One ApiClient and raw requests: typed models of the client library cost more time than the requests themselves."""

import json
from collections.abc import Callable, Iterator
from time import perf_counter
from urllib.parse import urlencode

import urllib3
from kubernetes import client, config

from posttrain_api import labels
from posttrain_operator.actions import Child, Event, Manifest
from posttrain_operator.kube.errors import ApiError, Conflict, NotFound, Unreachable, error
from posttrain_operator.kube.resources import RESOURCES, Resource
from posttrain_operator.store import Key

FIELD_MANAGER = labels.MANAGER
TIMEOUT_SECONDS = 30.0
PAGE_SIZE = 250
MANAGED_SELECTOR = f"{labels.MANAGED_BY}={labels.MANAGER}"

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"

Observer = Callable[[str, str, int, float], None]
"""Told of each request: verb, plural, status code (0 without an answer), seconds."""


def connect(*, num_connections: int) -> client.ApiClient:
    """A client for the cluster that we run in, or else for KUBECONFIG's current context."""
    configuration = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    configuration.connection_pool_maxsize = num_connections
    return client.ApiClient(configuration)


class Api:
    """The API server's verbs. Every method blocks; each raises ApiError."""

    def __init__(self, connection: client.ApiClient, *, observer: Observer) -> None:
        self._connection = connection
        self._observer = observer

    def apply(self, manifest: Manifest) -> Manifest:
        """Server-side apply of the fields that we own; another manager's claim on them is taken over."""
        query = {"fieldManager": FIELD_MANAGER, "force": "true"}
        return self._request("apply", _key(manifest), manifest, method="PATCH", content_type=APPLY, query=query)

    def create(self, manifest: Manifest) -> Manifest | None:
        """Make the object; None where there is one of that name."""
        key = _key(manifest)._replace(name="")
        try:
            return self._request("create", key, manifest, method="POST", query={"fieldManager": FIELD_MANAGER})
        except Conflict:
            return None

    def get(self, key: Key) -> Manifest | None:
        """The object as it is now, None where there is none."""
        try:
            return self._request("get", key, None, method="GET")
        except NotFound:
            return None

    def patch(self, key: Key, change: Manifest, *, subresource: str | None = None) -> Manifest | None:
        """Merge into an object, or into its status; None where there is none."""
        query = {"fieldManager": FIELD_MANAGER}
        try:
            return self._request(
                "patch", key, change, method="PATCH", content_type=MERGE, query=query, subresource=subresource
            )
        except NotFound:
            return None

    def delete(self, key: Key, *, uid: str | None = None) -> None:
        """Ask for the end of an object and, in the background, of what it owns; no error where there is none."""
        precondition = {"preconditions": {"uid": uid}} if uid else {}
        try:
            self._request("delete", key, {"propagationPolicy": "Background", **precondition}, method="DELETE")
        except (NotFound, Conflict):
            return

    def list(self, resource: Resource, namespace: str | None, *, selector: str = "") -> Iterator[Manifest]:
        """The objects of a kind, page by page; no namespace is all namespaces."""
        key = Key(resource.kind, namespace or "", "")
        query = {"limit": str(PAGE_SIZE), **({"labelSelector": selector} if selector else {})}
        while True:
            page = self._request("list", key, None, method="GET", query=query)
            for item in page["items"]:
                yield {"apiVersion": resource.api_version, "kind": resource.kind, **item}
            token = page["metadata"].get("continue")
            if not token:
                return
            query = {**query, "continue": token}

    def post_event(self, parent: Manifest, event: Event, *, time: str) -> None:
        """Tell an Event of an object; `time` in RFC 3339 with microseconds."""
        metadata = parent["metadata"]
        regarding = {name: metadata[name] for name in ("name", "namespace", "uid")}
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"generateName": f"{metadata['name']}-", "namespace": metadata["namespace"]},
            "eventTime": time,
            "reportingController": "posttrain.dev/operator",
            "reportingInstance": FIELD_MANAGER,
            "action": "Reconcile",
            "type": event.type,
            "reason": event.reason,
            "note": event.message[:1024],
            "regarding": {"apiVersion": parent["apiVersion"], "kind": parent["kind"], **regarding},
        }
        self._request("create", Key("Event", metadata["namespace"], ""), body, method="POST")

    def _request(
        self,
        verb: str,
        key: Key,
        body: Manifest | None,
        *,
        method: str,
        content_type: str = JSON,
        query: dict[str, str] | None = None,
        subresource: str | None = None,
    ) -> Manifest:
        resource = RESOURCES[key.kind]
        path = resource.path(key.namespace or None, key.name or None, subresource)
        url = self._connection.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        begin = perf_counter()
        status, data = self._exchange(method, url, body, content_type)
        self._observer(verb, resource.plural, status, perf_counter() - begin)
        return _parsed(status, data)

    def _exchange(self, method: str, url: str, body: Manifest | None, content_type: str) -> tuple[int, bytes]:
        headers = {"Accept": JSON, "Content-Type": content_type}
        # Asked for at each request: a token of a pod is exchanged for a new one now and then.
        self._connection.update_params_for_auth(headers, [], ["BearerToken"], "", method, None)
        try:
            answer = self._connection.call_api(method, url, headers, body, _request_timeout=TIMEOUT_SECONDS)
            return answer.status, answer.response.data
        except urllib3.exceptions.HTTPError as problem:
            self._observer(method.lower(), "unreachable", 0, 0.0)
            raise Unreachable(0, "Unreachable", str(problem)) from problem


def _key(manifest: Manifest) -> Key:
    metadata = manifest["metadata"]
    return Key(manifest["kind"], metadata["namespace"], metadata["name"])


def _parsed(status: int, data: bytes) -> Manifest:
    if 200 <= status < 300:
        answer: Manifest = json.loads(data)
        return answer
    raise _error(status, data)


def _error(status: int, data: bytes) -> ApiError:
    """The error in an answer; a proxy before the API server may answer without JSON."""
    try:
        said = json.loads(data)
    except ValueError:
        return error(status, "", data[:500].decode(errors="replace"))
    return error(status, said.get("reason", ""), said.get("message", ""))


def child_key(child: Child, *, namespace: str) -> Key:
    """The key of a child that a plan names."""
    return Key(child.kind, namespace, child.name)
