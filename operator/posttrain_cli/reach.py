"""From the name of an AdapterDeployment, or a URL, to a server that answers and the models to compare on it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from posttrain_cli import chat, connect, forward


@dataclass(frozen=True)
class Cluster:
    """The user's choice of a cluster; None is kubectl's own choice."""

    kubeconfig: str | None = None
    context: str | None = None
    namespace: str | None = None
    kubectl: str = forward.KUBECTL


@dataclass(frozen=True)
class Server:
    """A URL, and the models to ask there."""

    url: str
    models: list[str]


@contextmanager
def server(
    deployment: str | None, *, url: str | None, adapters: Sequence[str], cluster: Cluster, console: Console
) -> Iterator[Server]:
    """A server for as long as the block lasts. Without adapters: all that are loaded. Failure where none answers."""
    if url:
        yield Server(url, chat.with_base(adapters or chat.served_models(url)))
        return
    assert deployment, "without a URL there is a name"
    name = deployment.rpartition("/")[2]
    connection = connect.connect(kubeconfig=cluster.kubeconfig, context=cluster.context, namespace=cluster.namespace)
    found = connect.deployment(connection, name)
    chat.check_available(found)
    if not adapters and (missing := chat.unloaded_adapters(found)):
        console.print(Text(f"not loaded yet: {', '.join(missing)}", "yellow"), soft_wrap=True)
    models = chat.with_base(adapters or chat.loaded_adapters(found))
    with forward.service(
        name,
        namespace=connection.namespace,
        kubeconfig=cluster.kubeconfig,
        context=cluster.context,
        kubectl=cluster.kubectl,
    ) as local:
        yield Server(local, models)
