"""What the demo does with kubectl and helm, on programs that note how they were called."""

import json
import os
import stat
from pathlib import Path

import pytest
from examples.demo import shell
from examples.demo.__main__ import remove_failed
from examples.demo.place import Place

from posttrain_cli.failure import Failure

NOTING = """#!/bin/sh
echo "$@" >> {calls}
case "$*" in
{cases}
esac
"""


class Programs:
    """kubectl and helm as scripts: each notes its arguments and answers what the test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls = folder / "calls"
        self.calls.touch()

    def place(self, **cases: str) -> Place:
        """A place with both programs; a case is a word in the arguments and the shell command to answer with."""
        written = "\n".join(f"*{word}*) {command};;" for word, command in cases.items())
        for name in ("kubectl", "helm"):
            path = self.folder / name
            path.write_text(NOTING.format(calls=self.calls, cases=written))
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return Place(self.folder / "kubeconfig", self.folder / "kubectl", self.folder / "helm")

    def called(self) -> list[str]:
        """The first word after the flags of each call."""
        lines = self.calls.read_text().splitlines()
        return [next(word for word in line.split() if not word.startswith("-")) for line in lines]


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


def status(word: str) -> str:
    return "echo '" + json.dumps({"info": {"status": word}}) + "'"


@pytest.mark.parametrize(
    ("found", "called"),
    [
        ("exit 1", ["status", "upgrade"]),
        (status("deployed"), ["status", "upgrade"]),
        (status("pending-install"), ["status", "uninstall", "upgrade"]),
    ],
    ids=["nothing is installed", "it is installed", "an installation was cut off"],
)
def test_the_operator_is_installed_whatever_is_there(programs: Programs, found: str, called: list[str]):
    programs.place(status=found).install_operator()
    assert programs.called() == called


def test_what_a_program_complains_of_is_told_in_one_line(programs: Programs):
    place = programs.place(apply="echo 'error: one' >&2; echo two >&2; exit 1")
    with pytest.raises(Failure, match=r"^kubectl apply: error: one two$"):
        place.apply({"kind": "ConfigMap"})


def test_only_runs_that_failed_are_removed(programs: Programs):
    def run(name: str, **conditions: str) -> dict[str, object]:
        found = [{"type": type_, "status": value} for type_, value in conditions.items()]
        return {"metadata": {"name": name}, "status": {"conditions": found}}

    runs = [run("dates", Ready="True"), run("numbers", Ready="False", Stalled="True")]
    place = programs.place(get="echo '" + json.dumps({"kind": "List", "items": runs}) + "'")
    remove_failed(place)
    assert [line for line in programs.calls.read_text().splitlines() if " delete " in line] == [
        f"--kubeconfig={place.kubeconfig} -n=default delete trainingrun numbers"
    ]


@pytest.mark.parametrize(
    ("shown", "names"),
    [("", []), ('{"metadata": {"name": "one"}}', ["one"])],
    ids=["none is there", "one is there"],
)
def test_get_gives_what_there_is(programs: Programs, shown: str, names: list[str]):
    place = programs.place(get=f"echo -n '{shown}'" if shown else "true")
    assert [item["metadata"]["name"] for item in place.get("trainingruns", "one")] == names


def test_the_folder_for_the_path_has_the_plugin(programs: Programs, tmp_path: Path):
    place, folder = programs.place(), tmp_path / "bin"
    shell.make_folder(folder, place)
    shell.make_folder(folder, place)
    assert sorted(path.name for path in folder.iterdir()) == ["helm", "kubectl", "kubectl-posttrain"]
    assert all(os.access(path, os.X_OK) for path in folder.iterdir())
    assert f"export PATH={folder}:$PATH" in shell.next_steps(folder, place)
