"""A whole cluster with the chart installed: the local one, or the one that POSTTRAIN_TEST_CONTEXT names.

Any other cluster needs posttrain's images under the names of the chart's values, a default storage class, and the tiny
base model (`python -m examples.demo.base`) at the URI that POSTTRAIN_TEST_BASE says.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.demo.place import VALUES
from tests.cluster import Cluster
from tests.e2e.assistants import Assistants
from tests.e2e.forward import forwarded
from tests.live import Access, Namespace

ROOT = Path(__file__).parents[2]
OPERATOR_NAMESPACE = "posttrain-system"
LOCAL_VALUES = [f"--set={value}" for value in VALUES]


@pytest.fixture(scope="session")
def local_cluster() -> Iterator[Cluster | None]:
    """The cluster that this suite starts and removes, None where another is named."""
    if "POSTTRAIN_TEST_CONTEXT" in os.environ:
        yield None
        return
    cluster = Cluster(os.environ.get("POSTTRAIN_TEST_PREFIX", "") + "e2e")
    cluster.down()
    cluster.up(nodes=1)
    yield cluster
    assert cluster.down() == []


@pytest.fixture(scope="session")
def access(local_cluster: Cluster | None) -> Access:
    """The suite's cluster with the operator installed by its chart."""
    kubectl = Cluster().binary("kubectl")
    if local_cluster:
        found = Access(local_cluster.kubeconfig, None, kubectl)
    else:
        kubeconfig = Path(os.environ.get("KUBECONFIG", Path.home() / ".kube" / "config"))
        found = Access(kubeconfig, os.environ["POSTTRAIN_TEST_CONTEXT"], kubectl)
    install(found, LOCAL_VALUES if local_cluster else [])
    return found


def install(access: Access, values: list[str]) -> None:
    """helm upgrade --install, until the operator is ready."""
    context = [f"--kube-context={access.context}"] if access.context else []
    command = [
        str(Cluster().binary("helm")),
        f"--kubeconfig={access.kubeconfig}",
        *context,
        *("upgrade", "--install", "posttrain", str(ROOT / "charts" / "posttrain")),
        f"--namespace={OPERATOR_NAMESPACE}",
        *("--create-namespace", "--wait", "--timeout=2m"),
        *values,
    ]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert shown.returncode == 0, shown.stderr


@pytest.fixture(scope="session")
def base_uri(local_cluster: Cluster | None) -> str:
    """Where the tiny base model is for pods."""
    return "file:///models/tiny" if local_cluster else os.environ["POSTTRAIN_TEST_BASE"]


@pytest.fixture(scope="session")
def runtime_class(local_cluster: Cluster | None) -> dict[str, str]:
    """What helper pods of the tests need in their spec."""
    return {"runtimeClassName": "posttrain-local"} if local_cluster else {}


@pytest.fixture(scope="module")
def shared(access: Access, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """One namespace for all tests of a module."""
    made = Namespace(access, request.module.__name__.rsplit(".", 1)[-1].replace("_", "-"))
    made.create()
    yield made
    made.remove()


@pytest.fixture(scope="session")
def assistants(
    access: Access, base_uri: str, runtime_class: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Assistants]:
    """The examples, trained and served, and a way to the service."""
    namespace = Namespace(access, "assistants")
    namespace.create()
    made = Assistants(namespace, base_uri, runtime_class, tmp_path_factory.mktemp("assistants"))
    made.start()
    made.wait()
    with forwarded(namespace, "svc/assistants", 80) as made.url:
        yield made
    namespace.remove()
