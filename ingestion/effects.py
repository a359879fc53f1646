"""What a block means for the tenants: the calls into `custody`, in the transactions that ingestion opens.

A block's transaction observes; finality books, in one transaction per tenant, so that each tenant's books and the height they
stand at change together. Tenants are taken in the order of their ids. One posting per tenant: who posts
twice in one transaction may wait in a circle with others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import structlog

from custody.db.session import Database, UnitOfWork
from custody.deposits import service as deposits
from custody.deposits.model import Observation, ObservedTransfer
from custody.holdings import service as holdings
from custody.holdings.model import BlockPlace
from custody.identity import service as identity
from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId
from custody.ledger import service as ledger
from custody.ledger.errors import REFUSALS
from custody.wallets import service as wallets
from custody.wallets.model import VaultRef
from custody.withdrawals import service as withdrawals
from custody.withdrawals.model import OwnTransaction
from ingestion import cursor
from ingestion.bookings import Bookings, late_bookings
from ingestion.errors import UnprovedTransaction
from ingestion.model import BlockFacts, BlockRef
from ingestion.reorg import final_height

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What settling at one tip came to."""

    refused: tuple[TenantId, ...] = ()
    """Tenants whose ledger refused."""
    breaks: int = 0
    """Holdings of all other tenants whose books differ from the chain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What one block came to."""

    deposits: int = 0
    """Arrivals recorded for the first time."""
    unlisted: int = 0
    """Arrivals of assets that are not listed: ignored, by rule."""
    transactions: int = 0
    """Transactions that our vaults sent."""
    unexplained: int = 0
    """Departures from our vaults in transactions that they did not send: a clawback, or a key used elsewhere."""

    def __add__(self, other: Tally) -> Tally:
        """What two blocks came to."""
        return Tally(
            deposits=self.deposits + other.deposits,
            unlisted=self.unlisted + other.unlisted,
            transactions=self.transactions + other.transactions,
            unexplained=self.unexplained + other.unexplained,
        )


async def observe_block(uow: UnitOfWork, chain: ChainId, facts: BlockFacts) -> Tally:
    """Record everything that a block did to our vaults, of whichever tenant.

    Raises UnprovedTransaction when a transaction that touches one of them does not add up: nothing of the block is then booked.
    """
    refs = {ref.account: ref for ref in await wallets.find_vaults(uow, chain, facts.accounts())}
    _demand_proof(facts, refs)
    tally = Tally()
    for tenant in sorted({ref.tenant for ref in refs.values()}):
        await uow.act_for(tenant)
        ours = {account: ref for account, ref in refs.items() if ref.tenant == tenant}
        bookings = Bookings(chain, facts, ours)
        sent = await _observe_transactions(uow, chain, facts, ours, bookings)
        recorded, unlisted = await _observe_movements(uow, chain, facts, ours, bookings)
        await _record_state(uow, chain, facts, ours, bookings)
        tally += Tally(
            deposits=recorded,
            unlisted=unlisted,
            transactions=sent,
            unexplained=_count_unexplained(chain, facts, ours),
        )
    return tally


async def settle(db: Database, chain: ChainId, fence: int, tip: BlockRef, confirmations: int) -> Settled:
    """Book, for each tenant, what is final at this tip, and compare its books with the chain there. Idempotent.

    A refusal rolls back that tenant's booking and its height, to be tried again at the next tip; no other tenant waits for it.
    """
    async with db.read(None) as session:
        tenants = await identity.list_tenants(session)
    refused, breaks = [], 0
    for tenant in tenants:
        try:
            async with db.unit_of_work(tenant) as uow:
                await cursor.hold_fence(uow, chain, fence)
                breaks += await _settle_tenant(uow, chain, tip, confirmations)
        except REFUSALS as error:
            _log.error(
                "ingestion.tenant_refused", chain=chain, height=tip.height, tenant=tenant, error=str(error)
            )
            refused.append(tenant)
    return Settled(refused=tuple(refused), breaks=breaks)


async def settle_filled(db: Database, chain: ChainId, tenants: Iterable[TenantId]) -> list[TenantId]:
    """Book, for these tenants, what a backfill observed in blocks that were final already. Idempotent.

    The same decisions as at a new tip, up to the height at which each tenant's books stand, which does not change. The cursor is
    held so that no reorganisation passes in between. Returns the tenants whose ledger refused: they are asked again at each new
    tip.
    """
    refused = []
    for tenant in sorted(tenants):
        try:
            async with db.unit_of_work(tenant) as uow:
                await cursor.hold(uow, chain)
                stands = await deposits.final_height(uow, chain)
                if stands is not None:
                    await _book_final(uow, chain, stands.height)
        except REFUSALS as error:
            _log.error("ingestion.tenant_refused", chain=chain, tenant=tenant, error=str(error))
            refused.append(tenant)
    return refused


async def take_back(uow: UnitOfWork, chain: ChainId, tenants: list[TenantId], fork: BlockRef) -> int:
    """Take back what stood above the fork point, for every tenant. Returns how many deposits were touched."""
    touched = 0
    for tenant in tenants:
        await uow.act_for(tenant)
        gone = await deposits.orphan(uow, chain, fork.height)
        await withdrawals.orphan_above(uow, chain, fork.height)
        before = await deposits.final_height(uow, chain)
        if before is not None:
            await deposits.record_heights(
                uow,
                chain,
                height_final=min(before.height, fork.height),
                height_ingested=fork.height,
                ingested_at=fork.closed_at,
            )
        touched += len(gone)
    return touched


async def _settle_tenant(uow: UnitOfWork, chain: ChainId, tip: BlockRef, confirmations: int) -> int:
    """Book, compare, and note the height. Returns how many of the tenant's holdings differ from the chain."""
    before = await deposits.final_height(uow, chain)
    final = final_height(tip.height, confirmations, None if before is None else before.height)
    if before is not None and (before.height, before.ingested_height) == (final, tip.height):
        return await holdings.count_breaks(uow, chain)
    await _book_final(uow, chain, final)
    breaks = await holdings.compare_final(
        uow, chain, height_before=None if before is None else before.height, height_final=final
    )
    await deposits.record_heights(
        uow, chain, height_final=final, height_ingested=tip.height, ingested_at=tip.closed_at
    )
    return breaks


async def _book_final(uow: UnitOfWork, chain: ChainId, final: int) -> None:
    """All that is decided by blocks up to this height being final, in one posting."""
    ending = await withdrawals.find_final(uow, chain, final)
    booking = await deposits.find_final(uow, chain, final)
    if commands := (*ending.commands, *booking.commands):
        await ledger.post(uow, *commands)
    await withdrawals.end(uow, ending)
    await deposits.book(uow, booking)
    await holdings.explain(uow, late_bookings(chain, booking, ending))


def _demand_proof(facts: BlockFacts, refs: Mapping[str, VaultRef]) -> None:
    """Movements and entry changes must agree for every account of ours. Source: CAP-67, the verification invariant."""
    for each in facts.discrepancies:
        if each.account in refs:
            raise UnprovedTransaction(
                height=facts.ref.height,
                tx_hash=each.tx_hash,
                account=each.account,
                asset=each.asset,
                reported=each.reported,
                changed=each.changed,
            )


async def _observe_transactions(
    uow: UnitOfWork,
    chain: ChainId,
    facts: BlockFacts,
    ours: Mapping[str, VaultRef],
    bookings: Bookings,
) -> int:
    sent = [each for each in facts.transactions if each.account in ours]
    for each in sent:
        taken = await withdrawals.observe_transaction(
            uow,
            OwnTransaction(
                chain=chain,
                height=facts.ref.height,
                tx_hash=each.tx_hash,
                account=each.account,
                succeeded=each.succeeded,
                fee_atomic=each.fee_atomic,
                sequence=each.sequence,
                occurred_at=facts.ref.closed_at,
            ),
        )
        bookings.sent(each, taken)
    return len(sent)


async def _observe_movements(
    uow: UnitOfWork,
    chain: ChainId,
    facts: BlockFacts,
    ours: Mapping[str, VaultRef],
    bookings: Bookings,
) -> tuple[int, int]:
    """How many arrivals were new, and how many were of unlisted assets."""
    recorded = unlisted = 0
    for each in facts.movements:
        ref = ours.get(each.account)
        if ref is None:
            continue
        outcome = await deposits.observe(
            uow,
            ref,
            ObservedTransfer(
                chain=chain,
                height=facts.ref.height,
                block_hash=facts.ref.hash,
                tx_hash=each.tx_hash,
                ordinal=each.ordinal,
                asset=each.asset,
                source=each.source,
                account=each.account,
                tag=each.tag,
                memo=each.memo,
                amount=each.amount,
                occurred_at=facts.ref.closed_at,
            ),
        )
        bookings.arrived(each, outcome)
        recorded += outcome is Observation.RECORDED
        if outcome is Observation.UNLISTED:
            unlisted += 1
            _log.info("ingestion.unlisted_asset", chain=chain, asset=each.asset.text, tx_hash=each.tx_hash)
    return recorded, unlisted


async def _record_state(
    uow: UnitOfWork,
    chain: ChainId,
    facts: BlockFacts,
    ours: Mapping[str, VaultRef],
    bookings: Bookings,
) -> None:
    """Keep what the block left of our accounts, before anything of it is booked."""
    state = facts.state
    await holdings.record(
        uow,
        BlockPlace(chain=chain, height=facts.ref.height, closed_at=facts.ref.closed_at),
        holdings=bookings.touched(),
        accounts=[(ours[each.account].vault_id, each) for each in state.accounts if each.account in ours],
        data=[(ours[each.account].vault_id, each) for each in state.data if each.account in ours],
    )


def _count_unexplained(chain: ChainId, facts: BlockFacts, ours: Mapping[str, VaultRef]) -> int:
    """Money that left a vault in somebody else's transaction is not booked: reconciliation shows it, and operators are told."""
    sent = {(each.carrier_hash, each.account) for each in facts.transactions}
    strange = [
        each for each in facts.departures if each.account in ours and (each.tx_hash, each.account) not in sent
    ]
    for each in strange:
        _log.error(
            "ingestion.unexplained_departure",
            chain=chain,
            height=facts.ref.height,
            tx_hash=each.tx_hash,
            account=each.account,
            asset=each.asset.text,
            amount=str(each.amount),
        )
    return len(strange)
