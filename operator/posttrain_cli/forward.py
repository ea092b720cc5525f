"""A way from this machine to a Service in the cluster: `kubectl port-forward` for as long as it is needed.

kubectl does it rather than the Python client, whose port-forward is a single socket without a listener and without
the choice of a ready pod behind a Service.
"""

import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

from posttrain_cli.failure import Failure, one_line

KUBECTL = "kubectl"
END_SECONDS = 3.0
"""What kubectl gets to end by itself."""


@contextmanager
def service(
    name: str,
    *,
    namespace: str,
    port: int = 80,
    kubeconfig: str | None = None,
    context: str | None = None,
    kubectl: str = KUBECTL,
) -> Iterator[str]:
    """A local URL of a Service's port, such as http://127.0.0.1:41234, while the block lasts; Failure without a way."""
    command = [kubectl, *_where(kubeconfig, context), f"--namespace={namespace}"]
    command += ["port-forward", "--address=127.0.0.1", f"svc/{name}", f":{port}"]
    with tempfile.TemporaryFile("w+") as complaints:
        process = _started(command, complaints)
        try:
            yield f"http://127.0.0.1:{_local_port(process, complaints, target=f'svc/{name}')}"
        finally:
            _end(process)


def _where(kubeconfig: str | None, context: str | None) -> list[str]:
    """kubectl's flags. A list of several files can only come from KUBECONFIG, which kubectl reads itself."""
    is_file = kubeconfig and os.pathsep not in kubeconfig
    return [*([f"--kubeconfig={kubeconfig}"] if is_file else []), *([f"--context={context}"] if context else [])]


def _started(command: list[str], complaints: IO[str]) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints, text=True)
    except OSError as problem:
        raise Failure(f"{command[0]} is needed to reach the service: {problem.strerror}; or give --url") from problem


def _local_port(process: subprocess.Popen[str], complaints: IO[str], *, target: str) -> int:
    """The port that kubectl chose; returns when it listens."""
    assert process.stdout is not None
    first = process.stdout.readline()
    found = re.search(r"127\.0\.0\.1:(\d+)", first)
    if not found:
        process.wait()
        complaints.seek(0)
        raise Failure(f"no way to {target}: {one_line(complaints.read()) or 'kubectl ended without a word'}")
    # kubectl prints a line for each connection and would stop at a full pipe.
    threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()
    return int(found[1])


def _drain(lines: IO[str]) -> None:
    # The file is closed under this thread when the way is given up.
    with suppress(ValueError):
        for _ in lines:
            pass


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
