"""One request from its beginning to its end, in a process of its own that no foreign code can touch."""

import functools
import signal
import socket
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from posttrain_trainer.sandbox import kernel, score, tools, unit_tests, wire
from posttrain_trainer.sandbox.call import Call, Failed, Unconfined
from posttrain_trainer.sandbox.confinement import Setting
from posttrain_trainer.sandbox.limits import Limits

_KINDS: Mapping[str, ModuleType] = {"score": score, "unit_tests": unit_tests, "tools": tools}
"""What can be asked -> the file with both of its halves: `work` in the child, `answered` here."""


def serve(connection: socket.socket, setting: Setting) -> None:
    """Answer the request that comes over a connection; when this returns, nothing is left of it."""
    kernel.die_with_parent(signal.SIGKILL)
    kernel.adopt_orphans()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, _stop)
    try:
        request = wire.receive(connection, wire.MAX_REQUEST_BYTES)
        if request is not None:
            wire.send(connection, _answered(request, connection, setting))
    except wire.Broken as error:
        wire.send(connection, {"failed": f"could not be asked: {error}"})
    except (BrokenPipeError, ConnectionResetError):
        return


def _answered(request: Mapping[str, Any], client: socket.socket, setting: Setting) -> dict[str, Any]:
    kind = _KINDS[request["kind"]]
    code = Path(request["folder"]) if "folder" in request else None
    work = functools.partial(kind.work, request=request)
    call = Call(work, Limits.of(request["limits"]), code=code, setting=setting, client=client)
    try:
        call.begin()
        answer: dict[str, Any] = kind.answered(call, request)
        return answer
    except Failed as error:
        return {"failed": str(error)}
    except Unconfined as error:
        traceback.print_exc()
        return {"failed": f"was not run: {error}"}
    finally:
        call.end()


def _stop(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)
