"""The tests play server pods: they write pods' statuses and answer as their agents, each at an address of its own."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from tests.live import Namespace

from posttrain_api import server_contract
from posttrain_api.server_contract import DesiredAdapters

SELECTOR = "posttrain.dev/adapter-deployment=assistants"


class Agent:
    """Takes the operator's list and has proven all of it at once, but for the adapters that are to fail."""

    def __init__(self, address: str, *, token: str) -> None:
        self.address = address
        self.failures: dict[str, dict[str, str]] = {}
        self.lists: list[DesiredAdapters] = []
        self._token = token
        self._server = ThreadingHTTPServer((address, server_contract.AGENT_PORT), self._handler())

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answer while the block lasts."""
        thread = Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def report(self) -> dict[str, Any]:
        """GET /adapters."""
        current = self.lists[-1] if self.lists else DesiredAdapters()
        entries = [self._entry(adapter.name, adapter.digest) for adapter in current.adapters]
        return {"desiredDigest": current.digest, "engine": {"state": "Healthy"}, "adapters": entries}

    def _entry(self, name: str, digest: str) -> dict[str, Any]:
        if name in self.failures:
            return {"name": name, "digest": digest, "state": "Failed", **self.failures[name]}
        proof = {"servingDigest": digest, "provenAt": datetime.now(UTC).isoformat()}
        return {"name": name, "digest": digest, "state": "Loaded", **proof}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer(200)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Authorization"] != f"Bearer {agent._token}":
                    return self._answer(401)
                agent.lists.append(DesiredAdapters.model_validate_json(body))
                return self._answer(200)

            def _answer(self, code: int) -> None:
                body = json.dumps(agent.report()).encode()
                self.send_response(code)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        return Handler


def pods(namespace: Namespace, count: int) -> list[dict[str, Any]]:
    """The server pods, once there are so many."""
    seen: set[str] = set()

    def all_there(pod: dict[str, Any]) -> bool:
        seen.add(pod["metadata"]["name"])
        return len(seen) >= count

    namespace.wait_for_any("Pod", all_there, within=20, what=f"one of {count}")
    return sorted(namespace.list("Pod", SELECTOR), key=lambda pod: pod["metadata"]["name"])


def start(namespace: Namespace, pod: dict[str, Any], address: str) -> None:
    """The pod's containers run and their probes pass."""
    started = (datetime.now(UTC) - timedelta(seconds=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    running = {"ready": True, "restartCount": 0, "imageID": "", "state": {"running": {"startedAt": started}}}
    containers = [{"name": found["name"], "image": found["image"], **running} for found in pod["spec"]["containers"]]
    status = {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": type_, "status": "True"} for type_ in ("PodScheduled", "Ready", "ContainersReady")],
        "containerStatuses": containers,
    }
    namespace.patch_status("Pod", pod["metadata"]["name"], status)
