"""Code that is not ours, run apart: how it is called, what is said of its mistakes, and what its server withstands."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.trainer import sandboxes
from tests.unit.trainer.sandboxes import BRIEF, LIMITS, Sandbox

from posttrain_trainer.rewards import apart as apart_module
from posttrain_trainer.rewards.apart import Apart, CallFailed
from posttrain_trainer.sandbox import processes, wire

ANSWERS: dict[str, list[Any]] = {
    "prompts": [[{"role": "user", "content": "2 + 2"}], [{"role": "user", "content": "3 + 3"}]],
    "completions": ["4", "7"],
    "gold": ["4", None],
    "level": [1, 2],
}
HOSTILE = Path(__file__).parent / "hostile"
UID = 71_000_000


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    """Its own server, as without a cluster."""
    with Apart(uid=UID + os.getpid()) as found:
        yield found


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """A server that listens, as in a pod."""
    with sandboxes.sandbox() as found:
        yield found


def module(folder: Path, source: str, name: str = "rewards.py") -> Path:
    (folder / name).write_text(source)
    return folder


def test_the_server_imports_no_library() -> None:
    source = "import posttrain_trainer.sandbox.server, sys; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "transformers", "numpy", "pydantic", "posttrain_api"}.isdisjoint(found)


CALLS = {
    "by name, with what it takes": ("def score(level, completions): return level", [1.0, 2.0]),
    "with everything": ("def score(**columns): return [len(columns)] * len(columns['gold'])", [4.0, 4.0]),
    "messages and text": (
        "def score(prompts, completions): return [float(p[-1]['content'] == '2 + 2' and c == '4') for p, c in "
        "zip(prompts, completions)]",
        [1.0, 0.0],
    ),
    "asynchronously": (
        "import asyncio\nasync def score(completions):\n await asyncio.sleep(0)\n return [1, True]",
        [1.0, 1.0],
    ),
    "and says nothing of some": ("def score(gold): return [None if g is None else 1 for g in gold]", [1.0, None]),
    "and returns an array": ("import array\nclass A:\n tolist = lambda self: [0.5, 1]\nscore = A", [0.5, 1.0]),
    "with a subprocess": (
        "import subprocess, sys\ndef score(completions):\n return [float(subprocess.run([sys.executable, '-c', "
        "f'print({c})'], capture_output=True, check=True).stdout) for c in completions]",
        [4.0, 7.0],
    ),
    "with threads": (
        "from concurrent.futures import ThreadPoolExecutor\ndef score(completions):\n"
        " with ThreadPoolExecutor(4) as pool: return list(pool.map(float, completions))",
        [4.0, 7.0],
    ),
    "with a file of its own": (
        "import tempfile\ndef score(completions):\n with tempfile.TemporaryDirectory() as folder:\n"
        "  open(folder + '/a', 'w').write('5')\n  return [float(open(folder + '/a').read())] * 2",
        [5.0, 5.0],
    ),
}


@pytest.mark.parametrize(("source", "scores"), CALLS.values(), ids=CALLS)
def test_a_function_is_called(apart: Apart, tmp_path: Path, source: str, scores: list[float | None]) -> None:
    assert apart.score(module(tmp_path, source), "rewards:score", ANSWERS, LIMITS) == scores


def test_a_module_imports_its_neighbours_and_packages_of_the_image(apart: Apart, tmp_path: Path) -> None:
    module(tmp_path, "RIGHT = '4'", "facts.py")
    (tmp_path / "inner").mkdir()
    source = "import facts, pydantic\ndef score(completions): return [float(c == facts.RIGHT) for c in completions]"
    module(tmp_path / "inner", "")
    module(tmp_path / "inner", source, "deep.py")
    assert apart.score(tmp_path, "inner.deep:score", ANSWERS, LIMITS) == [1.0, 0.0]


MISTAKES = {
    "no module": ("", "other:score", "is not there: there is no other.py, but rewards.py"),
    "no function": ("def scores(): pass", "rewards:score", "is not there: rewards.py has no score, but scores"),
    "no function at all": ("score = 3", "rewards:score", "is 3: name a function or a class"),
    "a syntax error": ("def score(:", "rewards:score", "raised SyntaxError: invalid syntax (rewards.py, line 1)"),
    "a package that is not there": (
        "import nowhere",
        "rewards:score",
        "raised ModuleNotFoundError: No module named 'nowhere' (rewards.py, line 1)",
    ),
    "an error": (
        "def score(completions):\n return inner(completions)\ndef inner(given):\n raise ValueError('bad')",
        "rewards:score",
        "raised ValueError: bad (rewards.py, line 4)",
    ),
    "an error in a library": (
        "import json\ndef score(completions):\n return json.loads('{')",
        "rewards:score",
        "raised json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 "
        "(char 1) (rewards.py, line 3)",
    ),
    "a column that is not there": (
        "def score(completions, answer): pass",
        "rewards:score",
        "takes answer, which is not there: it is given prompts, completions, gold, level",
    ),
}


@pytest.mark.parametrize(("source", "entrypoint", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named_with_its_line(
    apart: Apart, tmp_path: Path, source: str, entrypoint: str, sentence: str
) -> None:
    with pytest.raises(CallFailed) as failed:
        apart.score(module(tmp_path, source), entrypoint, ANSWERS, LIMITS)
    assert str(failed.value) == sentence


def test_a_module_with_the_name_of_another_is_refused(apart: Apart, tmp_path: Path) -> None:
    module(tmp_path, "def score(): return [1, 1]", "json.py")
    with pytest.raises(
        CallFailed, match=r"^is not there: json is a module of Python or a package, so give the file another name$"
    ):
        apart.score(tmp_path, "json:score", ANSWERS, LIMITS)


def test_the_network_is_there_only_where_it_is_allowed(apart: Apart, tmp_path: Path) -> None:
    source = "import socket\ndef score(port): socket.create_connection(('127.0.0.1', port[0]), 5); return [1, 1]"
    code = module(tmp_path, source)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        told = ANSWERS | {"port": [listener.getsockname()[1]] * 2}
        assert apart.score(code, "rewards:score", told, replace(LIMITS, network=True)) == [1.0, 1.0]
        listener.accept()[0].close()
        with pytest.raises(CallFailed, match=r"raised PermissionError.*\(rewards\.py, line 2\)"):
            apart.score(code, "rewards:score", told, LIMITS)


def test_calls_run_beside_each_other_and_an_attack_does_not_touch_another_call(sandbox: Sandbox) -> None:
    attacks = ["fork_bomb", "kills_everybody", "signals_all", "closes_everything"]
    told = ANSWERS | {"server": [sandbox.process.pid] * 2}

    def attacked(name: str) -> str:
        with pytest.raises(CallFailed) as failed:
            sandbox.apart.score(HOSTILE, f"rewards:{name}", told, BRIEF)
        return str(failed.value)

    with ThreadPoolExecutor(8) as pool:
        failures = [pool.submit(attacked, name) for name in attacks]
        scores = [pool.submit(sandbox.apart.score, HOSTILE, "rewards:good", told, LIMITS) for _ in range(4)]
        assert [found.result() for found in scores] == [[1.0, 0.0]] * 4
        assert all(failure.result() for failure in failures)
    assert sandboxes.until(sandbox.is_idle)


def test_who_runs_foreign_code_cannot_ask_the_server_or_look_into_it(sandbox: Sandbox) -> None:
    def ask() -> None:
        if os.geteuid() == 0:
            os.setuid(sandbox.uid)
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(sandbox.path))
            assert connection.recv(1) == b""
        for file in ("environ", "mem"):
            assert not os.access(f"/proc/{sandbox.process.pid}/{file}", os.R_OK)

    assert sandboxes.in_a_child(ask) == 0


def test_a_call_that_nobody_waits_for_is_ended(sandbox: Sandbox) -> None:
    request = {"kind": "score", "folder": str(HOSTILE), "entrypoint": "rewards:loops"}
    with sandbox.apart.connect() as connection:
        wire.send(connection, {**request, "arguments": ANSWERS, "limits": LIMITS.to_json()})
        assert sandboxes.until(lambda: len(processes.descendants(sandbox.process.pid)) == 2)
    assert sandboxes.until(sandbox.is_idle)


def test_a_warden_that_is_killed_leaves_nothing_and_costs_its_call(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(sandbox.apart.score, HOSTILE, "rewards:allocates_in_processes", ANSWERS, BRIEF)
        assert sandboxes.until(lambda: len(processes.descendants(sandbox.process.pid)) >= 4)
        os.kill(processes.descendants(sandbox.process.pid)[0].pid, signal.SIGKILL)
        with pytest.raises(CallFailed, match="was cut off: its server ended"):
            call.result()
    assert sandboxes.until(sandbox.is_idle)
    assert sandbox.apart.score(HOSTILE, "rewards:good", ANSWERS, LIMITS) == [1.0, 0.0]


def test_a_server_that_is_started_again_is_waited_for_and_has_nothing_left_over() -> None:
    with sandboxes.sandbox() as sandbox, ThreadPoolExecutor(2) as pool:
        cut_off = pool.submit(sandbox.apart.score, HOSTILE, "rewards:loops", ANSWERS, LIMITS)
        assert sandboxes.until(lambda: len(processes.descendants(sandbox.process.pid)) == 2)
        left = processes.descendants(sandbox.process.pid)
        sandbox.process.kill()
        sandbox.process.wait()
        with pytest.raises(CallFailed, match="was cut off: its server ended"):
            cut_off.result()
        assert sandboxes.until(lambda: {found.pid for found in left}.isdisjoint(p.pid for p in processes.every()))
        call = pool.submit(sandbox.apart.score, HOSTILE, "rewards:good", ANSWERS, LIMITS)
        sandbox.restart()
        assert call.result() == [1.0, 0.0]
        assert sandboxes.until(sandbox.is_idle)


def test_a_server_that_says_nothing_is_not_waited_for_for_ever() -> None:
    mine, theirs = socket.socketpair()
    with mine, theirs, pytest.raises(CallFailed, match="was not answered for 1 s by its server"):
        apart_module.exchanged(mine, {}, seconds=-29.0)


def test_a_server_that_does_not_come_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    with pytest.raises(CallFailed, match=r"could not be run: its server was not there for 0\.1 s"):
        Apart(tmp_path / "socket", patience_seconds=0.1).connect()


def test_a_server_of_our_own_ends_with_us_and_comes_again_when_it_was_killed(tmp_path: Path) -> None:
    code = module(tmp_path, "def score(completions): return [1, 2]")
    others = _servers()
    with Apart(uid=UID + os.getpid()) as apart:
        assert apart.score(code, "rewards:score", ANSWERS, LIMITS) == [1.0, 2.0]
        (own,) = _servers() - others
        os.kill(own, signal.SIGKILL)
        assert sandboxes.until(lambda: not apart.is_running)
        assert apart.score(code, "rewards:score", ANSWERS, LIMITS) == [1.0, 2.0]
    assert _servers() == others


def _servers() -> set[int]:
    below = [process.pid for process in processes.every() if process.parent == os.getpid()]
    return {pid for pid in below if b"--rewards-server" in Path(f"/proc/{pid}/cmdline").read_bytes()}
