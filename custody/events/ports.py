"""What carries events out: a broker, of whichever kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An event on its way to a broker."""

    subject: str
    """`prefix.tenant.object.fact`."""
    id: str
    """The event's shown id: the broker keeps one message of it, however often it is sent."""
    key: UUID
    """The object that it is about: messages of one key stay in order."""
    position: int
    """Its place in the tenant's feed."""
    body: bytes
    """The event as everybody outside sees it."""


class Broker(Protocol):
    """Stores messages for others to read."""

    async def publish(self, message: Message) -> None:
        """Returns when the broker has stored the message, or had before. Raises BrokerAway: then that is unknown."""
        ...

    async def close(self) -> None:
        """Let the connection go."""
        ...
