"""A broker in memory, which passes the same tests as the real one."""

from __future__ import annotations

import asyncio

from custody.events.errors import BrokerAway
from custody.events.ports import Message


class FakeBroker:
    """Keeps one message of an id, in the order of arrival."""

    def __init__(self) -> None:
        self.stored: list[Message] = []
        self.away = False
        self.loses_ack_of: set[int] = set()
        """Places whose message is stored and whose acknowledgement is lost, once each."""

    async def publish(self, message: Message) -> None:
        await asyncio.sleep(0)
        if self.away:
            raise BrokerAway(reason="away")
        if all(each.id != message.id for each in self.stored):
            self.stored.append(message)
        if message.position in self.loses_ack_of:
            self.loses_ack_of.discard(message.position)
            raise BrokerAway(reason="lost")

    async def close(self) -> None:
        pass
