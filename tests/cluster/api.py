"""The few requests that the harness itself makes of the API server, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Any

from tests.cluster import identities, layout

_FIELD_MANAGER = "posttrain-cluster"


class ApiError(RuntimeError):
    """An answer of 400 or above; `status` is its number."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


class Api:
    """The cluster's API server as its administrator."""

    def __init__(self, cluster: layout.Layout) -> None:
        config = json.loads(identities.kubeconfig(cluster, identities.ADMIN).read_text())
        self._address = cluster.control_address
        self._tls = ssl.create_default_context(cafile=cluster.pki / "ca.crt")
        self._token = config["users"][0]["user"]["token"]

    def get(self, path: str) -> Any:
        return self._request("GET", path)

    def apply(self, path: str, body: dict[str, Any]) -> Any:
        """Server-side apply of one object at its own path."""
        return self._request(
            "PATCH",
            f"{path}?fieldManager={_FIELD_MANAGER}&force=true",
            body,
            content_type="application/apply-patch+yaml",
        )

    def merge(self, path: str, body: dict[str, Any]) -> Any:
        return self._request("PATCH", path, body, content_type="application/merge-patch+json")

    def delete(self, path: str) -> Any:
        return self._request("DELETE", path)

    def is_ready(self) -> bool:
        """True once the API server has finished starting, its built-in roles included."""
        try:
            self._request("GET", "/readyz")
        except (OSError, ApiError):
            return False
        return True

    def _request(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, content_type: str = "application/json"
    ) -> Any:
        connection = http.client.HTTPSConnection(self._address, 6443, timeout=10, context=self._tls)
        try:
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": content_type}
            connection.request(method, path, body=json.dumps(body) if body is not None else None, headers=headers)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= http.client.BAD_REQUEST:
            raise ApiError(answer.status, text)
        return json.loads(text) if text.startswith("{") else text
