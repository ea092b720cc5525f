"""A judge for tests: functions of the answer and the gold answer, asked by real HTTP on this machine."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Function = Callable[[str, str, str], float | None]
"""(answer, gold answer, prompt) -> score."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, functions: Mapping[str, Function]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.functions = functions


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    """An answer goes out in one piece."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        score = self.server.functions[self.path[1:]](asked["completion"], asked["gold"], asked["prompt"][-1]["content"])
        content = json.dumps({"score": score}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def judge(functions: Mapping[str, Function]) -> Iterator[str]:
    """Where the functions are asked: the address and the name of one."""
    server = _Server(functions)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
