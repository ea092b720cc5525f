"""The way to the API server: kubeconfig, context and namespace, and what to say when it does not work."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException

from posttrain_api.v1alpha1 import GROUP, VERSION
from posttrain_cli.failure import Failure, one_line

DEFAULT_KUBECONFIG = "~/.kube/config"
DEFAULT_NAMESPACE = "default"


@dataclass(frozen=True)
class Connection:
    """A client of the API server, and where it came from."""

    client: client.ApiClient
    kubeconfig: str
    context: str
    namespace: str

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what goes wrong between us and the API server into a Failure that names it."""
        try:
            yield
        except ApiException as problem:
            raise Failure(f"{_refusal(problem)} ({self._origin()})") from problem
        except urllib3.exceptions.HTTPError as problem:
            host = self.client.configuration.host
            raise Failure(f"cannot reach the cluster at {host}: {_cause(problem)} ({self._origin()})") from problem

    def _origin(self) -> str:
        return f"context {self.context} of {self.kubeconfig}"


def connect(*, kubeconfig: str | None = None, context: str | None = None, namespace: str | None = None) -> Connection:
    """A connection as kubectl would make it from the same three; Failure where the kubeconfig has no such thing."""
    path = kubeconfig or DEFAULT_KUBECONFIG
    configuration = client.Configuration()
    try:
        config.load_kube_config(path, context=context, client_configuration=configuration)  # type: ignore[no-untyped-call]
        chosen = _context(path, context)
    except (config.ConfigException, yaml.YAMLError, OSError) as problem:
        raise Failure(f"kubeconfig {path}: {_complaint(problem, path)}") from problem
    found = namespace or chosen["context"].get("namespace") or DEFAULT_NAMESPACE
    return Connection(client.ApiClient(configuration), path, chosen["name"], found)


def deployment(connection: Connection, name: str) -> dict[str, Any]:
    """The AdapterDeployment of this name; Failure where there is none."""
    # Imported here, as the models take a third of a second that only some commands need.
    from posttrain_api.v1alpha1.adapter_deployment import KIND, PLURAL

    api = client.CustomObjectsApi(connection.client)
    try:
        with connection.explained():
            found: Any = api.get_namespaced_custom_object(GROUP, VERSION, connection.namespace, PLURAL, name)
    except Failure as problem:
        if isinstance(problem.__cause__, ApiException) and problem.__cause__.status == 404:
            raise Failure(f'{KIND} "{name}" not found in namespace {connection.namespace}') from problem
        raise
    made: dict[str, Any] = found
    return made


def _context(path: str, name: str | None) -> dict[str, Any]:
    every, active = config.list_kube_config_contexts(path)  # type: ignore[no-untyped-call]
    found: dict[str, Any] = next((known for known in every if known["name"] == name), active)
    return found


def _complaint(problem: Exception, path: str) -> str:
    """What is wrong with a kubeconfig; the library says of a missing file only that there is no configuration."""
    if not any(Path(part).expanduser().exists() for part in path.split(":")):
        return "there is no such file; name one with --kubeconfig or KUBECONFIG"
    return one_line(str(problem))


def _refusal(problem: ApiException) -> str:
    said = _message(problem)
    match problem.status:
        case 401:
            return "the API server does not accept these credentials"
        case 403:
            return f"the API server does not allow this: {said}"
        case 404:
            return f"the cluster does not know {GROUP}/{VERSION}: is posttrain installed there?"
    return f"the API server answered {problem.status}: {said}"


def _message(problem: ApiException) -> str:
    """The sentence in the API server's answer; a proxy before it may answer without JSON."""
    try:
        said = json.loads(problem.body or "")["message"]
    except (ValueError, KeyError, TypeError):
        said = problem.body or problem.reason or ""
    return one_line(str(said))[:500]


def _cause(problem: urllib3.exceptions.HTTPError) -> str:
    """The innermost reason, without the objects that urllib3 prints around it."""
    reason = getattr(problem, "reason", None) or problem
    text = one_line(str(reason))
    return text.rpartition(">: ")[2].rpartition("): ")[2] or text
