"""Transactions. The edge (a request, a job step, a block) opens one; services work in it and never commit.

Every transaction names its tenant, and row-level security shows it that tenant's rows only. A transaction without a tenant sees
the tables that belong to nobody (tenants, assets, cursors) and no tenant's row.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from custody.db.signals import EMITTED, Signals
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import TenantId

_T = TypeVar("_T")


class ReadSession:
    """One transaction's view of the database."""

    def __init__(self, conn: AsyncConnection, tenant: TenantId | None) -> None:
        """`tenant` is what row-level security compares with."""
        self.conn = conn
        self._tenant = tenant

    @property
    def tenant(self) -> TenantId:
        """The tenant this transaction acts for. Raises InvariantViolated when it acts for none."""
        if self._tenant is None:
            raise InvariantViolated("this transaction acts for no tenant")
        return self._tenant

    async def act_for(self, tenant: TenantId) -> None:
        """Go on for another tenant in the same transaction. Only ingestion does: one block may move several tenants' money."""
        await self.conn.execute(
            text("SELECT set_config('app.tenant', :tenant, true)"), {"tenant": str(tenant)}
        )
        self._tenant = tenant


class UnitOfWork(ReadSession):
    """One transaction that may write. It commits when its context ends without an error."""

    def __init__(self, conn: AsyncConnection, tenant: TenantId | None) -> None:
        """See ReadSession."""
        super().__init__(conn, tenant)
        self.emitted: set[TenantId] = set()
        """Tenants of whom this transaction writes an event."""
        self._gathered: dict[Callable[[UnitOfWork, list[Any]], Awaitable[None]], list[Any]] = {}

    def gather(self, conclude: Callable[[UnitOfWork, list[_T]], Awaitable[None]]) -> list[_T]:
        """What `conclude` will be given just before the commit: the same list on every call with the same function.

        For work under a lock that everybody wants, such as the head of the audit chain: taken last and briefly, whatever order a
        use case does the rest in, so that nobody waits in a circle.
        """
        return self._gathered.setdefault(conclude, [])

    async def conclude(self) -> None:
        """Do what was gathered. The transaction's opener calls it, last."""
        for conclude, gathered in self._gathered.items():
            await conclude(self, gathered)

    async def lock(self, name: str) -> None:
        """Wait for the advisory lock of this name and hold it until the transaction ends."""
        key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
        await self.conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})


class Database:
    """A pool of connections to Postgres as the role `custody_app`."""

    def __init__(self, url: str, *, pool_size: int = 10, echo: bool = False, signals: bool = False) -> None:
        """`url` is `postgresql://user@host:port/name`; the asyncpg driver is implied. `signals`: whether other processes are told
        of what is committed here."""
        self.url = url
        self._signals = Signals(url) if signals else None
        self.engine: AsyncEngine = create_async_engine(
            driver_url(url),
            pool_size=pool_size,
            max_overflow=pool_size,
            pool_pre_ping=True,
            echo=echo,
            json_serializer=lambda value: orjson.dumps(value).decode(),
            json_deserializer=orjson.loads,
        )

    @asynccontextmanager
    async def unit_of_work(self, tenant: TenantId | None) -> AsyncIterator[UnitOfWork]:
        """Begin; commit at the end, roll back on any error. READ COMMITTED: writers lock the rows they decide on."""
        async with self.engine.begin() as conn:
            uow = UnitOfWork(conn, tenant)
            if tenant is not None:
                await uow.act_for(tenant)
            yield uow
            await uow.conclude()
        if uow.emitted:
            self.tell(EMITTED, uow.emitted)

    def tell(self, channel: str, tenants: Collection[TenantId]) -> None:
        """Let other processes know at once what they would find out by themselves a little later."""
        if self._signals is not None:
            self._signals.tell(channel, tenants)

    @asynccontextmanager
    async def read(self, tenant: TenantId | None) -> AsyncIterator[ReadSession]:
        """A read-only transaction that sees one snapshot throughout."""
        async with self.engine.connect() as plain:
            conn = await plain.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            async with conn.begin():
                session = ReadSession(conn, tenant)
                if tenant is not None:
                    await session.act_for(tenant)
                yield session

    async def close(self) -> None:
        """Close every connection."""
        if self._signals is not None:
            await self._signals.close()
        await self.engine.dispose()


def driver_url(url: str) -> str:
    """The same address, spoken to through asyncpg."""
    for scheme in ("postgresql://", "postgres://"):
        if url.startswith(scheme):
            return "postgresql+asyncpg://" + url[len(scheme) :]
    return url
