"""Sockets of the GraphQL subprotocol to a served application with a relay beside it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from custody.db.session import Database
from custody.events.loop import RelayLoop
from custody.identity import service as identity
from custody.kernel.ids import TenantId
from custody.webhooks import service as webhooks
from tests.integration.api_harness import Harness, running
from tests.integration.api_server import served
from tests.postgres import Cluster

PATIENCE_S = 30


@asynccontextmanager
async def streaming(cluster: Cluster) -> AsyncIterator[tuple[Harness, str]]:
    """The application behind a socket, with a relay beside it; and its address."""
    name = await cluster.create()
    database = Database(cluster.dsn(name, "custody_app"), pool_size=20, signals=True)
    stop = asyncio.Event()

    async def tenants() -> list[TenantId]:
        async with database.read(None) as session:
            return await identity.list_tenants(session)

    async with running(database) as api, served(api.asgi) as url, asyncio.TaskGroup() as group:
        group.create_task(RelayLoop(database, api.app.waker, tenants, webhooks.fan_out).run(stop))
        try:
            yield api, url
        finally:
            stop.set()
            await api.asgi.state.streams.hub.close()
    await database.close()
    await cluster.release(name)


class Client:
    """One side of the subprotocol."""

    def __init__(self, line: ClientConnection) -> None:
        self.line = line

    async def send(self, **message: object) -> None:
        await self.line.send(json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            found: dict[str, Any] = json.loads(await self.line.recv())
        return found

    async def subscribe(self, name: str, query: str, **variables: object) -> None:
        await self.send(type="subscribe", id=name, payload={"query": query, "variables": variables})

    async def next(self, field: str) -> dict[str, Any]:
        message = await self.receive()
        assert message["type"] == "next", message
        found: dict[str, Any] = message["payload"]["data"][field]
        return found

    async def end(self) -> tuple[int | None, str | None]:
        """How the server ends the socket. What happened before may still be told, and nothing else is."""
        while True:
            try:
                message = await self.receive()
            except ConnectionClosed:
                return self.line.close_code, self.line.close_reason
            assert message["type"] == "next", message


@asynccontextmanager
async def dialled(url: str, key: str | None, *, init: bool = True) -> AsyncIterator[Client]:
    """A socket, as whoever has this key."""
    target = url.replace("http", "ws") + "/graphql"
    async with connect(target, subprotocols=["graphql-transport-ws"]) as line:  # type: ignore[list-item]
        client = Client(line)
        if init:
            await client.send(type="connection_init", payload={"authorization": f"Bearer {key}"})
            assert (await client.receive())["type"] == "connection_ack"
        yield client


async def settled(client: Client) -> None:
    """Wait until what was sent before is being served: an answered query came after it."""
    await client.subscribe("probe", "{ assets { id } }")
    assert (await client.receive())["id"] == "probe"
    assert (await client.receive())["type"] == "complete"
