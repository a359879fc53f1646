"""Logs: one JSON object a line, the event's name first, ids bound, and no secret ever.

Whatever name a secret travels under, its value is struck out before it is written: a mistake at a call site must not be enough
to put a key into a log store.
"""

from __future__ import annotations

import asyncio
import atexit
import functools
import logging
import re
import sys
from collections.abc import Callable
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict

_SECRET = re.compile(
    r"authorization|secret|password|token|api_?key|cookie|seed|mnemonic|private|pin$", re.IGNORECASE
)
_STRUCK_OUT = "[struck out]"


GATHERED_S = 0.02
"""For so long a line that is no warning waits for others, where lines are gathered."""


class GatheredLines:
    """Writes what is said in a short while at once: for a process that says a line for every request, the call to the system
    costs more than the line. Warnings and errors, and all that came before them, are written at once."""

    def __init__(self, file: TextIO) -> None:
        """Nothing waits."""
        self._file = file
        self._lines: list[str] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        atexit.register(self.flush)

    def info(self, line: str) -> None:
        """Written soon, or at once where no loop runs that could see to it."""
        self._lines.append(line)
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.flush()
            return
        if self._loop is not loop:
            # None waits for this loop to write; another loop may have ended before it did.
            self._loop = loop
            loop.call_later(GATHERED_S, self.flush)

    def warning(self, line: str) -> None:
        """Written at once, behind what came before."""
        self._lines.append(line)
        self.flush()

    def flush(self) -> None:
        """Write what waits."""
        self._loop = None
        if self._lines:
            lines, self._lines = self._lines, []
            self._file.write("\n".join(lines) + "\n")
            self._file.flush()

    debug = info
    msg = log = error = critical = fatal = failure = err = exception = warn = warning


def configure(service: str, level: str = "INFO", *, gathered: bool = False) -> None:
    """Send this process's logs to standard error as JSON, uvicorn's included. `gathered`: lines may wait for one another."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        strike_out_secrets,
        structlog.processors.format_exc_info,
    ]
    render = structlog.processors.JSONRenderer(_json)
    structlog.configure(
        processors=[*shared, _event_first, render],
        wrapper_class=structlog.make_filtering_bound_logger(level.lower()),
        logger_factory=_gathering(sys.stderr) if gathered else structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _event_first, render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    structlog.contextvars.bind_contextvars(service=service)


def _gathering(file: TextIO) -> Callable[..., GatheredLines]:
    lines = GatheredLines(file)
    return lambda *_: lines


def strike_out_secrets(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Replace the values of names that sound like secrets, at any depth of plain mappings."""
    return {name: _cleaned(name, value) for name, value in event.items()}


def _json(event: EventDict, default: Callable[[Any], Any], **_: object) -> str:
    return orjson.dumps(event, default, orjson.OPT_NON_STR_KEYS).decode()


@functools.lru_cache(4096)
def _is_secret(name: str) -> bool:
    return _SECRET.search(name) is not None


def _cleaned(name: str, value: object) -> object:
    if _is_secret(name):
        return _STRUCK_OUT
    if isinstance(value, dict):
        return {key: _cleaned(str(key), inner) for key, inner in value.items()}
    return value


def _event_first(_logger: object, _method: str, event: EventDict) -> EventDict:
    return {"event": event.pop("event", ""), **event}
