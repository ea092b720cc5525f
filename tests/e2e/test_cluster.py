"""The local cluster itself: up within 20 s, everything that pods need, and nothing left after down."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from tests.cluster import RUNTIME_CLASS, Cluster, images, layout, leftovers, waiting

pytestmark = pytest.mark.e2e
NAME = "lifecycle"
PROGRAM = """
import os, pathlib, socket, ssl, sys
print("python", sys.version.split()[0], sys.prefix, "as", os.getuid())
print("address", socket.gethostbyname("kubernetes.default"))
socket.create_connection(("kubernetes.default", 443), timeout=5)
print("reached")
pathlib.Path("/out/file").write_text("from the pod")
try:
    pathlib.Path("/usr/file").write_text("")
except OSError as error:
    print("refused", error.strerror)
"""
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster of this file alone, which is gone afterwards whatever happens."""
    cluster = Cluster(NAME)
    cluster.binary("kubectl")
    cluster.down()
    yield cluster
    assert cluster.down() == []


def kubectl(cluster: Cluster, *arguments: str, given: object = None) -> str:
    command = [str(cluster.binary("kubectl")), f"--kubeconfig={cluster.kubeconfig}", *arguments]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=90, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def pod(name: str, *, command: list[str], num_gpus: int = 0) -> dict[str, object]:
    """A pod under the restrictions of production, with the claim `out`."""
    container = {
        "name": "main",
        "image": f"posttrain.dev/base:{images.project_version()}",
        "command": command,
        "volumeMounts": [{"name": "out", "mountPath": "/out"}],
        "resources": {"limits": {"nvidia.com/gpu": num_gpus}},
        "securityContext": RESTRICTED,
    }
    spec = {
        "runtimeClassName": RUNTIME_CLASS,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "out", "persistentVolumeClaim": {"claimName": "out"}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_a_cluster_starts_runs_pods_crashes_and_leaves_nothing(cluster: Cluster) -> None:
    start = time.monotonic()
    cluster.up()
    assert time.monotonic() - start <= 20
    folder = cluster.volume("default", "out")

    python = ["/opt/posttrain/env/trainer/bin/python", "-c", PROGRAM]
    kubectl(cluster, "apply", "-f-", given=pod("probe", command=python, num_gpus=8))
    kubectl(cluster, "wait", "pod/probe", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    shown = kubectl(cluster, "logs", "probe")
    assert "/opt/posttrain/env/trainer as 65532" in shown
    assert "reached" in shown
    assert "refused Read-only file system" in shown
    assert (folder / "file").read_text() == "from the pod"

    kubectl(cluster, "apply", "-f-", given=pod("sleeper", command=["/bin/sleep", "600"]))
    kubectl(cluster, "wait", "pod/sleeper", "--for=condition=Ready", "--timeout=60s")
    assert kubectl(cluster, "exec", "sleeper", "--", "cat", "/out/file") == "from the pod"

    cluster.restart("kubelet-0")
    cluster.up()
    allocatable = "jsonpath={.items[0].status.allocatable.nvidia\\.com/gpu}"
    assert kubectl(cluster, "get", "nodes", "-o", allocatable) == "8"

    cluster.crash()
    assert not cluster.is_healthy()
    assert leftovers(NAME) != []
    start = time.monotonic()
    assert cluster.down() == []
    assert time.monotonic() - start <= 10
    assert leftovers(NAME) == []


def test_a_start_that_was_cut_off_leaves_nothing_after_down(cluster: Cluster) -> None:
    command = [sys.executable, "-m", "tests.cluster", "up", "--name", NAME]
    starting = subprocess.Popen(command, cwd=layout.REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    waiting.until(lambda: "kubelet-0" in cluster.components(), what="the kubelet to start", timeout_seconds=20)
    starting.kill()
    starting.wait()
    assert leftovers(NAME) != []
    assert cluster.down() == []


def test_a_control_plane_alone_is_up_in_seconds_and_replaced_when_half_dead(cluster: Cluster) -> None:
    cluster.up(nodes=0)
    assert kubectl(cluster, "get", "namespaces", "default", "-o", "name") == "namespace/default\n"
    cluster.stop("etcd")
    cluster.up(nodes=0)
    assert cluster.is_healthy()
    assert all(cluster.components().values())
