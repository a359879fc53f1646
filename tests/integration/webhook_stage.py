"""A tenant with webhook endpoints, a clock that moves when told, and a dispatcher whose rounds a test takes one by one."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from custody.db.session import Database
from custody.events import outbox
from custody.events.relay import relay
from custody.events.wakeup import Waker
from custody.kernel.clock import FixedClock
from custody.kernel.ids import TenantId, new_uuid
from custody.webhook_settings import WebhookSettings
from custody.webhooks import service as webhooks
from custody.webhooks.loop import Dispatcher
from custody.webhooks.model import Attempt, Delivery, Endpoint
from custody.webhooks.ports import Resolver
from custody.webhooks.sealed import SecretBox, build_box
from custody.webhooks.sender import Sender, SystemResolver, rules_of

KEY = base64.b64encode(b"k" * 32).decode()
LOCAL = ("127.0.0.0/8",)


def make_webhook_settings(**changes: object) -> WebhookSettings:
    """Plain http to this machine, with short patience."""
    values: dict[str, object] = {
        "secret_keys": (KEY,), "timeout_s": 2, "allow_http": True, "allowed_networks": LOCAL,
    }  # fmt: skip
    return WebhookSettings.model_validate(values | changes)


@dataclass(kw_only=True)
class Stage:
    """One tenant's webhooks."""

    db: Database
    tenant: TenantId
    settings: WebhookSettings = field(default_factory=make_webhook_settings)
    resolver: Resolver = field(default_factory=SystemResolver)
    clock: FixedClock = field(default_factory=lambda: FixedClock(datetime.now(UTC)))

    def __post_init__(self) -> None:
        # A moment ahead, so that what the database has just stamped is due.
        self.clock.advance(1)
        self.box: SecretBox = build_box(self.settings)
        self.sender = Sender(self.settings, self.resolver)
        self.dispatcher = self.another()

    def another(self) -> Dispatcher:
        """A dispatcher as another process would run it."""
        return Dispatcher(self.db, self.sender, self.box, self.clock, self.settings.timeout_s)

    async def endpoint(self, url: str, *types: str) -> tuple[UUID, str]:
        """A new endpoint and its secret."""
        async with self.db.unit_of_work(self.tenant) as uow:
            made, secret = await webhooks.create_endpoint(
                uow, "test", new_uuid(), url=url, description="", types=types or ("*",),
                rules=rules_of(self.settings), box=self.box,
            )  # fmt: skip
        return made.id, secret

    async def happen(
        self, object_id: UUID | None = None, kind: str = "transfer.posted", **data: object
    ) -> UUID:
        """An event, not yet relayed; what it is about."""
        about = object_id or new_uuid()
        async with self.db.unit_of_work(self.tenant) as uow:
            await outbox.emit(uow, kind, about, data)
        return about

    async def relay(self) -> None:
        """Place what happened in the feed, and queue it."""
        while await relay(self.db, Waker("redis://127.0.0.1:1/0"), self.tenant, webhooks.fan_out):
            pass

    async def round(self, *dispatchers: Dispatcher) -> int:
        """One round, side by side where several dispatchers are given; over when every sending is written down."""
        async with asyncio.TaskGroup() as group:
            begun = await asyncio.gather(*(each.round(group) for each in dispatchers or (self.dispatcher,)))
        return sum(begun)

    async def settle(self) -> int:
        """Rounds until nothing is due; how many were sent."""
        await self.relay()
        sent = 0
        while begun := await self.round():
            sent += begun
        return sent

    async def deliveries(self, endpoint_id: UUID | None = None) -> list[Delivery]:
        """All of them, oldest event first."""
        async with self.db.read(self.tenant) as session:
            return (await webhooks.list_deliveries(session, endpoint_id=endpoint_id, limit=1000))[::-1]

    async def log(self, delivery: Delivery) -> list[Attempt]:
        """A delivery's attempts, oldest first."""
        async with self.db.read(self.tenant) as session:
            return (await webhooks.list_attempts(session, delivery.id))[::-1]

    async def state(self, endpoint_id: UUID) -> Endpoint:
        """An endpoint as it stands."""
        async with self.db.read(self.tenant) as session:
            return await webhooks.get_endpoint(session, endpoint_id)

    async def told(self, kind: str) -> Sequence[dict[str, object]]:
        """The data of every event of a type."""
        await self.relay()
        async with self.db.read(self.tenant) as session:
            return [e.data for e in await outbox.load_feed(session, after=0, types=[kind], limit=1000)]


def server_tls(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context
