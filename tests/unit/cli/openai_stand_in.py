"""A small HTTP server in the shape of OpenAI's API: models and streamed chat completions."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.unit.cli.local_server import Handler, served

Turns = list[dict[str, str]]
Answering = Callable[[Turns], str]


@dataclass(frozen=True)
class Refusing:
    """A model that answers with an error."""

    status: int
    message: str

    def body(self) -> dict[str, Any]:
        """OpenAI's error object."""
        return {"error": {"message": self.message, "type": "error", "param": "model", "code": "refused"}}


Model = Answering | Refusing
UNKNOWN = Refusing(404, "The model does not exist.")


@dataclass
class OpenAIStandIn:
    """Its models, and what it was asked."""

    url: str
    models: Mapping[str, Model]
    asked: list[dict[str, Any]] = field(default_factory=list)

    def turns(self, model: str) -> list[Turns]:
        """The conversation of each request to a model, in order."""
        return [request["messages"] for request in self.asked if request["model"] == model]


def says(text: str) -> Answering:
    """A model with one answer."""
    return lambda _: text


def last_turn(turns: Turns) -> str:
    """A model that repeats the question, in capitals."""
    return turns[-1]["content"].upper()


@contextmanager
def openai_server(**models: Model) -> Iterator[OpenAIStandIn]:
    """A running stand-in with these models."""
    stand_in = OpenAIStandIn("", models)
    with served(_handler(stand_in)) as url:
        stand_in.url = url
        yield stand_in


def _handler(stand_in: OpenAIStandIn) -> type[Handler]:
    class OpenAIHandler(Handler):
        def do_GET(self) -> None:
            assert self.path == "/v1/models"
            known = [{"id": name, "object": "model", "created": 0, "owned_by": "me"} for name in stand_in.models]
            self._send(200, {"object": "list", "data": known})

        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stand_in.asked.append(request)
            model = stand_in.models.get(request["model"], UNKNOWN)
            if isinstance(model, Refusing):
                self._send(model.status, model.body())
            else:
                self._stream(model(request["messages"]))

        def _send(self, status: int, body: dict[str, Any]) -> None:
            # The client's pauses before another try would only make the tests slow.
            headers = {"Content_Type": "application/json", "x_should_retry": "false"}
            self.answer(status, json.dumps(body).encode(), **headers)

        def _stream(self, text: str) -> None:
            """One event for each letter, as vLLM sends tokens; the last one has no choices."""
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}
            for letter in text:
                choice = {"index": 0, "delta": {"content": letter}, "finish_reason": None}
                self._event({**chunk, "choices": [choice]})
            self._event({**chunk, "choices": []})
            self.wfile.write(b"data: [DONE]\n\n")

        def _event(self, body: dict[str, Any]) -> None:
            self.wfile.write(b"data: " + json.dumps(body).encode() + b"\n\n")

    return OpenAIHandler
