"""The correlation id of what is going on, bound by the edge for a request and by the worker for a job; part of every log line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog


def current_trace() -> str | None:
    """The correlation id that is bound now."""
    found = structlog.contextvars.get_contextvars().get("trace_id")
    return found if isinstance(found, str) else None


@contextmanager
def traced(trace_id: str | None) -> Iterator[None]:
    """Go on under the correlation id that came with a job; a job without one keeps what is bound."""
    if trace_id is None:
        yield
        return
    with structlog.contextvars.bound_contextvars(trace_id=trace_id):
        yield
