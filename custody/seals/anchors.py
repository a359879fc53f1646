"""Anchoring: a signed seal's hash is written to a Stellar chain, where nobody can take it back.

Whoever knows the vault's account finds the hash with any explorer, and with it a time before which the sealed history was what
it is. The vault pays itself one stroop with the hash as memo; that is an operation on the vault like opening a trustline, so it
waits for the quorum, and only its fee is booked.
"""

from __future__ import annotations

from custody.audit import service as audit
from custody.chains.stellar.lookup import AbsentTransaction, StellarTransaction
from custody.db.session import ReadSession, UnitOfWork
from custody.identity.model import Principal
from custody.kernel.assetid import ChainId
from custody.kernel.clock import Clock
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import WithdrawalId, derived_uuid
from custody.seals import anchor_store, store
from custody.seals.errors import HistoryAltered, NotSealed
from custody.seals.model import Anchor, AnchorView
from custody.settings import Settings
from custody.withdrawals import service as withdrawals

SETTLED = "settled"
"""The hash is on chain and final."""
_UNWRITTEN = frozenset({"rejected", "expired", "cancelled", "failed"})
"""Ended without being on chain: the seal may be asked for again."""


async def anchor_newest(
    uow: UnitOfWork, principal: Principal, chain: ChainId, *, settings: Settings, clock: Clock
) -> AnchorView:
    """Ask for the newest signed seal's hash to be written to a Stellar chain by the tenant's omnibus vault.

    Idempotent by seal and chain: asked again, the same anchor is answered, unless it ended without being on chain; then a new
    one is begun. Raises NotSealed without a checkpoint, and what `withdrawals.service.request_anchor` raises.
    """
    newest = await store.load_last_checkpoint(uow)
    if newest is None:
        raise NotSealed(tenant=uow.tenant)
    await uow.lock(f"anchors/{uow.tenant}/{chain}")
    (seal,) = await store.load_seals(uow, newest.sequence - 1, 1)
    earlier = await anchor_store.load_newest(uow, seal.sequence, chain)
    if earlier is not None:
        known = await _view(uow, earlier)
        if known.state not in _UNWRITTEN:
            return known
    number = 1 if earlier is None else earlier.number + 1
    operation = await withdrawals.request_anchor(
        uow,
        principal,
        WithdrawalId(derived_uuid("anchor", uow.tenant, chain, seal.sequence, number)),
        chain,
        seal.hash,
        settings=settings,
        clock=clock,
    )
    anchor = await anchor_store.insert_anchor(
        uow,
        sequence=seal.sequence,
        chain=chain,
        number=number,
        withdrawal_id=operation.id,
        seal_hash=seal.hash,
    )
    await audit.record(
        uow,
        principal.subject,
        "checkpoint.anchor",
        operation.id,
        {"sequence": seal.sequence, "seal": seal.hash.hex(), "chain": chain, "number": number},
    )
    return await _view(uow, anchor)


async def list_anchors(session: ReadSession) -> list[AnchorView]:
    """All anchors of the tenant, by seal, each with what became of it."""
    return await _views(session, await anchor_store.load_anchors(session))


def check_written(view: AnchorView, found: StellarTransaction | AbsentTransaction) -> str | None:
    """Hold a settled anchor against what the chain says. None when it carries the hash; else why that cannot be told.

    Raises HistoryAltered when the chain says otherwise.
    """
    if isinstance(found, AbsentTransaction):
        if view.height is not None and view.height < found.oldest:
            return f"the node keeps ledgers from {found.oldest} on"
        if view.height is not None and view.height > found.newest:
            return f"the node has come to ledger {found.newest}"
        raise _altered(view.anchor, "the chain does not hold the transaction")
    differing = [
        word
        for word, holds in (
            ("it failed", found.succeeded),
            ("it is in another ledger", found.height == view.height),
            ("another account sent it", found.source == view.account),
            ("its memo is not the seal's hash", found.memo_hash == view.anchor.seal_hash),
        )
        if not holds
    ]
    if differing:
        raise _altered(view.anchor, f"on chain {', '.join(differing)}")
    return None


async def _view(session: ReadSession, anchor: Anchor) -> AnchorView:
    (view,) = await _views(session, [anchor])
    return view


async def _views(session: ReadSession, anchors: list[Anchor]) -> list[AnchorView]:
    ids = [anchor.withdrawal_id for anchor in anchors]
    operations = {each.id: each for each in await withdrawals.find_withdrawals(session, ids)}
    attempts = {
        each.withdrawal_id: each for each in await withdrawals.list_attempts(session, ids) if each.tx_hash
    }
    views = []
    for anchor in anchors:
        operation = operations.get(anchor.withdrawal_id)
        if operation is None:
            raise InvariantViolated("an anchor's operation is not there", anchor=str(anchor.withdrawal_id))
        attempt = attempts.get(anchor.withdrawal_id)
        views.append(
            AnchorView(
                anchor=anchor,
                state=operation.state,
                account=operation.destination,
                tx_hash=None if attempt is None else attempt.tx_hash,
                height=None if attempt is None else attempt.height,
            )
        )
    return views


def _altered(anchor: Anchor, differs: str) -> HistoryAltered:
    return HistoryAltered(
        tenant=anchor.tenant,
        table="ledger_anchors",
        row=f"{anchor.sequence} {anchor.chain} {anchor.number}",
        differs=differs,
    )
