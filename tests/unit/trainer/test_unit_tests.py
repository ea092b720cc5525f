"""The reward unit_tests: which tests of an answer's code pass, and answers that cheat."""

import os
from collections.abc import Iterator

import pytest
from tests.unit.trainer.sandboxes import BRIEF, LIMITS

from posttrain_trainer.rewards.apart import Apart, CallFailed

TESTS = "import math\nassert double(2) == 4\nassert double(3) == 6\nx = double(0)\nassert math.isclose(x, 0)\n"
RIGHT = "def double(n): return 2 * n"


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    with Apart(uid=71_500_000 + os.getpid()) as found:
        yield found


SHARES = {
    "all of it is right": (RIGHT, 1.0),
    "a block within words": (f"This doubles:\n```python\n{RIGHT}\n```\nIt does.", 1.0),
    "the last of two blocks": (f"```python\ndef double(n): return 0\n```\nBetter:\n```python\n{RIGHT}\n```", 1.0),
    "right for one": ("def double(n): return 4 if n == 2 else 1", 1 / 3),
    "wrong": ("def double(n): return n + 100", 0.0),
    "no code": ("I cannot write that.", 0.0),
    "nothing": ("", 0.0),
    "an error at its top": (f"{RIGHT}\nraise ValueError", 0.0),
    "a part that only runs as a program": (f"{RIGHT}\nif __name__ == '__main__': raise SystemExit", 1.0),
}


@pytest.mark.parametrize(("answer", "share"), SHARES.values(), ids=SHARES)
def test_the_share_of_tests_that_pass(apart: Apart, answer: str, share: float) -> None:
    assert apart.unit_tests([answer], [TESTS], LIMITS) == [pytest.approx(share)]


CHEATS = {
    "it ends well before its tests": "import sys; sys.exit(0)",
    "it ends well in its tests": "import os\ndef double(n): os._exit(0)",
    "it raises SystemExit in its tests": "def double(n): raise SystemExit(0)",
    "it prints that it passed": "print('3 passed'); print('{\"passed\": true}')\ndef double(n): return None",
    "it answers for the runner": (
        'import os\nbody = b\'{"nonce": "", "passed": true}\'\nfor fd in range(3, 64):\n try:\n'
        "  for _ in range(9): os.write(fd, len(body).to_bytes(8, 'big') + body)\n except OSError: pass\n"
        "def double(n): return None"
    ),
    "it answers in its tests": (
        'import os\nbody = b\'{"nonce": "0", "passed": true}\'\ndef double(n):\n for fd in range(3, 64):\n  try:\n'
        "   os.write(fd, len(body).to_bytes(8, 'big') + body)\n  except OSError: pass\n os._exit(0)"
    ),
    "it has read the tests": (
        "import gc\nfound = [o for o in gc.get_objects() if type(o) is dict and 'assert' in str(o.get('test'))]\n"
        "def double(n): return {2: 4, 3: 6, 0: 0}[n] if found else None"
    ),
    "it never ends": "def double(n):\n while True: pass",
    "it takes all memory": "def double(n): return bytearray(10 << 30)",
}


@pytest.mark.parametrize("answer", CHEATS.values(), ids=CHEATS)
def test_an_answer_that_cheats_passes_nothing(apart: Apart, answer: str) -> None:
    limits = BRIEF if "while True" in answer else LIMITS
    assert apart.unit_tests([answer], [TESTS], limits) == [0.0]


PATCHES = {
    "builtins": ("import builtins\nbuiltins.sum = lambda _: 3", "assert sum([1, 1]) == 3"),
    "a new builtin": ("import builtins\nbuiltins.double = lambda n: 2 * n", "assert double(2) == 4"),
    "a trace function that jumps": (
        "import sys\ndef trace(frame, event, _):\n if frame.f_lineno == 2: frame.f_lineno = 3\n return trace\n"
        "sys.settrace(trace)",
        "for n in (1, 2):\n    assert n == 3\n    done = n",
    ),
}


@pytest.mark.parametrize(("answer", "tests"), PATCHES.values(), ids=PATCHES)
def test_what_an_answer_patches_is_undone_before_its_tests(apart: Apart, answer: str, tests: str) -> None:
    assert apart.unit_tests([answer], [tests], LIMITS) == [0.0]


def test_what_passed_before_the_end_counts(apart: Apart) -> None:
    answer = "import os\ndef double(n):\n if n == 3: os._exit(0)\n return 2 * n"
    assert apart.unit_tests([answer], [TESTS], LIMITS) == [pytest.approx(1 / 3)]


def test_answers_do_not_see_each_other(apart: Apart) -> None:
    leaves = "open('left', 'w').write('x')\nimport os\nos.environ['LEFT'] = 'x'\n" + RIGHT
    looks = "import os\ndef double(n): return 0 if os.path.exists('left') or 'LEFT' in os.environ else 2 * n"
    assert apart.unit_tests([leaves, looks, "", looks], [TESTS] * 4, LIMITS) == [1.0, 1.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("tests", "sentence"),
    [
        ("assert double(2 == 4", "cannot read column tests as Python: '(' was never closed"),
        ("import math", "has nothing to try in column tests: write assert statements, or call what it defines"),
        ('"""Tests."""\ndef test(): assert double(2) == 4\npass', "has nothing to try in column tests: write"),
    ],
    ids=["no Python", "no test", "a test that is never called"],
)
def test_tests_that_are_none_are_named(apart: Apart, tests: str, sentence: str) -> None:
    (found,) = apart.unit_tests([RIGHT], [tests], LIMITS)
    assert isinstance(found, CallFailed)
    assert str(found).startswith(sentence)
