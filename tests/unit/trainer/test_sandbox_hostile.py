"""Rewards that attack: each costs its own call, with a reason, and no process, file or other score."""

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import sandboxes
from tests.unit.trainer.sandboxes import BRIEF, LIMITS, Sandbox

from posttrain_trainer.rewards.apart import CallFailed
from posttrain_trainer.sandbox import limits, processes

CODE = Path(__file__).parent / "hostile"
ANSWERS = {"completions": ["right", "wrong"], "gold": ["right", "right"]}
SECRET = "hunter2"
LINE = r" \((rewards|answers)\.py, line \d+\)"
DENIED = rf"raised PermissionError: \[Errno 1?[13]\] .*{LINE}"
TIMED_OUT = "timed out after 1 s"
CROWDED = r"timed out after 1 s(, with \d+ processes: it may have 64)?"
OUT_OF_DISK = "wrote more than 256 MiB of files, or folders that cannot be read"
OUT_OF_MEMORY = "reached the memory limit of 256 MiB"

ATTACKS = {
    "rewards:fork_bomb": CROWDED,
    "rewards:fork_bomb_that_leaves": CROWDED,
    "rewards:runs_away": "ended with exit code 0 before it answered",
    "rewards:thread_bomb": rf"raised RuntimeError: can't start new thread{LINE}",
    "rewards:allocates": OUT_OF_MEMORY,
    "rewards:allocates_bit_by_bit": OUT_OF_MEMORY,
    "rewards:allocates_in_processes": OUT_OF_MEMORY,
    "rewards:allocates_shared": rf"raised OSError: \[Errno 12\] Cannot allocate memory{LINE}",
    "rewards:loops": TIMED_OUT,
    "rewards:exits": "ended with exit code 0 before it answered",
    "rewards:raises_system_exit": rf"raised SystemExit{LINE}",
    "rewards:crashes": "was ended by SIGSEGV; the last line of its standard error: dividing",
    "rewards:recurses": rf"raised RecursionError: maximum recursion depth exceeded{LINE}",
    "rewards:recurses_without_limit": f"was ended by SIGSEGV|{OUT_OF_MEMORY}",
    "rewards:ignores_signals": TIMED_OUT,
    "rewards:kills_itself": "was killed by SIGKILL, as where memory runs out",
    "rewards:prints": TIMED_OUT,
    "rewards:fills_the_disk": OUT_OF_DISK,
    "rewards:writes_a_long_file": rf"raised OSError: \[Errno 27\] File too large{LINE}",
    "rewards:hides_its_files": f"{OUT_OF_DISK}|{TIMED_OUT}",
    "rewards:nests_folders": rf"raised ValueError: deep{LINE}|{OUT_OF_DISK}",
    "rewards:writes_a_checkpoint": DENIED,
    "rewards:removes_a_checkpoint": DENIED,
    "rewards:changes_its_code": DENIED,
    "rewards:reads_a_secret": DENIED,
    "rewards:lists_a_folder": DENIED,
    "rewards:tells_its_environment": rf"raised ValueError: HOME LANG [A-Z_ ]*_NUM_THREADS PATH [A-Z]+ TMPDIR{LINE}",
    "rewards:reads_the_environment_of_the_server": DENIED,
    "rewards:writes_the_memory_of_the_server": DENIED,
    "rewards:traces_its_parent": rf"raised PermissionError: \[Errno 1\] ptrace{LINE}",
    "rewards:lowers_limits_of_its_parent": DENIED,
    "rewards:kills_its_parent": DENIED,
    "rewards:kills_everybody": rf"raised ValueError: killed \[\]{LINE}",
    "rewards:signals_all": "returned None: return a list with a number or None for each completion",
    "rewards:closes_everything": "closed the connection over which it answers",
    "rewards:asks_the_server": DENIED,
    "rewards:connects": DENIED,
    "rewards:sends_a_datagram": DENIED,
    "rewards:leaves_its_namespace": rf"raised PermissionError: \[Errno 1\] unshare{LINE}",
    "answers:returns_nan": "returned nan for completion 2 of 2: write a finite number, or None where .*",
    "answers:returns_infinity": "returned inf for completion 1 of 2: write a finite number, or None where .*",
    "answers:returns_too_large_a_number": r"returned 10{10,}\.\.\.0+ for completion 1 of 2: write a finite .*",
    "answers:returns_text": "returned 'abc' for completion 2 of 2: write a number or None",
    "answers:returns_too_few": "returned a list of 1 for 2 completions",
    "answers:returns_one_number": r"returned 1\.0: return a list with a number or None for each completion",
    "answers:returns_millions": "returned a list of 12500000 for 2 completions",
    "answers:forges_nonsense": "answered no JSON",
    "answers:forges_text": "answered something that is no list of scores",
    "answers:forges_nan": "answered no JSON",
    "answers:forges_a_gigabyte": "answered 1,073,741,824 bytes: at most 4,194,304 are read",
    "answers:patches_its_caller": "ended with exit code 1 before it answered.*",
    "answers:raises_what_cannot_be_printed": rf"raised .*Mine: <exception str\(\) failed>{LINE}",
    "answers:raises_many_lines": r"raised ValueError: a \[31m a \[31m.{100,700}",
}
"""module:function in hostile/ -> what the run says of it."""

LEFTOVERS = ["leaves_a_daemon", "leaves_a_thread", "sleeps_at_exit"]
"""Those that answer, and go on."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A server, once it is known that its children are limited: what follows would harm this machine."""
    with sandboxes.sandbox() as found:
        has = found.apart.score(CODE, "rewards:limits", {"completions": [""] * 7}, LIMITS)
        memory = LIMITS.memory_bytes
        assert has[1:] == [
            memory,
            4 * memory,
            limits.MAX_FILE_BYTES,
            limits.MAX_OPEN_FILES,
            22 * (os.cpu_count() or 1),
            0,
        ]
        assert has[0] is not None
        assert has[0] <= processes.num_tasks(found.uid) + limits.MAX_PROCESSES + 8
        yield found


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Somebody on this machine who can be connected to."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        found.setblocking(False)
        yield found


@pytest.fixture
def outside(tmp_path: Path, sandbox: Sandbox) -> Path:
    """A folder that the server's user may write in."""
    for path, text in ((tmp_path / "outside", None), (tmp_path / "outside" / "secret", SECRET)):
        path.mkdir() if text is None else path.write_text(text)
        os.chown(path, sandbox.uid, -1)
    return tmp_path / "outside"


@pytest.fixture
def columns(sandbox: Sandbox, outside: Path, listener: socket.socket) -> dict[str, list[Any]]:
    """What an attack is told."""
    told = {
        "outside": str(outside),
        "server": sandbox.process.pid,
        "path": str(sandbox.path),
        "port": listener.getsockname()[1],
    }
    return ANSWERS | {name: [value] * 2 for name, value in told.items()}


@pytest.mark.parametrize(("attack", "reason"), ATTACKS.items(), ids=ATTACKS)
def test_an_attack_costs_its_own_call_and_says_why(
    sandbox: Sandbox, columns: dict[str, list[Any]], outside: Path, listener: socket.socket, attack: str, reason: str
) -> None:
    code = (CODE / "rewards.py").read_bytes()
    with pytest.raises(CallFailed) as failed:
        sandbox.apart.score(CODE, attack, columns, BRIEF if TIMED_OUT in reason else LIMITS)
    assert re.fullmatch(reason, str(failed.value))
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert (CODE / "rewards.py").read_bytes() == code
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"secret": SECRET}
    check_well(sandbox)


def test_an_import_that_hangs_is_ended(sandbox: Sandbox) -> None:
    with pytest.raises(CallFailed, match=TIMED_OUT):
        sandbox.apart.score(CODE, "slow_import:score", ANSWERS, BRIEF)
    check_well(sandbox)


@pytest.mark.parametrize("attack", LEFTOVERS)
def test_what_a_reward_leaves_behind_ends_with_its_call(sandbox: Sandbox, attack: str) -> None:
    assert sandbox.apart.score(CODE, f"rewards:{attack}", ANSWERS, LIMITS) == [0.5, 0.5]
    check_well(sandbox)


def check_well(sandbox: Sandbox) -> None:
    """Nothing is left of any call, and the same server scores rightly."""
    assert sandboxes.until(sandbox.is_idle)
    assert sandbox.apart.score(CODE, "rewards:good", ANSWERS, LIMITS) == [1.0, 0.0]
