"""A TCP proxy between the service and Postgres that loses, delays and cuts what passes, at moments drawn from a seed."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from urllib.parse import urlsplit, urlunsplit

from devnet.ports import HOST

_CHUNK = 65_536


class Strike(StrEnum):
    """What is done to a piece of the stream."""

    DROP_ANSWER = "drop_answer"
    """The server has answered; nothing of it arrives, and the line is dead."""
    CUT_ANSWER = "cut_answer"
    """Half of a piece of the answer arrives, and the line is dead."""
    DROP_REQUEST = "drop_request"
    """The server never hears it, and the line is dead."""
    CUT_REQUEST = "cut_request"
    """The server hears half of it, and the line is dead."""
    DELAY = "delay"
    """It arrives late."""


ANSWERS = (Strike.DROP_ANSWER, Strike.CUT_ANSWER, Strike.DELAY)
REQUESTS = (Strike.DROP_REQUEST, Strike.CUT_REQUEST, Strike.DELAY)


class Cut(Exception):
    """The line has been cut on purpose."""


class Proxy:
    """Listens on a port of its own and passes everything on, except what is struck."""

    def __init__(self, target: str, seed: int = 0, trouble: float = 0.0) -> None:
        """`target` is the server's URL; of all pieces a share of `trouble` is struck, the kinds in a drawn order, in turns."""
        self._target = urlsplit(target)
        self.chance = random.Random(seed)
        self.trouble = trouble
        self.struck: Counter[Strike] = Counter()
        self.answers = asyncio.Event()
        """Cleared, every answer waits in the proxy."""
        self.answers.set()
        self._decks: dict[tuple[Strike, ...], list[Strike]] = {}
        self._lines: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._connected, HOST, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self.cut_all()

    @property
    def dsn(self) -> str:
        """The server's URL by way of this proxy."""
        if self._server is None:
            raise AssertionError("the proxy does not listen yet")
        port = self._server.sockets[0].getsockname()[1]
        user = self._target.netloc.rpartition("@")[0]
        return urlunsplit(self._target._replace(netloc=f"{user}@{HOST}:{port}"))

    def cut_all(self) -> None:
        """Every line is dead from now on."""
        for line in self._lines:
            line.transport.abort()
        self.answers.set()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await asyncio.open_connection(self._target.hostname, self._target.port)
        except OSError:
            writer.transport.abort()
            return
        ends = {writer, upstream[1]}
        self._lines |= ends
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, upstream[1], REQUESTS, lambda: True))
                group.create_task(self._pass(upstream[0], writer, ANSWERS, self.answers.is_set))
        except* (Cut, OSError):
            pass  # both ends are hung up below
        finally:
            for end in ends:
                end.transport.abort()
            self._lines -= ends

    async def _pass(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        kinds: tuple[Strike, ...],
        may_pass: Callable[[], bool],
    ) -> None:
        while piece := await source.read(_CHUNK):
            if not may_pass():
                await self.answers.wait()
            if self.trouble and self.chance.random() < self.trouble:
                strike = self._draw(kinds)
                self.struck[strike] += 1
                if strike is Strike.DELAY:
                    await asyncio.sleep(self.chance.random() / 20)
                elif strike in (Strike.CUT_ANSWER, Strike.CUT_REQUEST):
                    sink.write(piece[: len(piece) // 2])
                    with suppress(OSError):
                        await sink.drain()
                    raise Cut
                else:
                    raise Cut
            sink.write(piece)
            await sink.drain()
        raise Cut

    def _draw(self, kinds: tuple[Strike, ...]) -> Strike:
        """In turns, so that a run of some length has met every kind."""
        deck = self._decks.get(kinds)
        if not deck:
            deck = self._decks[kinds] = self.chance.sample(kinds, len(kinds))
        return deck.pop()
