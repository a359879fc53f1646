"""What a block means for the tenants: the calls into `custody`, in the transactions that ingestion opens.

A block's transaction observes; finality books, in one transaction per tenant, so that each tenant's books and the height they
stand at change together. Tenants are taken in the order of their ids. One posting per tenant: who posts
twice in one transaction may wait in a circle with others.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import structlog

from custody.db.session import Database, UnitOfWork
from custody.deposits import service as deposits
from custody.deposits.model import Observation, ObservedTransfer
from custody.deposits.service import Refusing
from custody.deposits.telling import ACTOR
from custody.identity import service as identity
from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId
from custody.ledger import service as ledger
from custody.ledger.errors import REFUSALS
from custody.returns import service as returns
from custody.wallets import service as wallets
from custody.wallets.model import VaultRef
from custody.withdrawals import service as withdrawals
from custody.withdrawals.model import OwnTransaction
from ingestion import cursor
from ingestion.errors import UnprovedTransaction
from ingestion.model import BlockFacts, BlockRef
from ingestion.reorg import final_height

UNLISTED_KEPT_MAX = 16
"""Arrivals of unlisted assets that are kept of one transaction and tenant: a contract can tell of thousands for next to
nothing."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What one block came to."""

    deposits: int = 0
    """Arrivals recorded for the first time."""
    unlisted: int = 0
    """Arrivals of assets that are not listed: kept until they are, but for a flood of them."""
    transactions: int = 0
    """Transactions that our vaults sent."""
    unexplained: int = 0
    """Departures from our vaults in transactions that they did not send: a clawback, or a key used elsewhere."""


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
        sent = await _observe_transactions(uow, chain, facts, ours)
        recorded, unlisted = await _observe_movements(uow, chain, facts, ours)
        tally = Tally(
            deposits=tally.deposits + recorded,
            unlisted=tally.unlisted + unlisted,
            transactions=tally.transactions + sent,
            unexplained=tally.unexplained + _count_unexplained(chain, facts, ours),
        )
    return tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What a tip came to."""

    refused: tuple[TenantId, ...]
    """Tenants whose ledger refused to book what is final."""
    cases: Mapping[str, int]
    """How many arrivals could not be credited, by the reason."""


async def settle(db: Database, chain: ChainId, fence: int, tip: BlockRef, confirmations: int) -> Settlement:
    """Book, for each tenant, what is final at this tip. Idempotent.

    What a wallet's account refuses to take goes to suspense. Any other refusal rolls back that tenant's booking and its height,
    to be tried again at the next tip; no other tenant waits for it.
    """
    async with db.read(None) as session:
        tenants = await identity.list_tenants(session)
    refused: list[TenantId] = []
    opened: Counter[str] = Counter()
    for tenant in tenants:
        try:
            opened.update(await _settle_around_refusals(db, chain, fence, tenant, tip, confirmations))
        except REFUSALS as error:
            _log.error(
                "ingestion.tenant_refused", chain=chain, height=tip.height, tenant=tenant, error=str(error)
            )
            refused.append(tenant)
    return Settlement(refused=tuple(refused), cases=opened)


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


async def _settle_around_refusals(
    db: Database, chain: ChainId, fence: int, tenant: TenantId, tip: BlockRef, confirmations: int
) -> list[str]:
    """Settle a tenant; again, with its money suspended, for each wallet's account that refuses. Returns the reasons of the
    cases."""
    refusing: set[Refusing] = set()
    while True:
        try:
            async with db.unit_of_work(tenant) as uow:
                await cursor.hold_fence(uow, chain, fence)
                return await _settle_tenant(uow, chain, tip, confirmations, refusing)
        except REFUSALS as error:
            found = deposits.refusing_wallet(error)
            if found is None or found in refusing:
                raise
            refusing.add(found)


async def _settle_tenant(
    uow: UnitOfWork, chain: ChainId, tip: BlockRef, confirmations: int, refusing: Collection[Refusing]
) -> list[str]:
    before = await deposits.final_height(uow, chain)
    final = final_height(tip.height, confirmations, None if before is None else before.height)
    if before is not None and (before.height, before.ingested_height) == (final, tip.height):
        return []
    ending = await withdrawals.find_final(uow, chain, final)
    booking = await deposits.find_final(uow, chain, final, refusing)
    if commands := (*ending.commands, *booking.commands):
        await ledger.post(uow, *commands)
    await withdrawals.end(uow, ending)
    await returns.settle(uow, ACTOR, [each for each, attempt in ending.included if attempt.succeeded])
    opened = await deposits.book(uow, booking)
    await deposits.record_heights(
        uow, chain, height_final=final, height_ingested=tip.height, ingested_at=tip.closed_at
    )
    return [case.reason.value for case in opened]


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
    uow: UnitOfWork, chain: ChainId, facts: BlockFacts, ours: Mapping[str, VaultRef]
) -> int:
    sent = [each for each in facts.transactions if each.account in ours]
    for each in sent:
        await withdrawals.observe_transaction(
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
    return len(sent)


async def _observe_movements(
    uow: UnitOfWork, chain: ChainId, facts: BlockFacts, ours: Mapping[str, VaultRef]
) -> tuple[int, int]:
    """How many arrivals were new, and how many were of unlisted assets."""
    recorded = 0
    unlisted: Counter[str] = Counter()
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
            keep_unlisted=unlisted[each.tx_hash] < UNLISTED_KEPT_MAX,
        )
        recorded += outcome is Observation.RECORDED
        if outcome in (Observation.UNLISTED, Observation.FLOODED):
            unlisted[each.tx_hash] += 1
            _log.info("ingestion.unlisted_asset", chain=chain, asset=each.asset.text, tx_hash=each.tx_hash)
    return recorded, unlisted.total()


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
