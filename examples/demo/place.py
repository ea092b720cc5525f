"""The cluster that the demo works on, through the programs that a user has too: kubectl and helm."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from posttrain_cli.failure import Failure, one_line

REPOSITORY = Path(__file__).parents[2]
NAMESPACE = "default"
OPERATOR_NAMESPACE = "posttrain-system"
RELEASE = "posttrain"
TIMEOUT_SECONDS = 180
VALUES = (
    "defaultPodTemplate.runtimeClassName=posttrain-local",
    "operator.runtimeClassName=posttrain-local",
    "artifactsClaim.size=1Gi",
)
"""What a cluster without images and with small volumes needs."""


@dataclass(frozen=True)
class Place:
    """A kubeconfig, and the programs to use it with."""

    kubeconfig: Path
    kubectl_program: Path
    helm_program: Path

    def kubectl(self, *arguments: str, given: str | None = None) -> str:
        """Run kubectl in the demo's namespace; what it printed. Failure with what it complained of."""
        done = _run(self.kubectl_program, f"--kubeconfig={self.kubeconfig}", f"-n={NAMESPACE}", *arguments, given=given)
        return _output(done, f"kubectl {arguments[0]}")

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Server-side apply of these objects."""
        every = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.kubectl("apply", "--server-side", "-f", "-", given=json.dumps(every))

    def get(self, kind: str, *names: str) -> list[dict[str, Any]]:
        """Those of these objects that there are."""
        shown = self.kubectl("get", kind, *names, "--ignore-not-found", "-o", "json")
        found = json.loads(shown) if shown else {"items": []}
        items: list[dict[str, Any]] = found.get("items", [found])
        return items

    def install_operator(self) -> None:
        """Install or upgrade posttrain by its chart; returns when the operator is ready."""
        if self._is_interrupted():
            _output(self._helm("uninstall", RELEASE, "--wait"), "helm uninstall")
        chart = str(REPOSITORY / "charts" / "posttrain")
        values = [f"--set={value}" for value in VALUES]
        flags = ["--create-namespace", "--wait", "--timeout=2m"]
        _output(self._helm("upgrade", "--install", RELEASE, chart, *flags, *values), "helm upgrade")

    def _is_interrupted(self) -> bool:
        """Whether an installation was cut off; helm then refuses the next one."""
        done = self._helm("status", RELEASE, "-o", "json")
        return done.returncode == 0 and bool(json.loads(done.stdout)["info"]["status"].startswith("pending"))

    def _helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        where = (f"--kubeconfig={self.kubeconfig}", f"--namespace={OPERATOR_NAMESPACE}")
        return _run(self.helm_program, *where, *arguments)


def _run(program: Path, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [str(program), *arguments]
    try:
        return subprocess.run(
            command, input=given, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as problem:
        raise Failure(f"{program.name} did not end within {TIMEOUT_SECONDS} s") from problem


def _output(done: subprocess.CompletedProcess[str], what: str) -> str:
    if done.returncode:
        raise Failure(f"{what}: {one_line(done.stderr or done.stdout)}")
    return done.stdout
