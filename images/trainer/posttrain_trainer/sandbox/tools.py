"""Tools: a user's class in a child that lives for one batch of answers, with an instance for each."""

import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from posttrain_trainer.sandbox import foreign, methods, wire
from posttrain_trainer.sandbox.call import Call
from posttrain_trainer.sandbox.foreign import Wrong
from posttrain_trainer.sandbox.methods import Mistaken


def answered(call: Call, request: Mapping[str, Any]) -> dict[str, Any]:
    """In the warden: pass messages between the client and the child until the client closes."""
    del request
    wire.send(call.client, call.said())
    while (message := wire.receive(call.client, wire.MAX_REQUEST_BYTES)) is not None:
        wire.send(call.client, call.said(message))
    return {"ended": True}


def work(channel: socket.socket, request: Mapping[str, Any]) -> None:
    """In the child: describe the tools, then do what each message asks."""
    folder = Path(request["folder"])
    held: list[Instances] = []

    def begun(_: Any) -> dict[str, Any]:
        held.append(Instances(foreign.load(folder, request["entrypoint"])))
        return {"described": held[0].described()}

    _answer(channel, folder, begun, None)
    while (message := wire.receive(channel, wire.MAX_REQUEST_BYTES)) is not None:
        _answer(channel, folder, held[0].told, message)


class Instances:
    """The class, and its instances of this batch."""

    def __init__(self, found: Any) -> None:
        if not isinstance(found, type):
            raise Wrong("is a function: name a class, whose methods are the tools")
        self._class, self._methods, self._all = found, methods.of(found), list[Any]()

    def described(self) -> list[dict[str, Any]]:
        """The tools as a model is told of them."""
        return [method.described() for method in self._methods.values()]

    def told(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """What a message is answered by."""
        match message:
            case {"begin": list(rows)}:
                self._all = [self._class() for _ in rows]
                return {"begun": [self._reset(found, row) for found, row in zip(self._all, rows, strict=True)]}
            case {"call": str(name), "instance": int(place), "arguments": arguments}:
                return self._called(place, name, arguments)
            case {"rewards": True}:
                return {"rewards": self._rewards()}
        raise AssertionError(message)

    def _reset(self, instance: Any, row: dict[str, Any]) -> str | None:
        if not hasattr(instance, "reset"):
            return None
        said = foreign.called(instance.reset, foreign.accepted(instance.reset, row))
        return None if said is None else str(said)[: methods.MAX_RESULT]

    def _called(self, place: int, name: str, arguments: Any) -> dict[str, Any]:
        try:
            if name not in self._methods:
                raise Mistaken(f"there is no tool {name}, but {', '.join(self._methods)}")
            return {"result": methods.called(self._all[place], self._methods[name], arguments)}
        except Mistaken as error:
            return {"mistaken": str(error)}

    def _rewards(self) -> list[float | None] | None:
        if not hasattr(self._class, "get_reward"):
            return None
        return foreign.scores([foreign.called(found.get_reward, {}) for found in self._all], len(self._all))


def _answer(channel: socket.socket, folder: Path, does: Callable[[Any], dict[str, Any]], message: Any) -> None:
    try:
        answer = does(message)
    except MemoryError:
        answer = {"memory": True}
    except BaseException as error:  # noqa: BLE001 - the outermost boundary of code that is not ours
        answer = {"wrong": foreign.sentence(error, folder)}
    wire.send(channel, answer)
