"""A real kube-apiserver with the controllers but without a node: Jobs get pods, and the tests play the kubelet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.live import Access

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def access() -> Iterator[Access]:
    """A fresh control plane with our CRDs."""
    cluster = Cluster("api")
    cluster.down()
    cluster.up(nodes=0)
    access = Access(cluster.kubeconfig, None, cluster.binary("kubectl"))
    applied = access.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    assert applied.returncode == 0, applied.stderr
    established = access.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    assert established.returncode == 0, established.stderr
    yield access
    assert cluster.down() == []
