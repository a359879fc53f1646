"""A transport that sends what is written in one step of the loop at once: an answer's head and body are one packet."""

from __future__ import annotations

import asyncio
from asyncio.transports import Transport
from typing import Any


class Gathered(Transport):
    """In front of a connection's own transport, which does everything else."""

    def __init__(self, inner: Transport, loop: asyncio.AbstractEventLoop) -> None:
        """What is written here reaches `inner` before the loop's next step ends, in the same order."""
        super().__init__()
        self._inner = inner
        self._loop = loop
        self._parts: list[bytes] = []

    def write(self, data: Any) -> None:
        """Send soon."""
        if not data:
            return
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        """Send all of these soon."""
        for each in list_of_data:
            self.write(each)

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._inner.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def close(self) -> None:
        """Close behind what was written."""
        self._flush()
        self._inner.close()

    def abort(self) -> None:
        """Close at once."""
        self._parts.clear()
        self._inner.abort()

    def write_eof(self) -> None:
        """End what is sent."""
        self._flush()
        self._inner.write_eof()

    def can_write_eof(self) -> bool:
        """As of the connection."""
        return self._inner.can_write_eof()

    def is_closing(self) -> bool:
        """As of the connection."""
        return self._inner.is_closing()

    def is_reading(self) -> bool:
        """As of the connection."""
        return self._inner.is_reading()

    def pause_reading(self) -> None:
        """As of the connection."""
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        """As of the connection."""
        self._inner.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As of the connection."""
        self._inner.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """With what waits here."""
        return self._inner.get_write_buffer_size() + sum(map(len, self._parts))

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As of the connection."""
        return self._inner.get_extra_info(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Who hears from the connection from now on."""
        self._inner.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who hears from the connection."""
        return self._inner.get_protocol()
