"""Asks the explorer's application without a server: one request in, status, headers and body out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

HOST = "127.0.0.1:8017"
TOKEN = "a-token-for-tests"


@dataclass
class Answer:
    """What was answered."""

    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode("utf-8")

    def json(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)


def ask(
    application: Any,
    target: str,
    method: str = "GET",
    headers: Mapping[str, str] | list[tuple[str, str]] | None = None,
    body: bytes = b"",
) -> Answer:
    """Sends a request; `target` is sent as it is. Without a Host header, it has the server's own."""
    pairs = list(headers.items()) if isinstance(headers, Mapping) else list(headers or [])
    if not any(name.lower() == "host" for name, _ in pairs):
        pairs.append(("host", HOST))
    raw, _, query = target.partition("?")
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": raw,
        "raw_path": raw.encode("latin-1", "replace"),
        "query_string": query.encode("latin-1", "replace"),
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in pairs],
        "client": ("127.0.0.1", 50000),
        "server": ("127.0.0.1", 8017),
    }
    found = Answer(0)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            found.status = message["status"]
            found.headers = [(key.decode("latin-1"), value.decode("latin-1")) for key, value in message["headers"]]
        else:
            found.body += message.get("body", b"")

    asyncio.run(application(scope, receive, send))
    return found


def post(application: Any, path: str, fields: Mapping[str, str], **headers: str) -> Answer:
    """Sends a form, with its own Origin unless another is given."""
    given = {"origin": f"http://{HOST}", **headers}
    return ask(application, path, "POST", given, urlencode(fields).encode())
