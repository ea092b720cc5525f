"""Unit tests of an answer's code: the share that passes.

The answer's code shares a process with its tests. It cannot: end that process, or raise SystemExit, and so pass; print
that it passed; answer before it was asked, since each verdict carries a number that comes with the test; see a test
before its own top level has run; patch builtins or leave a trace function for the tests. It can: return objects that
equal everything, define a name that the tests use, patch modules that they import, and, where it was written against
this very file, search the frames above it.
"""

import ast
import builtins
import re
import secrets
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

from posttrain_trainer.sandbox import wire
from posttrain_trainer.sandbox.call import Call, Failed

_BLOCK = re.compile(r"```(?:python|py|python3)[ \t]*\r?\n(.*?)```", re.DOTALL | re.IGNORECASE)
_PREPARING = (
    ast.Import,
    ast.ImportFrom,
    ast.Assign,
    ast.AnnAssign,
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Pass,
)
_READY = {"ready": True}


def code(answer: str) -> str:
    """The Python in an answer: its last block of it, or else all of the answer."""
    blocks = _BLOCK.findall(answer)
    return str(blocks[-1]) if blocks else answer


def split(tests: str) -> list[str]:
    """The top-level statements, each a test; one that only prepares belongs to the next. Failed where it is no Python,
    or where there is no test."""
    try:
        statements = ast.parse(tests).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Failed(f"cannot read column tests as Python: {error}") from error
    found, before = [], ""
    for statement in statements:
        text = f"{before}{ast.unparse(statement)}\n"
        before = text if _only_prepares(statement) else ""
        found += [] if before else [text]
    if not found:
        raise Failed("has nothing to try in column tests: write assert statements, or call what it defines")
    return found


def _only_prepares(statement: ast.stmt) -> bool:
    is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return is_text or isinstance(statement, _PREPARING)


def answered(call: Call, request: Mapping[str, Any]) -> dict[str, Any]:
    """In the warden: the share of tests that pass. Where the code ends, hangs or takes too much, the rest have failed.
    Failed where the tests are none."""
    tests = split(request["tests"])
    until = time.monotonic() + request["limits"]["seconds"]
    passed = 0
    try:
        if call.said() == _READY:
            for test in tests:
                passed += _passes(call, test, until)
    except Failed:
        pass
    return {"scores": [passed / len(tests)]}


def _passes(call: Call, test: str, until: float) -> bool:
    nonce = secrets.token_hex(16)
    match call.said({"test": test, "nonce": nonce}, seconds=until - time.monotonic()):
        case {"nonce": str(told), "passed": bool(passed)} if secrets.compare_digest(told.encode(), nonce.encode()):
            return passed
    raise Failed("answered out of turn")


def work(channel: socket.socket, request: Mapping[str, Any]) -> None:
    """In the child: run the answer's code, then one test after the other, as they come."""
    known = vars(builtins)
    untouched = dict(known)
    namespace: dict[str, Any] = {"__name__": "answer"}
    wire.send(channel, _READY if _runs(code(request["answer"]), namespace) else {"ready": False})
    while (message := wire.receive(channel, wire.MAX_REQUEST_BYTES)) is not None:
        sys.settrace(None)
        sys.setprofile(None)
        for name in known.keys() - untouched.keys():
            del known[name]
        known.update(untouched)
        wire.send(channel, {"nonce": message["nonce"], "passed": _runs(message["test"], namespace)})


def _runs(source: str, namespace: dict[str, Any]) -> bool:
    try:
        exec(compile(source, "<answer>", "exec"), namespace)  # noqa: S102 - this is what a confined child is for
    except BaseException:  # noqa: BLE001 - the outermost boundary of code that is not ours
        return False
    return True
