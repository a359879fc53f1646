"""Every broker stores a message once, in order, and says when it cannot; what is carried to one arrives whole."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import UUID

import nats
import pytest

from custody.db.session import Database
from custody.events import outbox
from custody.events.errors import BrokerAway
from custody.events.jetstream import KEY_HEADER, SEQUENCE_HEADER, JetStream
from custody.events.ports import Broker, Message
from custody.events.relay import relay
from custody.events.streaming import StreamLoop, carry, place
from custody.events.wakeup import Waker
from custody.identity import service as identity
from custody.kernel.ids import TenantId, new_uuid, show_id
from custody.stream_settings import EventStreamSettings
from tests.fakes.broker import FakeBroker

STREAM, PREFIX = "TEST", "custody"
KEYS = [UUID(int=number) for number in range(1, 5)]


class Stand(Protocol):
    """A broker, what it has stored, and a way to switch it off."""

    broker: Broker

    async def stored(self) -> list[tuple[str, str, int, bytes]]:
        """Subject, key, place and body of every message, in the order of the stream."""

    async def turn_off(self) -> None: ...

    async def turn_on(self) -> None: ...


@dataclass
class FakeStand:
    broker: FakeBroker = field(default_factory=FakeBroker)

    async def stored(self) -> list[tuple[str, str, int, bytes]]:
        return [(each.subject, str(each.key), each.position, each.body) for each in self.broker.stored]

    async def turn_off(self) -> None:
        self.broker.away = True

    async def turn_on(self) -> None:
        self.broker.away = False


class NatsStand:
    """Debian's nats-server with its files in a folder."""

    def __init__(self, program: str, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"nats://127.0.0.1:{self.port}"
        self._command = [program, "-js", "-sd", str(folder), "-a", "127.0.0.1", "-p", str(self.port)]
        self._process: subprocess.Popen[bytes] | None = None
        chosen = EventStreamSettings(
            servers=(self.url,), stream=STREAM, subject_prefix=PREFIX, create_stream=True, timeout_s=2
        )
        self.broker = JetStream(chosen)

    async def stored(self) -> list[tuple[str, str, int, bytes]]:
        client = await nats.connect(self.url)
        found = []
        try:
            stream = client.jetstream()
            reader = await stream.subscribe(f"{PREFIX}.>", ordered_consumer=True)
            for _ in range((await stream.stream_info(STREAM)).state.messages):
                message = await reader.next_msg(timeout=10)
                headers = message.headers or {}
                found.append(
                    (message.subject, headers[KEY_HEADER], int(headers[SEQUENCE_HEADER]), message.data)
                )
        finally:
            await client.close()
        return found

    async def turn_off(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    async def turn_on(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: ASYNC220 - returns at once
        async with asyncio.timeout(30):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)


@pytest.fixture(params=["fake", "nats-server"])
async def stand(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stand]:
    if request.param == "fake":
        yield FakeStand()
        return
    program = shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")
    if program is None:
        pytest.skip("nats-server is not installed (scripts/setup --broker installs it where it can)")
    real = NatsStand(program, tmp_path)
    await real.turn_on()
    try:
        yield real
    finally:
        await real.broker.close()
        await real.turn_off()


def message(number: int, key: UUID = KEYS[0]) -> Message:
    return Message(
        subject=f"{PREFIX}.1.transfer.posted",
        id=f"evt_{number}",
        key=key,
        position=number,
        body=b"%d" % number,
    )


async def test_a_message_is_stored_once_and_in_order(stand: Stand) -> None:
    for number in (1, 2, 1, 3, 2):
        await stand.broker.publish(message(number))
    found = await stand.stored()
    assert [(subject, place, body) for subject, _, place, body in found] == [
        ("custody.1.transfer.posted", number, b"%d" % number) for number in (1, 2, 3)
    ]


async def test_a_broker_that_is_away_says_so_and_goes_on_when_it_is_back(stand: Stand) -> None:
    await stand.broker.publish(message(1))
    await stand.turn_off()
    for _ in range(2):
        with pytest.raises(BrokerAway):
            await stand.broker.publish(message(2))
    await stand.turn_on()
    await stand.broker.publish(message(2))
    assert [place for _, _, place, _ in await stand.stored()] == [1, 2]


async def emit(database: Database, tenant: TenantId, count: int) -> None:
    async with database.unit_of_work(tenant) as uow:
        for number in range(count):
            await outbox.emit(
                uow, "receipt.credited", KEYS[number % len(KEYS)], {"wallet_id": str(new_uuid())}
            )
    while await relay(database, Waker("redis://127.0.0.1:1/0"), tenant):
        pass


async def test_a_tenants_feed_arrives_whole_though_the_broker_goes_away(
    stand: Stand, database: Database, tenant: TenantId
) -> None:
    stop = asyncio.Event()
    loop = StreamLoop(database, stand.broker, STREAM, PREFIX, lambda: tenants(database))
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        carrying = group.create_task(loop.run(stop))
        await emit(database, tenant, 20)
        await until(database, tenant, 20)
        await stand.turn_off()
        await emit(database, tenant, 20)
        await stand.turn_on()
        await until(database, tenant, 40)
        stop.set()
        await carrying
    found = await stand.stored()
    assert sorted(place for _, _, place, _ in found) == list(range(1, 41))
    assert_ordered(found)
    async with database.read(tenant) as session:
        events = {
            each.position: each for each in await outbox.load_feed(session, after=0, types=(), limit=100)
        }
    for subject, key, position, body in found:
        event = events[position]
        assert (subject, key) == (f"custody.{tenant}.{event.type}", str(event.object_id))
        told = json.loads(body)
        assert (told["id"], told["sequence"], told["data"]) == (
            show_id("evt", event.id),
            position,
            event.data,
        )


async def test_what_was_stored_and_not_acknowledged_is_not_told_twice_nor_out_of_order(
    database: Database, tenant: TenantId
) -> None:
    broker = FakeBroker()
    broker.loses_ack_of = {3, 8}
    await emit(database, tenant, 12)
    for _ in range(2):
        with pytest.raises(BrokerAway):
            await carry(database, broker, STREAM, PREFIX, tenant)
    async with database.read(tenant) as session:
        assert 3 <= await place(session, STREAM) < 8
    await asyncio.gather(*(carry(database, broker, STREAM, PREFIX, tenant) for _ in range(3)))
    assert sorted(each.position for each in broker.stored) == list(range(1, 13))
    assert_ordered([(each.subject, str(each.key), each.position, each.body) for each in broker.stored])
    async with database.read(tenant) as session:
        assert await place(session, STREAM) == 12
        assert await place(session, "OTHER") == 0


async def tenants(database: Database) -> list[TenantId]:
    async with database.read(None) as session:
        return await identity.list_tenants(session)


async def until(database: Database, tenant: TenantId, position: int) -> None:
    while True:
        async with database.read(tenant) as session:
            if await place(session, STREAM) == position:
                return
        await asyncio.sleep(0.02)


def assert_ordered(found: list[tuple[str, str, int, bytes]]) -> None:
    """Of one object, places grow."""
    for key in KEYS:
        places = [place for _, of, place, _ in found if of == str(key)]
        assert places == sorted(places)
