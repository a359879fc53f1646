"""Broken rules of events."""

from __future__ import annotations

from custody.kernel.errors import InvalidInput, InvariantViolated


class UnknownEvent(InvariantViolated):
    """Code tried to emit an event that the catalog does not list."""

    code = "unknown_event"
    public = "An event that is not in the catalog was emitted."


class UnknownEventType(InvalidInput):
    """A filter names no event that there is."""

    code = "unknown_event_type"
    public = "No such event type."
