"""The port-forward, with a stand-in for kubectl that says what kubectl says."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from posttrain_cli import forward
from posttrain_cli.failure import Failure

Kubectl = Callable[[str], str]


@pytest.fixture
def kubectl(tmp_path: Path) -> Kubectl:
    """Makes a kubectl of a few lines of shell, which first writes down its process id and arguments."""

    def made(script: str) -> str:
        program = tmp_path / "kubectl"
        program.write_text(f'#!/bin/sh\necho $$ > {tmp_path}/pid\necho "$@" > {tmp_path}/arguments\n{script}\n')
        program.chmod(0o755)
        return str(program)

    return made


def test_the_way_is_open_while_the_block_lasts(kubectl: Kubectl, tmp_path: Path):
    program = kubectl('echo "Forwarding from 127.0.0.1:4711 -> 8000"\nexec tail -f /dev/null')
    with forward.service("assistants", namespace="team", kubeconfig="/k", context="c", kubectl=program) as url:
        assert url == "http://127.0.0.1:4711"
        pid = int((tmp_path / "pid").read_text())
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert (tmp_path / "arguments").read_text().split() == [
        "--kubeconfig=/k",
        "--context=c",
        "--namespace=team",
        "port-forward",
        "--address=127.0.0.1",
        "svc/assistants",
        ":80",
    ]


def test_the_process_ends_where_the_block_fails(kubectl: Kubectl, tmp_path: Path):
    program = kubectl('echo "Forwarding from 127.0.0.1:4711 -> 8000"\nexec tail -f /dev/null')
    with pytest.raises(KeyError), forward.service("assistants", namespace="team", kubectl=program):
        json.loads("{}")["missing"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_more_than_a_pipe_of_messages_does_not_stop_kubectl(kubectl: Kubectl, tmp_path: Path):
    done = tmp_path / "done"
    os.mkfifo(done)
    program = kubectl(
        'echo "Forwarding from 127.0.0.1:4711 -> 8000"\n'
        f'yes "Handling connection for 4711" | head -n 20000\necho said > {done}\nexec tail -f /dev/null'
    )
    with forward.service("assistants", namespace="team", kubectl=program):
        assert done.read_text() == "said\n"


def test_several_kubeconfigs_are_left_to_kubectl(kubectl: Kubectl, tmp_path: Path):
    program = kubectl('echo "Forwarding from 127.0.0.1:4711 -> 8000"\nexec tail -f /dev/null')
    with forward.service("assistants", namespace="team", kubeconfig="/a:/b", kubectl=program):
        assert "kubeconfig" not in (tmp_path / "arguments").read_text()


FAILURES = {
    "kubectl complains": ('echo "services \\"assistants\\" not found" >&2\nexit 1', 'services "assistants" not found'),
    "kubectl says nothing": ("exit 1", "kubectl ended without a word"),
}


@pytest.mark.parametrize(("script", "expected"), FAILURES.values(), ids=FAILURES.keys())
def test_no_way_is_a_failure(kubectl: Kubectl, script: str, expected: str):
    with (
        pytest.raises(Failure, match=f"no way to svc/assistants: .*{expected}"),
        forward.service("assistants", namespace="team", kubectl=kubectl(script)),
    ):
        raise AssertionError("there is no way")


def test_without_kubectl_there_is_another_way():
    with (
        pytest.raises(Failure, match=r"/no/kubectl is needed to reach the service: .*; or give --url"),
        forward.service("assistants", namespace="team", kubectl="/no/kubectl"),
    ):
        raise AssertionError("there is no way")
