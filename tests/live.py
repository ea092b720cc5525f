"""A namespace of a real cluster, as tests see it: apply, get, delete, and wait for what is awaited by a watch."""

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kubernetes import client, config, dynamic
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import NotFoundError

Object = dict[str, Any]
Predicate = Callable[[Object], bool]
PRESENT = ("ADDED", "MODIFIED")


@dataclass(frozen=True)
class Access:
    """A cluster and how to reach it: a kubeconfig, a context in it, and the kubectl to use."""

    kubeconfig: Path
    context: str | None
    kubectl_program: Path

    def dynamic_client(self) -> dynamic.DynamicClient:
        """A client that knows every kind of the cluster."""
        configuration = client.Configuration()
        config.load_kube_config(str(self.kubeconfig), context=self.context, client_configuration=configuration)
        return dynamic.DynamicClient(client.ApiClient(configuration))

    def kubectl(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl to its end, with this text as its standard input; the caller looks at its exit code."""
        context = [f"--context={self.context}"] if self.context else []
        command = [str(self.kubectl_program), f"--kubeconfig={self.kubeconfig}", *context, *arguments]
        return subprocess.run(command, input=given, capture_output=True, text=True, timeout=120, check=False)


class Namespace:
    """One namespace and what tests do in it."""

    def __init__(self, access: Access, name: str) -> None:
        self.access = access
        self.name = name
        self.client = access.dynamic_client()

    def create(self) -> None:
        """Make the namespace."""
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.name}}
        self.resource("Namespace").create(body=body)

    def remove(self) -> None:
        """Delete the namespace with everything in it; its end is not awaited."""
        self.resource("Namespace").delete(name=self.name)

    def resource(self, kind: str) -> Any:
        """The API of a kind, in its preferred version."""
        group = {"Event": "v1"}.get(kind)
        return self.client.resources.get(kind=kind, **({"api_version": group} if group else {}))

    def kubectl(self, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl in this namespace."""
        return self.access.kubectl("--namespace", self.name, *arguments, given=given)

    def apply(self, manifest: Object) -> Object:
        """Server-side apply, as `kubectl apply --server-side` does."""
        body = {**manifest, "metadata": {**manifest["metadata"], "namespace": self.name}}
        resource = self.resource(manifest["kind"])
        made = resource.server_side_apply(body=body, field_manager="test", force_conflicts=True)
        return made.to_dict()

    def get(self, kind: str, name: str) -> Object | None:
        """The object as it is, None where there is none."""
        try:
            return self.resource(kind).get(name=name, namespace=self.name).to_dict()
        except NotFoundError:
            return None

    def list(self, kind: str, selector: str = "") -> list[Object]:
        """The objects of a kind that a label selector names."""
        found = self.resource(kind).get(namespace=self.name, label_selector=selector)
        return [item.to_dict() for item in found.items]

    def delete(self, kind: str, name: str, **options: Any) -> None:
        """Ask for the end of an object."""
        self.resource(kind).delete(name=name, namespace=self.name, **options)

    def patch_status(self, kind: str, name: str, status: Object) -> None:
        """Merge into an object's status, as a kubelet or a controller would."""
        self.resource(kind).status.patch(
            name=name, namespace=self.name, body={"status": status}, content_type="application/merge-patch+json"
        )

    def events(self, kind: str, name: str | None, seconds: float) -> Iterator[tuple[str, Object]]:
        """Watch events (type, object) from the present state on, until the time is over.

        LISTED, with an empty object, stands between the present state and what follows.
        """
        resource = self.resource(kind)
        selector = f"metadata.name={name}" if name else ""
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        now = resource.get(namespace=self.name, field_selector=selector)
        for item in now.items:
            yield "ADDED", item.to_dict()
        yield "LISTED", {}
        version = now.metadata.resourceVersion
        while (left := (end - datetime.now(UTC)).total_seconds()) > 0:
            stream = resource.watch(
                namespace=self.name, field_selector=selector, resource_version=version, timeout=max(1, round(left))
            )
            for event in stream:
                version = event["raw_object"]["metadata"]["resourceVersion"]
                yield event["type"], event["raw_object"]

    def wait_for(self, kind: str, name: str, holds: Predicate, *, within: float, what: str) -> Object:
        """The first state of the object in which the predicate holds; AssertionError with its last state if none."""
        last: Object | None = None
        for type_, item in self.events(kind, name, within):
            last = item or last
            if type_ in PRESENT and holds(item):
                return item
        raise AssertionError(f"{kind} {name}: not {what} within {within} s; last seen: {shown(last)}")

    def wait_for_any(self, kind: str, holds: Predicate, *, within: float, what: str) -> Object:
        """The first object of the kind for which the predicate holds."""
        for type_, item in self.events(kind, None, within):
            if type_ in PRESENT and holds(item):
                return item
        raise AssertionError(f"no {kind} was {what} within {within} s")

    def wait_gone(self, kind: str, name: str, *, within: float) -> None:
        """Return when there is no such object any more."""
        for type_, _ in self.events(kind, name, within):
            if type_ not in PRESENT and self.get(kind, name) is None:
                return
        left = self.kubectl("get", kind, name, "--output=yaml").stdout[:3000]
        raise AssertionError(f"{kind} {name} is still there after {within} s: {left}")


def shown(item: Object | None) -> str:
    """An object's status for a failed test's message."""
    if item is None:
        return "nothing"
    status = {name: value for name, value in item.get("status", {}).items() if name != "resolved"}
    return json.dumps(status, indent=1)[:6000]


def condition(item: Object, type_: str) -> Object | None:
    """One condition of an object."""
    conditions = item.get("status", {}).get("conditions") or []
    return next((found for found in conditions if found["type"] == type_), None)


def has_condition(type_: str, status: str, reason: str | None = None) -> Predicate:
    """Predicate: the condition has this status, for the present generation, and this reason where one is given."""

    def holds(item: Object) -> bool:
        found = condition(item, type_)
        current = item.get("status", {}).get("observedGeneration") == item["metadata"]["generation"]
        return bool(found and current and found["status"] == status and reason in (None, found["reason"]))

    return holds


__all__ = ["Access", "ApiException", "Namespace", "condition", "has_condition", "shown"]
