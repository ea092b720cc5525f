"""The way to the API server: kubeconfig, context and namespace, and what to say when it does not work."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
import yaml
from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config import kube_config

from posttrain_api.v1alpha1 import GROUP, VERSION
from posttrain_cli.failure import Failure, one_line

DEFAULT_KUBECONFIG = "~/.kube/config"
DEFAULT_NAMESPACE = "default"
TIMEOUT_SECONDS = (10.0, 90.0)
"""To connect, and between two bytes: a watch hears a bookmark every minute, so more silence is a dead line."""


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
        chosen = _context(path, context)
        config.load_kube_config(  # type: ignore[no-untyped-call]
            path, context=chosen["name"], client_configuration=configuration
        )
    except (config.ConfigException, yaml.YAMLError, OSError) as problem:
        raise Failure(f"kubeconfig {path}: {one_line(str(problem))}") from problem
    found = namespace or (chosen.get("context") or {}).get("namespace") or DEFAULT_NAMESPACE
    return Connection(client.ApiClient(configuration), path, chosen["name"], found)


def get(
    connection: client.ApiClient, namespace: str, plural: str, name: str = "", *, query: Mapping[str, str] | None = None
) -> urllib3.BaseHTTPResponse:
    """The answer to GET of our kind's objects or of one, not read yet. Raises ApiException and urllib3's HTTPError.

    Not through CustomObjectsApi: it calls through compiled code, and a thread within that, waiting for an answer when
    the program ends, would abort it.
    """
    path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")
    url = f"{connection.configuration.host}{path}?{urlencode(query or {})}"
    headers = {"Accept": "application/json"}
    connection.update_params_for_auth(headers, [], ["BearerToken"], "", "GET", None)
    answer = connection.call_api("GET", url, headers, _request_timeout=TIMEOUT_SECONDS)
    response: urllib3.BaseHTTPResponse = answer.response
    if response.status >= 300:
        raise ApiException(response.status, response.reason, body=response.data.decode(errors="replace"))
    return response


def deployment(connection: Connection, name: str) -> dict[str, Any]:
    """The AdapterDeployment of this name; Failure where there is none."""
    # Imported here, as the models take a third of a second that only some commands need.
    from posttrain_api.v1alpha1.adapter_deployment import KIND, PLURAL

    return named(connection, KIND, PLURAL, name)


def named(connection: Connection, kind: str, plural: str, name: str) -> dict[str, Any]:
    """The object of our kind and this name; Failure where there is none."""
    with connection.explained():
        try:
            found: dict[str, Any] = get(connection.client, connection.namespace, plural, name).json()
        except ApiException as problem:
            if problem.status == 404 and f'"{name}"' in _message(problem):
                raise Failure(f'{kind} "{name}" not found in namespace {connection.namespace}') from problem
            raise
    return found


def _context(path: str, name: str | None) -> dict[str, Any]:
    """Name and content of a context, of the current one where none is named."""
    merged = _merged(path)
    chosen = name or merged.get("current-context")
    known = {entry.value["name"]: entry.value for entry in merged["contexts"]}
    if chosen in known:
        found: dict[str, Any] = known[chosen]
        return found
    missing = f'there is no context "{chosen}"' if chosen else "no context is the current one: choose by --context"
    raise Failure(f"kubeconfig {path}: {missing} (it has: {', '.join(known) or 'none'})")


def _merged(path: str) -> dict[str, Any]:
    """The content of a kubeconfig, or of several with colons between; those that do not exist do not count."""
    files = [file for part in path.split(os.pathsep) if (file := Path(part).expanduser()).exists()]
    if not files:
        raise Failure(f"kubeconfig {path}: there is no such file; name one with --kubeconfig or KUBECONFIG")
    for file in files:
        if not isinstance(yaml.safe_load(file.read_text()), dict):
            raise Failure(f"kubeconfig {file}: this is no kubeconfig")
    merged: dict[str, Any] = kube_config.KubeConfigMerger(path).config.value  # type: ignore[no-untyped-call]
    return merged


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
