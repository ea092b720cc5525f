"""A small HTTP server that lists and watches as the API server does, by a script: what each connection gets."""

import json
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.unit.cli.local_server import Handler, served

Object = dict[str, Any]
Answer = list[Object] | Object | int
"""The objects of a list, one object, or a status code to refuse with."""
Lists = dict[str, list[Answer]]
"""For each plural, or plural/name: its answers in order."""
RESOURCES = "/apis/posttrain.dev/v1alpha1/namespaces/team/"

GONE = {"type": "ERROR", "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}}
DROP = "drop"
"""Ends a watch within a line, as a broken connection does."""
STAY = "stay"
"""Keeps a watch open until the server ends; what every watch beyond the script does."""


def modified(item: Object, *, version: str = "8", type_: str = "MODIFIED") -> Object:
    """One event of a watch."""
    return {"type": type_, "object": {**item, "metadata": {**item["metadata"], "resourceVersion": version}}}


@dataclass
class ApiStandIn:
    """The script: a list is answered by the next of `lists`, whose last one stays, a watch by the next of `watches`."""

    url: str = ""
    lists: Lists = field(default_factory=dict)
    watches: dict[str, deque[list[Any]]] = field(default_factory=lambda: defaultdict(deque))
    """For each plural: events, ended by nothing (a clean end), DROP or STAY."""
    watched_from: list[str] = field(default_factory=list)
    """The resourceVersion of each watch, in order."""
    ended: threading.Event = field(default_factory=threading.Event)

    def listed(self, plural: str) -> Answer:
        """The next answer to a list."""
        answers = self.lists.get(plural, [[]])
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def watched(self, plural: str) -> list[Any]:
        """The next answer to a watch."""
        return self.watches[plural].popleft() if self.watches[plural] else [STAY]


@contextmanager
def api_server(*, lists: Lists, watches: dict[str, list[list[Any]]] | None = None) -> Iterator[ApiStandIn]:
    """A running stand-in."""
    script = ApiStandIn(lists=lists)
    script.watches.update({plural: deque(answers) for plural, answers in (watches or {}).items()})
    with served(_handler(script)) as url:
        script.url = url
        try:
            yield script
        finally:
            script.ended.set()


def _body(resource: str, found: Answer) -> Object:
    match found:
        case int():
            return {"message": f'"{resource.rpartition("/")[2]}" refused with {found}'}
        case list():
            return {"metadata": {"resourceVersion": "7"}, "items": found}
    return found


def _handler(script: ApiStandIn) -> type[Handler]:
    class ApiHandler(Handler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            plural = address.path.removeprefix(RESOURCES)
            query = parse_qs(address.query)
            if "watch" in query:
                script.watched_from.append(query["resourceVersion"][0])
                # A client may leave whenever it has seen enough.
                with suppress(ConnectionError):
                    self._stream(script.watched(plural))
            else:
                found = script.listed(plural)
                self.answer(found if isinstance(found, int) else 200, json.dumps(_body(plural, found)).encode())

        def _stream(self, events: list[Any]) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in events:
                if event == STAY:
                    script.ended.wait()
                elif event == DROP:
                    self.wfile.write(b"ff\r\n{")
                    return
                else:
                    line = json.dumps(event).encode() + b"\n"
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.write(b"0\r\n\r\n")

    return ApiHandler
