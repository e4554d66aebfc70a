"""HTTP connections of the studio, with a time limit for headers."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_CONNECTIONS = 64  # more are answered with status 503
HEADER_TIMEOUT = 10.0  # seconds from the first byte of a request, or the connection, to the end of its header


class HeaderTimeoutProtocol(H11Protocol):
    """uvicorn's protocol with a time limit for the header of a request; uvicorn itself has none."""

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer of the first header."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Start the timer of a header, or stop it once a request is complete."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Start the timer of the next header, part of which may have been pipelined with this request."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        super().connection_lost(exc)
        self._end()

    def _watch(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._end()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(HEADER_TIMEOUT, self._close)

    def _close(self) -> None:
        self._waiting = None
        idle = self.cycle is None or self.cycle.response_complete
        if idle and not self.transport.is_closing():
            self.transport.close()

    def _end(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
