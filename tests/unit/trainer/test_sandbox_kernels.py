"""What confines foreign code where the kernel has an older Landlock, or none: seccomp and the user stay."""

import errno
import os
import platform
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tests.unit.trainer import sandboxes
from tests.unit.trainer.sandboxes import LIMITS

from posttrain_trainer.sandbox import kernel, landlock, processes, seccomp, warden, wire
from posttrain_trainer.sandbox.confinement import Setting
from posttrain_trainer.sandbox.landlock import Rules
from posttrain_trainer.sandbox.limits import MEBI

HOSTILE = Path(__file__).parent / "hostile"
UID = 73_000_000 + os.getpid()
# The warden is a fork of this process here, with all that the tests before have loaded.
ROOMY = replace(LIMITS, memory_bytes=8192 * MEBI)
OLDER = {"without Landlock": 0, "without signals": 5}


def said(version: int, function: str, machine: str = platform.machine()) -> Any:
    """What a warden answers on a kernel with this version of Landlock; its child has its user. When it has ended
    nothing is left."""
    mine, theirs = socket.socketpair()
    with mine, theirs:
        pid = os.fork()
        if pid == 0:
            _serve(theirs, version, machine)
        arguments = {"completions": ["a", "b"], "gold": ["a", "a"], "server": [pid] * 2, "port": [9, 9]}
        request = {"kind": "score", "folder": str(HOSTILE), "entrypoint": f"rewards:{function}"}
        wire.send(mine, {**request, "arguments": arguments, "limits": ROOMY.to_json()})
        mine.settimeout(60)
        found = wire.receive(mine, wire.MAX_ANSWER_BYTES)
        os.waitpid(pid, 0)
    assert os.geteuid() or not processes.num_tasks(UID), "something is left of the call"
    return found


def _serve(connection: socket.socket, version: int, machine: str) -> NoReturn:
    try:
        if os.geteuid() == 0:
            kernel.become(UID, platform.machine(), reading=True)
        kernel.set_dumpable(False)
        warden.serve(connection, Setting(os.geteuid(), version, machine))
    finally:
        os._exit(0)


@pytest.mark.parametrize("version", OLDER.values(), ids=OLDER)
@pytest.mark.parametrize(
    "attack",
    [
        "kills_its_parent",
        "signals_all",
        "traces_its_parent",
        "lowers_limits_of_its_parent",
        "writes_the_memory_of_the_server",
        "sends_a_datagram",
        "connects",
        "leaves_its_namespace",
    ],
)
def test_an_older_kernel_refuses_the_same(version: int, attack: str) -> None:
    assert said(version, attack)["failed"].startswith("raised PermissionError: ")


@pytest.mark.parametrize("version", OLDER.values(), ids=OLDER)
def test_an_older_kernel_scores(version: int) -> None:
    assert said(version, "good") == {"scores": [1.0, 0.0]}


def test_without_landlock_calls_cannot_look_into_each_other() -> None:
    assert said(0, "tells_who_may_look_into_it")["failed"].startswith("raised ValueError: user 0 ")


@pytest.mark.parametrize("machine", [platform.machine(), "riscv64"], ids=["with a filter", "without one"])
def test_what_left_its_group_ends_with_its_call(machine: str) -> None:
    assert said(landlock.version(), "leaves_a_daemon", machine) == {"scores": [0.5, 0.5]}


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_a_filter_is_a_program_without_jumps_out_of_it(machine: str) -> None:
    program = seccomp.program(machine, network=False, signals=False)
    jumps = {0x15, 0x35, 0x45}
    ends = [max(at + 1 + holds, at + 1 + not_) for at, (code, holds, not_, _) in enumerate(program) if code in jumps]
    assert max(ends) < len(program) <= 4096
    assert program[-1] == (0x06, 0, 0, 0x7FFF0000)


def test_a_machine_that_the_filter_does_not_know_goes_without() -> None:
    assert not seccomp.restrict("riscv64", network=False, signals=True)


def test_what_a_kernel_lacks_is_said() -> None:
    assert Setting(1, 7, "x86_64").lacks == []
    assert Setting(1, 0, "x86_64").lacks == ["Landlock: files are kept by their modes alone"]
    assert Setting(1, 3, "x86_64").lacks == ["Landlock for TCP", "Landlock for signals"]
    (lack,) = Setting(1, 7, "riscv64").lacks
    assert lack.startswith("filter of system calls for this machine")


@pytest.mark.skipif(landlock.version() == 0, reason="this kernel has no Landlock")
@pytest.mark.parametrize("version", range(1, landlock.version() + 1))
def test_landlock_leaves_what_the_rules_name_and_nothing_else(tmp_path: Path, version: int) -> None:
    for name in ("read", "write", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    (tmp_path / "other" / "link").symlink_to(tmp_path / "read")

    def does() -> None:
        kernel.gain_nothing()
        landlock.restrict(Rules([tmp_path / "read", tmp_path / "nowhere"], [tmp_path / "write"], tcp=False), version)
        denied = [
            lambda: (tmp_path / "read" / "file").write_text("x"),
            lambda: (tmp_path / "read" / "file").unlink(),
            lambda: (tmp_path / "other" / "file").read_text(),
            lambda: os.listdir(tmp_path / "other"),
            lambda: (tmp_path / "new").mkdir(),
            lambda: (tmp_path / "write" / "file").rename(tmp_path / "other" / "file"),
            *([lambda: socket.create_server(("127.0.0.1", 0))] if version >= landlock.TCP_SINCE else []),
        ]
        passed = [attempt for attempt in denied if _errno(attempt) not in (errno.EACCES, errno.EXDEV)]
        read = (tmp_path / "read" / "file").read_text() + (tmp_path / "other" / "link" / "file").read_text()
        (tmp_path / "write" / "made").write_text("x")
        assert not passed
        assert read == "readread"

    assert sandboxes.in_a_child(does) == 0
    assert (tmp_path / "other" / "file").read_text() == "other"


def _errno(attempt: Callable[[], object]) -> int | None:
    try:
        attempt()
    except OSError as error:
        return error.errno
    return None
