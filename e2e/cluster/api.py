"""Reading from the API server without the start of a kubectl for each look."""

from __future__ import annotations

import json
import ssl
from http.client import HTTPException, HTTPSConnection
from typing import TYPE_CHECKING, Any

from cluster import network

if TYPE_CHECKING:
    from pathlib import Path

    from cluster.pki import Credentials

_TIMEOUT_SECONDS = 10


class Api:
    """The API server as seen with one client certificate, or by nobody in particular."""

    def __init__(self, authority: Path, user: Credentials | None = None) -> None:
        self._context = ssl.create_default_context(cafile=authority)
        if user is not None:
            self._context.load_cert_chain(user.certificate, user.key)

    def get(self, path: str) -> dict[str, Any] | None:
        """The object at the path ("/api/v1/nodes/n1"), None if there is none."""
        status, body = self._ask(path)
        if status == 404:
            return None
        if status != 200:
            raise OSError(f"GET {path} answered {status}: {body.decode(errors='replace')}")
        found: dict[str, Any] = json.loads(body)
        return found

    def is_ready(self) -> bool:
        try:
            status, _ = self._ask("/readyz")
        except (OSError, HTTPException):
            return False
        return status == 200

    def _ask(self, path: str) -> tuple[int, bytes]:
        connection = HTTPSConnection(network.API_SERVER, context=self._context, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
