"""What a block means for the tenants: the calls into `custody` in the block's own transaction, and in that of taking blocks back.

Here nothing is booked: that is done once a block is final, in `settling`. Tenants are taken in the order of their ids.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import structlog

from custody.db.session import UnitOfWork
from custody.deposits import service as deposits
from custody.deposits.model import Observation, ObservedTransfer
from custody.holdings import service as holdings
from custody.holdings.model import BlockPlace
from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId, VaultId
from custody.wallets import keys
from custody.wallets import service as wallets
from custody.wallets.model import VaultRef
from custody.withdrawals import service as withdrawals
from custody.withdrawals.model import OwnTransaction
from ingestion import notices
from ingestion.bookings import Bookings
from ingestion.errors import UnprovedTransaction
from ingestion.model import BlockFacts, BlockRef

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
    notices: tuple[str, ...] = ()
    """Codes of what was noticed for the first time."""

    def __add__(self, other: Tally) -> Tally:
        """What two blocks came to."""
        return Tally(
            deposits=self.deposits + other.deposits,
            unlisted=self.unlisted + other.unlisted,
            transactions=self.transactions + other.transactions,
            unexplained=self.unexplained + other.unexplained,
            notices=(*self.notices, *other.notices),
        )


async def observe_block(uow: UnitOfWork, chain: ChainId, facts: BlockFacts) -> Tally:
    """Record everything that a block did to our vaults, of whichever tenant.

    Raises UnprovedTransaction when a transaction that touches one of them does not add up: nothing of the block is then booked.
    """
    refs = {ref.account: ref for ref in await wallets.find_vaults(uow, chain, facts.accounts())}
    _demand_proof(facts, refs)
    tally = Tally(notices=await notices.keep(uow, chain, facts.ref, facts.notices))
    for tenant in sorted({ref.tenant for ref in refs.values()}):
        await uow.act_for(tenant)
        ours = {account: ref for account, ref in refs.items() if ref.tenant == tenant}
        await keys.open_unclaimed(uow, chain, ours.values())
        bookings = Bookings(chain, facts, ours)
        sent, explained = await _observe_transactions(uow, chain, facts, ours, bookings)
        recorded, unlisted = await _observe_movements(uow, chain, facts, ours, bookings)
        await _record_state(uow, chain, facts, ours, bookings)
        tally += Tally(
            deposits=recorded,
            unlisted=unlisted,
            transactions=sent,
            unexplained=_count_unexplained(chain, facts, ours, explained),
        )
    return tally


async def take_back(
    uow: UnitOfWork, chain: ChainId, tenants: list[TenantId], fork: BlockRef, *, marks_spent: bool = False
) -> int:
    """Take back what stood above the fork point, for every tenant. Returns how many deposits were touched.

    `marks_spent`: credits whose money is gone stand, marked as lost; else CreditSpent is raised.
    """
    touched = 0
    for tenant in tenants:
        await uow.act_for(tenant)
        gone = await deposits.orphan(uow, chain, fork.height, marks_spent=marks_spent)
        await withdrawals.orphan_above(uow, chain, fork.height)
        before = await deposits.final_height(uow, chain)
        deep = before is not None and before.height > fork.height
        await holdings.rewind(uow, chain, fork.height, deep=deep)
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
) -> tuple[int, set[tuple[str, VaultId]]]:
    """How many there were, and which vaults they took money from: a channel sends what another vault pays."""
    sent = [each for each in facts.transactions if each.account in ours]
    explained = {(each.carrier_hash, ours[each.account].vault_id) for each in sent}
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
                outcome=each.outcome,
            ),
        )
        bookings.sent(each, taken)
        if taken is not None:
            explained.add((each.carrier_hash, taken.vault_id))
    return len(sent), explained


async def _observe_movements(
    uow: UnitOfWork,
    chain: ChainId,
    facts: BlockFacts,
    ours: Mapping[str, VaultRef],
    bookings: Bookings,
) -> tuple[int, int]:
    """How many arrivals were new, and how many were of unlisted assets."""
    recorded = 0
    unlisted: Counter[str] = Counter()
    arrived = [(each, ref) for each in facts.movements if (ref := ours.get(each.account)) is not None]
    own = await withdrawals.find_refills(uow, chain, {each.tx_hash for each, _ in arrived})
    for each, ref in arrived:
        if (each.tx_hash, ref.vault_id, each.asset, each.amount) in own:
            # Our own money in another vault of ours: what moved it books it there.
            bookings.arrived(each, Observation.RECORDED)
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
                doubt=each.doubt,
            ),
            keep_unlisted=unlisted[each.tx_hash] < UNLISTED_KEPT_MAX,
        )
        bookings.arrived(each, outcome)
        recorded += outcome is Observation.RECORDED
        if outcome in (Observation.UNLISTED, Observation.FLOODED):
            unlisted[each.tx_hash] += 1
            _log.info("ingestion.unlisted_asset", chain=chain, asset=each.asset.text, tx_hash=each.tx_hash)
    return recorded, unlisted.total()


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
        shows_all=state.shows_all,
    )


def _count_unexplained(
    chain: ChainId,
    facts: BlockFacts,
    ours: Mapping[str, VaultRef],
    explained: Collection[tuple[str, VaultId]],
) -> int:
    """Money that left a vault in somebody else's transaction is not booked: reconciliation shows it, and operators are told."""
    strange = [
        each
        for each in facts.departures
        if each.account in ours and (each.tx_hash, ours[each.account].vault_id) not in explained
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
