"""Our ledger under load: filled, with a running batcher, and transfers that are made before the clock starts."""

from __future__ import annotations

import gc
import random
from collections.abc import Awaitable, Callable, Iterator
from itertools import chain, repeat

from bench.cells import Cell, clients
from bench.cluster import BenchCluster
from custody.assets import service as assets
from custody.db.session import Database
from custody.identity import service as identity
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, derived_uuid, new_uuid
from custody.kernel.money import Amount
from custody.ledger import postings, service
from custody.ledger.channel import connect
from custody.ledger.model import AccountKey, OpenAccount, Transfer, TransferCode
from custody.ledger.poster import Poster

ASSET = parse_asset_id("stellar:devnet/native")
VAULT = postings.vault_account(derived_uuid("bench", "vault"), ASSET)
FEW = 1000
"""Accounts of the small set."""
PER_SECOND_MAX = 60_000
"""Transfers are made in advance for this pace."""

Pair = Callable[[], tuple[AccountKey, AccountKey]]


class Load:
    """One tenant with many funded wallets."""

    def __init__(self, cluster: BenchCluster, database: str, accounts: int) -> None:
        """`accounts` wallets, of which the first thousand are the small set."""
        self.cluster, self.database, self.accounts = cluster, database, accounts
        self.wallets = [postings.wallet_account(derived_uuid("bench", n), ASSET) for n in range(accounts)]
        self.poor = postings.wallet_account(derived_uuid("bench", "poor"), ASSET)
        self.chance = random.Random(20_261_123)
        self.tenant = TenantId(0)
        self.poster = self.make_poster()

    def make_poster(self) -> Poster:
        """A batcher with connections of its own."""
        return Poster(lambda: connect(self.dsn), self.give_up)

    @property
    def dsn(self) -> str:
        """The ledger's database, as the application."""
        return self.cluster.dsn(self.database, "custody_app")

    async def give_up(self, attempt: int) -> None:
        """Instead of a pause before another attempt."""
        raise RuntimeError(f"the ledger gave way or was lost ({attempt}): this bench expects neither")

    async def fill(self) -> None:
        """Open all accounts and give every wallet money."""
        database = Database(self.dsn)
        async with database.unit_of_work(None) as uow:
            await assets.register(uow, ASSET, "XLM", 7)
            self.tenant = await identity.create_tenant(uow, "bench")
        await self._each(database, [[OpenAccount(key=key)] for key in (VAULT, self.poor, *self.wallets)])
        await self._each(database, [[self.transfer(VAULT, key, 10**12)] for key in self.wallets])
        await database.close()
        await self.cluster.execute("VACUUM ANALYZE", self.database)

    async def _each(self, database: Database, chains: list[list[OpenAccount]] | list[list[Transfer]]) -> None:
        for start in range(0, len(chains), 1000):
            async with database.unit_of_work(self.tenant) as uow:
                await service.submit(uow, chains[start : start + 1000])

    def transfer(self, debit: AccountKey, credit: AccountKey, atomic: int) -> Transfer:
        """A new transfer between two accounts."""
        command_id = new_uuid()
        return Transfer(
            id=command_id,
            debit=debit,
            credit=credit,
            amount=Amount(ASSET, atomic),
            code=TransferCode.WALLET_TRANSFER,
            reference=command_id,
        )

    def spread(self) -> tuple[AccountKey, AccountKey]:
        """Any two of the small set."""
        return self._two(FEW)

    def spread_many(self) -> tuple[AccountKey, AccountKey]:
        """Any two of all."""
        return self._two(self.accounts)

    def hot(self) -> tuple[AccountKey, AccountKey]:
        """To or from the one wallet that is in all of them."""
        other = self.wallets[1 + int(self.chance.random() * (FEW - 1))]
        return (self.wallets[0], other) if self.chance.random() < 0.5 else (other, self.wallets[0])

    def failing(self) -> tuple[AccountKey, AccountKey]:
        """Any two of the small set; one in twenty comes from a wallet that has nothing."""
        debit, credit = self._two(FEW)
        return self.poor if self.chance.random() < 0.05 else debit, credit

    def _two(self, accounts: int) -> tuple[AccountKey, AccountKey]:
        first = int(self.chance.random() * accounts)
        second = (first + 1 + int(self.chance.random() * (accounts - 1))) % accounts
        return self.wallets[first], self.wallets[second]

    async def cell(self, pair: Pair, in_flight: int, seconds: float, poster: Poster | None = None) -> Cell:
        """So many requests in flight, each one transfer of this kind."""
        posts = poster or self.poster
        made = self._make(pair, round(seconds * PER_SECOND_MAX))

        async def one() -> int:
            await posts.submit(self.tenant, next(made))
            return 1

        return await self.timed(in_flight, seconds, one)

    async def timed(self, count: int, seconds: float, one: Callable[[], Awaitable[int]]) -> Cell:
        """A cell with nothing left over from what went before."""
        gc.collect()
        gc.freeze()
        try:
            return await clients(count, seconds, self.cluster.cpu_seconds, one)
        finally:
            gc.unfreeze()

    def _make(self, pair: Pair, count: int) -> Iterator[Transfer]:
        """Transfers as a caller would hold them, made before the clock starts: they are not what is measured. Who is faster than
        expected makes the rest itself."""
        made = [self._any(pair) for _ in range(count)]
        return chain(made, (self._any(pair) for _ in repeat(None)))

    def _any(self, pair: Pair) -> Transfer:
        return self.transfer(*pair(), 1 + int(self.chance.random() * 999))
