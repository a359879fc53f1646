"""Broken rules of events."""

from __future__ import annotations

from custody.kernel.errors import InvalidInput, InvariantViolated, Unavailable


class UnknownEvent(InvariantViolated):
    """Code tried to emit an event that the catalog does not list."""

    code = "unknown_event"
    public = "An event that is not in the catalog was emitted."


class UnknownEventType(InvalidInput):
    """A filter names no event that there is."""

    code = "unknown_event_type"
    public = "No such event type."


class BrokerAway(Unavailable):
    """The broker does not answer or does not take a message; whether it has stored it is unknown, and it is sent again."""

    code = "broker_away"
    public = "The broker of the event stream is not available."
