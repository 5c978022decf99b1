"""The server: one process on one address, which answers until it is interrupted."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..advice import option
from ..errors import UsageError
from .guard import LOOPBACK, Rules

if TYPE_CHECKING:
    from ..database import Database

PORT = 8017
"""The usual port."""
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - only compared with
_LEAST_TOKEN = 16
CONNECTIONS = 512
"""Connections that may be open at once, half of the files that a process usually may; more get a 503."""


@dataclass(frozen=True)
class ServeSettings:
    """How a server is reached, and what it may do.

    Attributes:
        host: the address that it listens on: this machine's own, unless named.
        port: 0 for any that is free.
        allow_hosts: further names by which it is reached.
        token: what readers must bring; None makes one where one is needed: on other addresses than this machine's own,
            under other names, and where edits are allowed.
        allow_edits: whether edits can be planned, applied and reverted.
    """

    host: str = "127.0.0.1"
    port: int = PORT
    allow_hosts: Sequence[str] = ()
    token: str | None = None
    allow_edits: bool = False

    def __post_init__(self) -> None:
        """Refuses what can't be.

        Raises:
            UsageError: for a port out of its range, an empty name, or a token that is easily guessed.
        """
        if not 0 <= self.port <= 65_535:
            raise UsageError(f"{option('port')} must be from 0 to 65535 (got {self.port})")
        if self.token is not None and (len(self.token) < _LEAST_TOKEN or not _plain(self.token)):
            raise UsageError(
                f"{option('token')} must be at least {_LEAST_TOKEN} letters, digits, - or _; without it, one is made"
            )
        for name in self.allow_hosts:
            if not name or any(letter in name for letter in "/: @?#"):
                raise UsageError(f"{option('allow_host')} must be a host's name without scheme or port (got {name!r})")

    @property
    def local(self) -> bool:
        """Whether only this machine reaches it; under a name of its own, it is reached through a proxy."""
        return self.host in ("127.0.0.1", "localhost", "::1") and not self.allow_hosts


def _plain(token: str) -> bool:
    return token.isascii() and all(letter.isalnum() or letter in "-_" for letter in token)


class Server:
    """A server that has its address, and answers when it is run; a context manager that gives the address back.

    Attributes:
        address: where to open it, with its token, if it needs one.
        rules: what it lets in.
    """

    def __init__(self, database: Database, settings: ServeSettings, words: Callable[[str], str]) -> None:
        """Takes the address.

        Raises:
            UsageError: if it can't be had, or the packages of the extra `web` are not installed.
        """
        require_packages()
        self._socket = _listening(settings)
        port: int = self._socket.getsockname()[1]
        token = settings.token
        if token is None and (settings.allow_edits or not settings.local):
            token = secrets.token_urlsafe(24)
        self.rules = Rules(
            hosts=_names(settings),
            any_address=settings.host in _WILDCARDS,
            token=token,
            editing=settings.allow_edits,
            port=port,
        )
        shown = socket.gethostname() if settings.host in _WILDCARDS else settings.host
        shown = f"[{shown}]" if ":" in shown else shown
        self.address = f"http://{shown}:{port}/" + ("" if token is None else f"?token={token}")
        self._database = database
        self._words = words

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def run(self) -> None:
        """Answers until it is interrupted."""
        import uvicorn

        from .application import Explorer
        from .connections import Connection

        application = Explorer(self._database, self.rules, self._words)
        config = uvicorn.Config(
            application,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            http=Connection,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=3,
        )
        threading.Thread(target=application.warm, name="kndb-explorer-counting", daemon=True).start()
        uvicorn.Server(config).run(sockets=[self._socket])


def require_packages() -> None:
    """Refuses to begin without the packages of the extra `web`.

    Raises:
        UsageError: if one is not installed.
    """
    try:
        import jinja2  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"the explorer needs the extra `web` ({error.name} is not installed); install it with: "
            "pip install 'kndb[web]'"
        ) from None


def _names(settings: ServeSettings) -> tuple[str, ...]:
    names = [*LOOPBACK, *settings.allow_hosts]
    if settings.host in _WILDCARDS:
        names.append(socket.gethostname())
    else:
        names.append(f"[{settings.host}]" if ":" in settings.host else settings.host)
    return tuple(dict.fromkeys(names))


def _listening(settings: ServeSettings) -> socket.socket:
    kind = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    found = socket.socket(kind, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((settings.host, settings.port))
        found.listen(128)
    except OSError as error:
        found.close()
        raise UsageError(
            f"{option('port', settings.port)}: {settings.host} can't be listened on there ({error.strerror or error}); "
            f"name another port, or {option('port', 0)} for any that is free"
        ) from None
    return found
