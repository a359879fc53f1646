"""Book what is final, in one transaction per tenant, so that each tenant's books and the height they stand at change together.

Tenants are taken in the order of their ids. One posting per tenant: who posts twice in one transaction may wait in a circle with
others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import structlog

from custody.db.session import Database, UnitOfWork
from custody.deposits import service as deposits
from custody.deposits.model import Caution
from custody.deposits.service import Refusing
from custody.deposits.telling import ACTOR
from custody.holdings import halts
from custody.holdings import service as holdings
from custody.identity import service as identity
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.ids import TenantId, VaultId
from custody.ledger import service as ledger
from custody.ledger.errors import REFUSALS
from custody.returns import service as returns
from custody.withdrawals import service as withdrawals
from ingestion import cursor
from ingestion.bookings import late_bookings, waiting_bookings
from ingestion.errors import ChainHalted
from ingestion.finality import Standing
from ingestion.model import BlockRef
from ingestion.reorg import final_height

_log = structlog.get_logger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What settling at one tip came to."""

    refused: tuple[TenantId, ...] = ()
    """Tenants whose ledger refused to book what is final."""
    breaks: int = 0
    """Holdings of all other tenants whose books differ from the chain."""
    cases: Mapping[str, int] = field(default_factory=dict)
    """How many arrivals could not be credited, by the reason."""


async def settle(db: Database, chain: ChainId, fence: int, tip: BlockRef, standing: Standing) -> Settled:
    """Book, for each tenant, what is final at this tip, and compare its books with the chain there. Idempotent.

    What a wallet's account refuses to take goes to suspense. Any other refusal rolls back that tenant's booking and its height,
    to be tried again at the next tip; no other tenant waits for it. Of a chain that is halted nothing is booked.
    """
    async with db.read(None) as session:
        tenants = await identity.list_tenants(session)
    refused, breaks, cases = [], 0, Counter[str]()

    async def at_the_tip(uow: UnitOfWork, refusing: Collection[Refusing]) -> tuple[int, list[str]]:
        await cursor.hold_fence(uow, chain, fence)
        if await halts.find_open(uow, chain) is not None:
            return await holdings.count_breaks(uow, chain), []
        return await _settle_tenant(uow, chain, tip, standing, refusing)

    for tenant in tenants:
        try:
            found, opened = await _around_refusals(db, tenant, at_the_tip)
            breaks += found
            cases.update(opened)
        except REFUSALS as error:
            _log.error(
                "ingestion.tenant_refused", chain=chain, height=tip.height, tenant=tenant, error=str(error)
            )
            refused.append(tenant)
    return Settled(refused=tuple(refused), breaks=breaks, cases=cases)


async def settle_filled(
    db: Database, chain: ChainId, tenants: Iterable[TenantId], caution: Caution
) -> list[TenantId]:
    """Book, for these tenants, what a backfill observed in blocks that were final already. Idempotent.

    The same decisions as at a new tip, up to the height at which each tenant's books stand, which does not change; what `caution`
    holds back is left to the live loop. The cursor is held so that no reorganisation passes in between. Returns the tenants whose
    ledger refused: they are asked again at each new tip.
    """

    async def where_it_stands(uow: UnitOfWork, refusing: Collection[Refusing]) -> None:
        await cursor.hold(uow, chain)
        if await halts.find_open(uow, chain) is not None:
            return
        stands = await deposits.final_height(uow, chain)
        if stands is not None:
            await _book_final(uow, chain, stands.height, refusing, caution)

    refused = []
    for tenant in sorted(tenants):
        try:
            await _around_refusals(db, tenant, where_it_stands)
        except REFUSALS as error:
            _log.error("ingestion.tenant_refused", chain=chain, tenant=tenant, error=str(error))
            refused.append(tenant)
    return refused


async def settle_late(
    db: Database,
    chain: ChainId,
    tenant: TenantId,
    observe: Callable[[UnitOfWork], Awaitable[Sequence[tuple[VaultId, AssetId]]]],
    caution: Caution,
) -> int:
    """Book, for a tenant, what `observe` finds late in blocks that are final, and compare the holdings that it names: one
    transaction, alone on the chain. What `caution` holds back is left to the live loop. Returns how many of them differ. Nothing
    is observed while the chain is halted: ChainHalted.
    """

    async def whole(uow: UnitOfWork, refusing: Collection[Refusing]) -> int:
        await cursor.hold_alone(uow, chain)
        if await halts.find_open(uow, chain) is not None:
            raise ChainHalted(chain=chain)
        keys = await observe(uow)
        stands = await deposits.final_height(uow, chain)
        if stands is None:
            return 0
        await _book_final(uow, chain, stands.height, refusing, caution)
        waiting = waiting_bookings(await deposits.find_waiting(uow, chain, stands.height))
        return await holdings.compare_again(uow, chain, keys, stands.height, waiting)

    return await _around_refusals(db, tenant, whole)


async def _around_refusals(
    db: Database, tenant: TenantId, book: Callable[[UnitOfWork, Collection[Refusing]], Awaitable[_T]]
) -> _T:
    """Book for a tenant; again, with its money suspended, for each wallet's account that refuses."""
    refusing: set[Refusing] = set()
    while True:
        try:
            async with db.unit_of_work(tenant) as uow:
                return await book(uow, refusing)
        except REFUSALS as error:
            found = deposits.refusing_wallet(error)
            if found is None or found in refusing:
                raise
            refusing.add(found)


async def _settle_tenant(
    uow: UnitOfWork, chain: ChainId, tip: BlockRef, standing: Standing, refusing: Collection[Refusing]
) -> tuple[int, list[str]]:
    """Book, compare, and note the height. Returns how many of the tenant's holdings differ from the chain, and the reasons of the
    cases that were opened."""
    before = await deposits.final_height(uow, chain)
    final = final_height(standing.reached, None if before is None else before.height)
    stands = before is not None and (before.height, before.ingested_height) == (final, tip.height)
    if stands and standing.caution == deposits.NO_CAUTION:
        return await holdings.count_breaks(uow, chain), []
    opened = await _book_final(uow, chain, final, refusing, standing.caution)
    breaks = await holdings.compare_final(
        uow,
        chain,
        height_before=None if before is None else before.height,
        height_final=final,
        waiting=waiting_bookings(await deposits.find_waiting(uow, chain, final)),
    )
    await deposits.record_heights(
        uow, chain, height_final=final, height_ingested=tip.height, ingested_at=tip.closed_at
    )
    return breaks, opened


async def _book_final(
    uow: UnitOfWork, chain: ChainId, final: int, refusing: Collection[Refusing], caution: Caution
) -> list[str]:
    """All that is decided by blocks up to this height being final, in one posting. Returns the reasons of the cases."""
    ending = await withdrawals.find_final(uow, chain, final)
    booking = await deposits.find_final(uow, chain, final, refusing, caution)
    if commands := (*ending.commands, *booking.commands):
        await ledger.post(uow, *commands)
    await withdrawals.end(uow, ending)
    await returns.settle(uow, ACTOR, [each for each, attempt in ending.included if attempt.succeeded])
    opened = await deposits.book(uow, booking)
    await holdings.explain(uow, late_bookings(chain, booking, ending))
    return [case.reason.value for case in opened]
