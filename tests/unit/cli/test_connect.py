"""Which cluster a command speaks to, and what it says when that does not work."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.unit.cli import builders
from tests.unit.cli.api_stand_in import Object, api_server

from posttrain_cli import connect
from posttrain_cli.connect import Connection
from posttrain_cli.failure import Failure


def kubeconfig(path: Path, *contexts: str, current: str | None = None, server: str = "http://127.0.0.1:1") -> str:
    """A kubeconfig whose contexts all mean one cluster, and the namespace of their own name."""
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "here", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": {"token": "secret-token"}}],
        "contexts": [
            {"name": name, "context": {"cluster": "here", "user": "me", "namespace": f"ns-{name}"}} for name in contexts
        ],
        **({"current-context": current} if current else {}),
    }
    path.write_text(yaml.safe_dump(content))
    return str(path)


def chosen(made: Connection) -> tuple[str, str]:
    """Context and namespace."""
    return made.context, made.namespace


def test_context_and_namespace_are_chosen_as_kubectl_does(tmp_path: Path):
    path = kubeconfig(tmp_path / "config", "a", "b", current="a")
    assert chosen(connect.connect(kubeconfig=path)) == ("a", "ns-a")
    assert chosen(connect.connect(kubeconfig=path, context="b")) == ("b", "ns-b")
    assert chosen(connect.connect(kubeconfig=path, context="b", namespace="c")) == ("b", "c")


def test_several_kubeconfigs_count_as_one(tmp_path: Path):
    one, two = kubeconfig(tmp_path / "one", "a"), kubeconfig(tmp_path / "two", "b", current="b")
    assert chosen(connect.connect(kubeconfig=f"{one}:{tmp_path}/missing:{two}")) == ("b", "ns-b")
    assert chosen(connect.connect(kubeconfig=f"{one}:{two}", context="a")) == ("a", "ns-a")


def test_a_context_can_be_named_where_none_is_the_current_one(tmp_path: Path):
    path = kubeconfig(tmp_path / "config", "a", "b")
    assert chosen(connect.connect(kubeconfig=path, context="b")) == ("b", "ns-b")
    with pytest.raises(Failure, match=r"no context is the current one: choose by --context \(it has: a, b\)"):
        connect.connect(kubeconfig=path)


def test_an_unknown_context_is_a_failure(tmp_path: Path):
    path = kubeconfig(tmp_path / "config", "a", current="a")
    with pytest.raises(Failure, match=rf'kubeconfig {path}: there is no context "x" \(it has: a\)'):
        connect.connect(kubeconfig=path, context="x")


@pytest.mark.parametrize("content", ["", "just text", "[1, 2]", "{unclosed: ["])
def test_what_is_no_kubeconfig_is_a_failure(tmp_path: Path, content: str):
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(Failure, match=f"kubeconfig {path}: "):
        connect.connect(kubeconfig=str(path))


def test_a_missing_kubeconfig_is_a_failure():
    with pytest.raises(Failure, match="kubeconfig /no/such: there is no such file"):
        connect.connect(kubeconfig="/no/such")


REFUSALS: dict[str, tuple[list[Object] | int, str]] = {
    "no credentials": (401, "the API server does not accept these credentials"),
    "no right": (403, 'the API server does not allow this: "trainingruns" refused with 403'),
    "no such kind": (404, "the cluster does not know posttrain.dev/v1alpha1: is posttrain installed there?"),
    "in trouble": (500, 'the API server answered 500: "trainingruns" refused with 500'),
}


@pytest.mark.parametrize(("answer", "expected"), REFUSALS.values(), ids=REFUSALS.keys())
def test_a_refusal_is_told_with_its_cluster(tmp_path: Path, answer: Any, expected: str):
    with api_server(lists={"trainingruns": [answer]}) as server:
        path = kubeconfig(tmp_path / "config", "a", current="a", server=server.url)
        made = connect.connect(kubeconfig=path, namespace="team")
        with pytest.raises(Failure) as failure, made.explained():
            connect.get(made.client, "team", "trainingruns")
    assert str(failure.value) == f"{expected} (context a of {path})"


def test_a_cluster_that_is_not_there_is_told(tmp_path: Path):
    path = kubeconfig(tmp_path / "config", "a", current="a")
    made = connect.connect(kubeconfig=path)
    with pytest.raises(Failure) as failure, made.explained():
        connect.get(made.client, "team", "trainingruns")
    told = str(failure.value)
    assert told.startswith("cannot reach the cluster at http://127.0.0.1:1: Failed to establish a new connection: ")
    assert told.endswith(f"Connection refused (context a of {path})")


def test_a_deployment_is_found_by_its_name(tmp_path: Path):
    with api_server(
        lists={"adapterdeployments/assistants": [builders.deployment()], "adapterdeployments/x": [404]}
    ) as server:
        path = kubeconfig(tmp_path / "config", "a", current="a", server=server.url)
        made = connect.connect(kubeconfig=path, namespace="team")
        assert connect.deployment(made, "assistants") == builders.deployment()
        with pytest.raises(Failure, match='AdapterDeployment "x" not found in namespace team'):
            connect.deployment(made, "x")
