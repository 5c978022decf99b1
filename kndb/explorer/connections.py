"""Connections that are open: those over which no request comes are closed, so that they keep no reader out."""

from __future__ import annotations

from asyncio import Transport
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

HEARD_WITHIN = 15.0
"""Seconds in which a request has to come, all of its headers: from the beginning, or from one such time to the next."""


class Connection(H11Protocol):
    """A connection, closed if no request comes over it: neither silence nor single bytes keep it open."""

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begins to look after it."""
        super().connection_made(transport)
        self.loop.call_later(HEARD_WITHIN, self._look, None)

    def _look(self, before: Any) -> None:
        """Closes it if it waits for a request, and did since the last time, after the same one."""
        if self.transport.is_closing():
            return
        now = self.cycle
        if now is before and (now is None or now.response_complete):
            self.transport.close()
        else:
            self.loop.call_later(HEARD_WITHIN, self._look, now)
