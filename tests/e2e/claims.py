"""Files on claims of any cluster: a helper pod mounts the claim, `kubectl cp` carries."""

from pathlib import Path
from typing import Any

from tests.live import Namespace

MOUNT = "/claim"
_WAIT = "import signal; signal.signal(signal.SIGTERM, lambda *_: exit(0)); signal.pause()"


def make(namespace: Namespace, name: str) -> None:
    """A claim of the default storage class."""
    namespace.apply(
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": name},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
        }
    )


class Files:
    """The files of one claim, through a pod that mounts it."""

    def __init__(self, namespace: Namespace, claim: str, runtime_class: dict[str, Any]) -> None:
        self.namespace = namespace
        self.pod = f"files-{claim}"
        namespace.apply(_pod(self.pod, claim, runtime_class))
        namespace.wait_for("Pod", self.pod, lambda pod: pod["status"]["phase"] == "Running", within=60, what="running")

    def put(self, local: Path, path: str) -> None:
        """Copy a file or folder to a path of the claim that is not there yet."""
        self._run("exec", self.pod, "--", "mkdir", "-p", str(Path(MOUNT, path).parent))
        self._run("cp", str(local), f"{self.pod}:{MOUNT}/{path}")

    def get(self, path: str, local: Path) -> Path:
        """Copy a file or folder of the claim to a local path."""
        self._run("cp", f"{self.pod}:{MOUNT}/{path}", str(local))
        return local

    def list(self, path: str = ".") -> list[str]:
        """Every path below a folder of the claim."""
        return self._run("exec", self.pod, "--", "find", f"{MOUNT}/{path}").split()

    def _run(self, *arguments: str) -> str:
        shown = self.namespace.kubectl(*arguments)
        assert shown.returncode == 0, shown.stderr
        return shown.stdout


def _pod(name: str, claim: str, runtime_class: dict[str, Any]) -> dict[str, Any]:
    container = {
        "name": "files",
        "image": "posttrain.dev/trainer:0.1.0",
        "command": ["python3", "-c", _WAIT],
        "volumeMounts": [{"name": "claim", "mountPath": MOUNT}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            **runtime_class,
            "securityContext": {"runAsUser": 65532, "fsGroup": 65532},
            "containers": [container],
            "volumes": [{"name": "claim", "persistentVolumeClaim": {"claimName": claim}}],
            "terminationGracePeriodSeconds": 1,
        },
    }
