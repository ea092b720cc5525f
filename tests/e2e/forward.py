"""A way from the test to a port in the cluster, through `kubectl port-forward`."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.live import Namespace


@contextmanager
def forwarded(namespace: Namespace, target: str, port: int) -> Iterator[str]:
    """A local URL of a port of `svc/NAME` or `pod/NAME`, for as long as the block lasts."""
    context = [f"--context={namespace.access.context}"] if namespace.access.context else []
    command = [str(namespace.access.kubectl_program), f"--kubeconfig={namespace.access.kubeconfig}", *context]
    command += ["--namespace", namespace.name, "port-forward", "--address=127.0.0.1", target, f":{port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            found = re.search(r"127\.0\.0\.1:(\d+)", first)
            assert found, f"no way to {target}: {first!r}"
            yield f"http://127.0.0.1:{found[1]}"
        finally:
            process.terminate()
