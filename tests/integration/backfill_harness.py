"""An account with a history, a source that a test can bend, and a worker that is turned by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

import pytest

from custody.chains.ports import Head
from custody.db.session import Database
from custody.deposits.service import NO_CAUTION
from custody.kernel.assetid import ChainId
from custody.kernel.ids import VaultId, derived_uuid
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from devnet.stellar.network import LocalNetwork
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served, serve_in_thread
from ingestion.backfill import service, store
from ingestion.backfill.model import EVERY_VAULT, Backfill
from ingestion.backfill.run import fill
from ingestion.effects import Tally
from ingestion.model import BlockFacts
from ingestion.stellar.sources import RpcLedgers
from tests.fakes.key_maker import FakeKeyMaker
from tests.integration.ingestion_harness import (
    Desk,
    build_loop,
    catch_up,
    open_ledgers,
    take_fence,
)
from tests.integration.stellar_stage import CHAIN

IMPORTED_REQUEST = derived_uuid("imported")
FUNDED = 10_000 * 10**7
"""What friendbot gives."""


class Between:
    """The network's ledgers in batches of a chosen size; something may happen after a fetch, ledgers may be missing or forged."""

    def __init__(self, honest: RpcLedgers, *, batch_max: int = 10) -> None:
        self._honest = honest
        self.batch_max = batch_max
        self.after_fetch: Callable[[], Awaitable[None]] | None = None
        self.missing: frozenset[int] = frozenset()
        self.forged: frozenset[int] = frozenset()
        self.fetched: list[int] = []

    @property
    def chain(self) -> ChainId:
        return self._honest.chain

    @property
    def reorganises(self) -> bool:
        return False

    async def verify_network(self) -> None:
        await self._honest.verify_network()

    async def head(self) -> Head:
        return await self._honest.head()

    async def oldest(self) -> int:
        return await self._honest.oldest()

    async def fetch(self, first: int, last: int) -> list[BlockFacts]:
        facts = await self._honest.fetch(first, last)
        happens, self.after_fetch = self.after_fetch, None
        if happens is not None:
            await happens()
        self.fetched += [each.ref.height for each in facts]
        return [
            replace(each, ref=replace(each.ref, hash="ff" * 32)) if each.ref.height in self.forged else each
            for each in facts
            if each.ref.height not in self.missing
        ]

    async def hashes(self, heights: Sequence[int]) -> dict[int, str]:
        return await self._honest.hashes(heights)

    async def aclose(self) -> None:
        await self._honest.aclose()


@pytest.fixture
def served() -> Iterator[Served]:
    """A network that closes a ledger when it is told to, each later than the one before, as pubnet does."""
    with serve_in_thread(LocalNetwork(strict_close_time=True)) as running:
        yield running


@pytest.fixture
async def source(served: Served, database: Database) -> AsyncIterator[Between]:
    """The network's ledgers."""
    opened = Between(open_ledgers(CHAIN, served.url, served.network.passphrase, database))
    yield opened
    await opened.aclose()


ACCOUNT = FakeKeyMaker.account_of(IMPORTED_REQUEST, CHAIN)
"""An account with a history, which becomes a vault later."""


async def register(
    desk: Desk, *, request: UUID = IMPORTED_REQUEST, unused_before: datetime | None = None
) -> Vault:
    """The account of this request's key becomes a vault of the tenant's."""
    vault = Vault(
        id=VaultId(derived_uuid("vault", request)),
        chain=CHAIN,
        purpose="omnibus",
        wallet_id=None,
        key_id=request.hex,
        account=FakeKeyMaker.account_of(request, CHAIN),
    )
    async with desk.db.unit_of_work(desk.tenant) as uow:
        return await wallets.add_vault(uow, "test", vault, unused_before=unused_before)


async def pay(served: Served, address: str, *amounts: int) -> None:
    """Each payment closes a ledger; two empty ledgers follow."""

    def send() -> None:
        with Outsider(served.url, drive=True) as outsider:
            payer = outsider.new_account()
            for amount in amounts:
                outsider.pay(payer, address, amount)
        served.network.close()
        served.network.close()

    await asyncio.to_thread(send)


async def fund(served: Served, address: str) -> None:
    """The account comes to be."""

    def send() -> None:
        with Outsider(served.url, drive=True) as outsider:
            outsider.fund(address)

    await asyncio.to_thread(send)


async def follow(desk: Desk, source: Between) -> None:
    """The live loop reaches the tip."""
    await catch_up(build_loop(desk.db, source, await take_fence(desk.db, CHAIN)))


def ignore(_backfill: Backfill, _tally: Tally) -> None:
    """Nobody is told."""


async def fill_open(desk: Desk, source: Between) -> list[Backfill]:
    """Everything that is open is read to its end."""
    async with desk.db.read(None) as session:
        found = await store.find_open(session, CHAIN)
    return [
        await fill(desk.db, source, each.id, caution=NO_CAUTION, stop=asyncio.Event(), told=ignore)
        for each in found
    ]


async def order(desk: Desk, first: int, last: int, account: str = EVERY_VAULT) -> Backfill:
    async with desk.db.unit_of_work(None) as uow:
        return await service.order(uow, CHAIN, account, first, last)


async def run(desk: Desk, source: Between, backfill_id: UUID) -> Backfill:
    return await fill(
        desk.db, source, backfill_id, caution=NO_CAUTION, stop=asyncio.Event(), told=ignore, tries_max=2
    )


async def load(desk: Desk, backfill_id: UUID) -> Backfill:
    async with desk.db.read(None) as session:
        return await store.load(session, backfill_id)


async def history(desk: Desk, source: Between, served: Served) -> Backfill:
    """An account with a history of five payments in more than ten ledgers, registered after it, its backfill open."""
    await fund(served, ACCOUNT)
    await pay(served, ACCOUNT, 11, 12)
    await pay(served, ACCOUNT, 13, 14)
    await follow(desk, source)
    await register(desk)
    await follow(desk, source)
    source.batch_max = 3
    async with desk.db.read(None) as session:
        (found,) = await store.find_open(session, CHAIN)
    return found
