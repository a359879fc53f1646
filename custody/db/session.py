"""Transactions. The edge (a request, a job step, a block) opens one; services work in it and never commit.

Every transaction names its tenant, and row-level security shows it that tenant's rows only. A transaction without a tenant sees
the tables that belong to nobody (tenants, assets, cursors) and no tenant's row.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import asyncpg
import orjson
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from custody.db.reader import LOST, Reader, ReaderLost
from custody.db.signals import EMITTED, Signals
from custody.db.snapshot import Snapshots
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import CustomerId, TenantId

_T = TypeVar("_T")


_LOCK_NOT_AVAILABLE = "55P03"
"""Source: PostgreSQL appendix A."""


_LOCK_ALL = text(
    "SELECT CASE WHEN CASE WHEN set_config('lock_timeout', :limit, true) IS NOT NULL"
    " THEN (SELECT count(pg_advisory_xact_lock(key)) FROM unnest(CAST(:keys AS bigint[])) AS key) END IS NOT NULL"
    " THEN set_config('lock_timeout', '0', true) END"
)
"""Set how long to wait, wait, and let later statements wait for as long as it takes. CASE settles the order. Source: PostgreSQL
manual, 4.2.14."""


class LockTaken(Exception):
    """Somebody else kept a lock for longer than was waited. The transaction has to be rolled back."""


class ReadSession:
    """One transaction's view of the database."""

    def __init__(
        self, conn: AsyncConnection, tenant: TenantId | None, customer: CustomerId | None = None
    ) -> None:
        """`tenant` is what row-level security compares with; with a `customer`, only that customer's rows are seen."""
        self.conn = conn
        self.customer = customer
        self._tenant = tenant

    @property
    def tenant(self) -> TenantId:
        """The tenant this transaction acts for. Raises InvariantViolated when it acts for none."""
        if self._tenant is None:
            raise InvariantViolated("this transaction acts for no tenant")
        return self._tenant

    async def fetch(self, sql: str, *values: object) -> list[asyncpg.Record]:
        """The rows of a constant statement in the driver's spelling (`$1`), without the toolkit's way there and back, which takes
        twice as long as the rest: for what is asked all the time. Raises ReaderLost, InvariantViolated when it acts for none."""
        if self._tenant is None or self.conn.sync_connection is None:
            # Whom it acts for is told by its first statement, with which the toolkit begins the transaction.
            raise InvariantViolated("this transaction acts for no tenant")
        driver: Any = self.conn.sync_connection.connection.driver_connection
        try:
            found: list[asyncpg.Record] = await driver.fetch(sql, *values)
        except LOST as error:
            raise ReaderLost from error
        return found

    async def act_for(self, tenant: TenantId) -> None:
        """Go on for another tenant in the same transaction. Only ingestion does: one block may move several tenants' money."""
        await self.conn.execute(
            text("SELECT set_config('app.tenant', :tenant, true)"), {"tenant": str(tenant)}
        )
        self._tenant = tenant

    async def see_as(self, tenant: TenantId, customer: CustomerId) -> None:
        """Go on as one customer of a tenant: only its rows are seen from here on, and nothing can be written."""
        await self.conn.execute(
            text(
                "SELECT set_config('app.tenant', :tenant, true), set_config('app.customer', :customer, true)"
            ),
            {"tenant": str(tenant), "customer": str(customer)},
        )
        self._tenant, self.customer = tenant, customer


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
        await self.conn.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": lock_key(name)})

    async def lock_shared(self, name: str) -> None:
        """The same, together with others who hold it shared, while nobody holds it alone."""
        await self.conn.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": lock_key(name)})

    async def try_lock(self, name: str) -> bool:
        """Take the advisory lock of this name if nobody has it."""
        found = await self.conn.execute(
            text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": lock_key(name)}
        )
        return bool(found.scalar_one())

    async def lock_all(self, names: Collection[str], patience_s: float) -> None:
        """Wait for all of these locks, always in the same order, so that nobody waits in a circle. Raises LockTaken."""
        keys = sorted({lock_key(name) for name in names})
        try:
            await self.conn.execute(_LOCK_ALL, {"keys": keys, "limit": str(round(patience_s * 1000))})
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
                raise LockTaken from error
            raise


class Database:
    """A pool of connections to Postgres as the role `custody_app`."""

    def __init__(self, url: str, *, pool_size: int = 10, echo: bool = False, signals: bool = False) -> None:
        """`url` is `postgresql://user@host:port/name`; the asyncpg driver is implied. `signals`: whether other processes are told
        of what is committed here."""
        self.url = url
        self.reader = Reader(url, pool_size)
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
        self.snapshots = Snapshots(
            create_async_engine(
                driver_url(url),
                poolclass=NullPool,
                isolation_level="AUTOCOMMIT",
                echo=echo,
                json_serializer=lambda value: orjson.dumps(value).decode(),
                json_deserializer=orjson.loads,
            ),
            pool_size,
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
    async def read(
        self, tenant: TenantId | None, customer: CustomerId | None = None
    ) -> AsyncIterator[ReadSession]:
        """A read-only transaction that sees one snapshot throughout; with a `customer`, nothing but that customer's rows."""
        async with self.engine.connect() as plain:
            conn = await plain.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            async with conn.begin():
                session = ReadSession(conn, tenant)
                if tenant is not None and customer is not None:
                    await session.see_as(tenant, customer)
                elif tenant is not None:
                    await session.act_for(tenant)
                yield session

    @asynccontextmanager
    async def snapshot(
        self, tenant: TenantId, customer: CustomerId | None = None
    ) -> AsyncIterator[ReadSession]:
        """The same as `read` for a third of the round trips, over connections of its own: for what is asked all the time."""
        async with self.snapshots.open(tenant, customer) as conn:
            yield ReadSession(conn, tenant, customer)

    async def close(self) -> None:
        """Close every connection."""
        await self.reader.close()
        await self.snapshots.close()
        if self._signals is not None:
            await self._signals.close()
        await self.engine.dispose()


def driver_url(url: str) -> str:
    """The same address, spoken to through asyncpg."""
    for scheme in ("postgresql://", "postgres://"):
        if url.startswith(scheme):
            return "postgresql+asyncpg://" + url[len(scheme) :]
    return url


def lock_key(name: str) -> int:
    """The number that Postgres knows the advisory lock of this name by."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
