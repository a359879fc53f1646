"""The HTTP server: the library's, with an end in order, and with an end also for clients that never finish what they began to
say."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from asyncio import TimerHandle
from asyncio.transports import Transport
from collections.abc import Callable, Iterator
from types import FrameType

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from api.gathered import Gathered

HEAD_TIMEOUT_S = 15.0
"""From the connection, or the first byte of a request, to the end of its headers. Source: the attack known as Slowloris."""


class PatientHttp(H11Protocol):
    """HTTP/1.1 that lets go of a client whose headers do not arrive. The edge does the same for bodies."""

    head_timeout_s = HEAD_TIMEOUT_S
    _head_timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as the library narrows it
        """Begin to wait for a request."""
        super().connection_made(Gathered(transport, self.loop))
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Go on waiting while the request's head is not whole."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._watch()
        else:
            self._unwatch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_timeout_s, self._give_up)

    def _unwatch(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """Ends in order on a signal. The library would kill its own process by the same signal once more, before we have closed."""

    ending: Callable[[], None] | None = None
    """Told when the end begins: streams end by themselves only then."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the end."""
        super().handle_exit(sig, frame)
        if self.ending is not None:
            self.ending()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals that ask for an end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield
