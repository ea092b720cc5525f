"""The program as a person starts it: its help, its exit codes, and its end by Ctrl-C."""

import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.unit.cli import builders, manifests
from tests.unit.cli.api_stand_in import api_server
from tests.unit.cli.openai_stand_in import last_turn, openai_server, says
from tests.unit.cli.test_connect import kubeconfig

PROGRAM = (sys.executable, "-m", "posttrain_cli")
SOURCES = Path(__file__).parents[3] / "operator"

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts the program with these arguments, without a kubeconfig unless one is given."""

    def started(*arguments: str, **options: object) -> "subprocess.Popen[str]":
        environment = {"PYTHONPATH": str(SOURCES), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "COLUMNS": "200"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([*PROGRAM, *arguments], env=environment, text=True, **{**pipes, **options})

    return started


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["watch", "--help"],
        ["chat", "--help"],
        ["validate", "--help"],
        ["estimate", "--help"],
        ["recommend", "--help"],
        ["preflight", "--help"],
        ["env", "--help"],
        ["env", "test", "--help"],
        ["env", "init", "--help"],
    ],
    ids=" ".join,
)
def test_help_is_instant(start: Start, arguments: list[str]):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    output, _ = start(*arguments).communicate()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "Usage: kubectl posttrain" in output
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.0


@pytest.mark.parametrize("command", ["chat", "env"])
def test_help_imports_nothing_heavy(command: str):
    program = (
        f"import sys; from posttrain_cli.__main__ import main; sys.argv[1:] = ['{command}', '--help']\n"
        "try: main()\n"
        "except SystemExit: print('loaded:', *{'kubernetes', 'openai', 'posttrain_api', 'yaml'} & set(sys.modules))"
    )
    environment = {"PYTHONPATH": str(SOURCES)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1].strip() == "loaded:"


def test_a_user_error_is_one_line(start: Start):
    process = start("watch")
    assert process.communicate() == (
        "",
        "error: kubeconfig ~/.kube/config: there is no such file; name one with --kubeconfig or KUBECONFIG\n",
    )
    assert process.returncode == 1


def test_chat_needs_a_deployment_or_a_url(start: Start):
    process = start("chat", "-m", "hello")
    _, said = process.communicate()
    assert "give the name of an AdapterDeployment, or --url" in said
    assert process.returncode == 2


def test_validate_reads_files_and_standard_input(start: Start, tmp_path: Path):
    file = manifests.written(tmp_path / "a.yaml", manifests.run("a"))
    process = start("validate", "-f", file, "-f", "-", "--known", "b")
    output, said = process.communicate(yaml.safe_dump(manifests.run("c", start=manifests.after("b"))))
    assert (output.splitlines(), said, process.returncode) == (["trun/a: ok", "trun/c: ok"], "", 0)


def test_recommend_asks_beside_the_manifest(start: Start):
    process = start("recommend", "--base", "pvc://models/base", "--name", "helper")
    output, said = process.communicate("nothing\npairs\n5000\nn\n\n")
    assert process.returncode == 0
    assert "'nothing' is not one of" in said
    assert [run["spec"]["method"] for run in yaml.safe_load_all(output)] == ["sft", "dpo"]


def test_recommend_asks_nothing_that_an_option_says(start: Start):
    options = ["--have", "teacher", "--rows", "9", "--base", "file:///b", "--tuned", "--data", "file:///d"]
    output, said = start("recommend", *options, "--teacher", "file:///t").communicate()
    assert said == ""
    assert yaml.safe_load(output)["spec"]["distill"] == {"teacher": {"uri": "file:///t"}}


def test_env_init_writes_where_it_is_called(start: Start, tmp_path: Path):
    process = start("env", "init", "sums", "--kind", "json", cwd=tmp_path)
    output, said = process.communicate()
    assert (output.splitlines()[-1], said) == ("next: kubectl posttrain env test -f sums/run.yaml", "")
    process = start("env", "test", "-f", "sums/run.yaml", "--python", "/no/such/python", cwd=tmp_path)
    output, said = process.communicate()
    assert "--python /no/such/python: cannot be started" in output
    assert (process.returncode, said) == (1, "")


def test_watch_ends_with_its_verdict(start: Start, tmp_path: Path):
    with api_server(lists={"trainingruns": [[builders.failed()]]}) as server:
        path = kubeconfig(tmp_path / "config", "a", current="a", server=server.url)
        process = start("watch", "-n", "team", "--kubeconfig", path)
        output, said = process.communicate()
    assert output.splitlines()[-1] == "trun/numbers failed: DatasetInvalid: row 3 has no answer"
    assert (process.returncode, said) == (1, "")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["Ctrl-C", "SIGTERM"])
def test_watch_can_be_ended(start: Start, tmp_path: Path, number: signal.Signals, code: int):
    with api_server(lists={"trainingruns": [[builders.run()]]}) as server:
        path = kubeconfig(tmp_path / "config", "a", current="a", server=server.url)
        process = start("watch", "-n", "team", "--kubeconfig", path)
        assert process.stdout is not None
        assert process.stdout.readline() == "trun/dates: New (waits for the operator to see it)\n"
        process.send_signal(number)
        assert process.communicate() == ("", "")
    assert process.returncode == code


def test_chat_reads_lines_where_there_is_no_terminal(start: Start):
    with openai_server(base=says("hm"), dates=last_turn) as server:
        process = start("chat", "--url", server.url)
        output, said = process.communicate("one\ntwo\n")
    lines = ["> one", "base: hm", "dates: ONE", "> two", "base: hm", "dates: TWO"]
    assert (output.splitlines(), said, process.returncode) == (lines, "", 0)


def test_chat_reaches_a_deployment_through_a_port_forward(start: Start, tmp_path: Path):
    item = builders.serving(
        builders.adapter("dates", "Loaded"), builders.adapter("numbers", "Loading"), conditions=builders.ready()
    )
    with (
        openai_server(base=says("hm"), dates=last_turn) as answering,
        api_server(lists={"adapterdeployments/assistants": [item]}) as server,
    ):
        kubectl = tmp_path / "kubectl"
        port = answering.url.rpartition(":")[2]
        kubectl.write_text(f"#!/bin/sh\necho 'Forwarding from 127.0.0.1:{port} -> 8000'\nexec tail -f /dev/null\n")
        kubectl.chmod(0o755)
        path = kubeconfig(tmp_path / "config", "a", current="a", server=server.url)
        arguments = ["adep/assistants", "-n", "team", "--kubeconfig", path, "--kubectl", str(kubectl), "-m", "hello"]
        process = start("chat", *arguments)
        output, said = process.communicate()
    assert said == ""
    lines = ["not loaded yet: numbers (Loading)", "> hello", "base: hm", "dates: HELLO"]
    assert (output.splitlines(), process.returncode) == (lines, 0)
