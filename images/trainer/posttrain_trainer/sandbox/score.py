"""A reward as code: one call for a batch of answers."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from posttrain_trainer.sandbox import foreign, wire
from posttrain_trainer.sandbox.call import Call, Failed


def work(channel: socket.socket, request: Mapping[str, Any]) -> None:
    """In the child: call the function, tell its scores."""
    folder = Path(request["folder"])
    arguments: dict[str, list[Any]] = request["arguments"]
    count = len(arguments["completions"])
    try:
        function = foreign.load(folder, request["entrypoint"])
        found = foreign.called(function, foreign.accepted(function, arguments))
        answer: dict[str, Any] = {"scores": foreign.scores(found, count)}
    except MemoryError:
        answer = {"memory": True}
    except BaseException as error:  # noqa: BLE001 - the outermost boundary of code that is not ours
        answer = {"wrong": foreign.sentence(error, folder)}
    wire.send(channel, answer)


def answered(call: Call, request: Mapping[str, Any]) -> dict[str, Any]:
    """In the warden: the scores, checked again, since the child may have been turned. Failed: there are none."""
    found = call.said()
    count = len(request["arguments"]["completions"])
    match found:
        case {"scores": list(scores)} if len(scores) == count and all(map(_is_score, scores)):
            return {"scores": scores}
    raise Failed("answered something that is no list of scores")


def _is_score(value: Any) -> bool:
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300)
