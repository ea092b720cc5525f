"""A real kube-apiserver with the controllers but without a node: Jobs get pods, and the tests play the kubelet."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3
from tests.cluster import Cluster
from tests.live import Access

ROOT = Path(__file__).parents[2]
METRICS_PORT = 18080
PROBE_PORT = 18081


@pytest.fixture(scope="session")
def access() -> Iterator[Access]:
    """A fresh control plane with our CRDs."""
    cluster = Cluster(os.environ.get("POSTTRAIN_TEST_PREFIX", "") + "api")
    cluster.down()
    cluster.up(nodes=0)
    access = Access(cluster.kubeconfig, None, cluster.binary("kubectl"))
    applied = access.kubectl("apply", "--server-side", "-f", str(ROOT / "crds"))
    assert applied.returncode == 0, applied.stderr
    established = access.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    assert established.returncode == 0, established.stderr
    # A garbage collector that is already running learns of new kinds only within half a minute, and then backs off.
    cluster.restart("kube-controller-manager")
    yield access
    assert cluster.down() == []


@pytest.fixture(scope="session")
def operator(access: Access, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The operator as a process beside the control plane; it must end cleanly when it is told to."""
    log = tmp_path_factory.mktemp("operator") / "log"
    settings = {
        "KUBECONFIG": str(access.kubeconfig),
        "POSTTRAIN_TRAINER_IMAGE": "posttrain.dev/trainer:0.1.0",
        "POSTTRAIN_SERVER_IMAGE": "posttrain.dev/server:0.1.0",
        "POSTTRAIN_METRICS_PORT": str(METRICS_PORT),
        "POSTTRAIN_PROBE_PORT": str(PROBE_PORT),
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "posttrain_operator"], env={**os.environ, **settings}, stderr=output
        )
        try:
            wait_until_ready(process, log)
            yield
        finally:
            process.terminate()
            ended = process.wait(timeout=30)
    assert ended == 0, log.read_text()[-3000:]


def wait_until_ready(process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Return when the operator's readiness probe answers."""
    retry = urllib3.Retry(
        total=None, connect=100, status=100, status_forcelist=[503], backoff_factor=0.1, backoff_max=0.3
    )
    answer = urllib3.request("GET", f"http://127.0.0.1:{PROBE_PORT}/readyz", retries=retry)
    assert answer.status == 200, log.read_text()[-3000:]
    assert process.poll() is None, log.read_text()[-3000:]
