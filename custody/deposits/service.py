"""Deposits from the first sight in a block to the credit: what ingestion calls, and what readers ask.

Crediting waits for finality. What cannot be attributed by then goes to suspense, where a person decides. Money that comes from a
vault of our own is treated like any other: the sending side books its departure as a withdrawal, this side books its arrival, so
both vaults agree with the chain whoever sent it. Without a tag or a deposit vault to name a wallet it ends in suspense. A vault
that pays itself is neither: nothing left it and nothing arrived, so neither side books anything but the fee.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from custody.assets import service as assets
from custody.audit import service as audit
from custody.db.session import ReadSession, UnitOfWork
from custody.deposits import store
from custody.deposits.errors import CreditSpent, DepositExistsDifferent, UnknownDeposit
from custody.deposits.model import Booking, Deposit, FinalHeight, Observation, ObservedTransfer
from custody.deposits.transitions import DEPOSITS
from custody.events import outbox
from custody.kernel.assetid import ChainId
from custody.kernel.ids import DepositId, TenantId, VaultId, WalletId, derived_uuid
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.errors import InsufficientFunds
from custody.ledger.model import Command
from custody.ledger.transitions import ACCOUNTS
from custody.wallets import service as wallets
from custody.wallets.model import VaultRef

ACTOR = "ingestion"
"""Who the audit log names: nobody asked for a deposit, the chain brought it."""
TAG_ISSUED_MAX = 2**63 - 1
"""No tag of ours is larger (`vaults.tags_issued` is a bigint)."""

_EVENT_OF = {"credited": "credit", "suspended": "suspend"}


async def observe(uow: UnitOfWork, vault: VaultRef, transfer: ObservedTransfer) -> Observation:
    """Record an arrival at a vault of the transaction's tenant. Idempotent by what arrived.

    Raises DepositExistsDifferent when its place in the transaction is taken by something else, or it is in two blocks at once.
    """
    if transfer.source == transfer.account:
        return Observation.UNMOVED
    if await assets.find(uow, transfer.asset) is None:
        return Observation.UNLISTED
    deposit_id = id_of(uow.tenant, transfer)
    wallet_id = await _attribute(uow, vault.vault_id, transfer.tag)
    if await store.insert_deposit(uow, deposit_id, vault.vault_id, wallet_id, transfer):
        await _tell(uow, "observed", deposit_id, transfer, wallet_id)
        return Observation.RECORDED
    known = await store.lock_deposit(uow, deposit_id)
    if known is not None and known.state in DEPOSITS.sources("include"):
        await store.include_again(uow, known, wallet_id, transfer)
        await _tell(uow, "observed", deposit_id, transfer, wallet_id)
        return Observation.RECORDED
    if known is None or known.transfer.block_hash != transfer.block_hash:
        raise DepositExistsDifferent(chain=transfer.chain, tx_hash=transfer.tx_hash, ordinal=transfer.ordinal)
    return Observation.KNOWN


async def find_final(uow: UnitOfWork, chain: ChainId, height_final: int) -> Booking:
    """Decide about every deposit of the tenant whose block is final: to its wallet, or to suspense. Idempotent.

    The caller posts the commands, together with all else that the same height decides, and then calls `book`: who posts twice in
    one transaction may wait in a circle with others.
    """
    due = await store.lock_final(uow, chain, height_final)
    decided = [await _decide(uow, deposit) for deposit in due]
    return Booking(
        deposits=tuple(decided),
        commands=tuple(command for deposit in decided for command in _posting(deposit)),
    )


async def book(uow: UnitOfWork, booking: Booking) -> None:
    """The commands are posted: the deposits are credited or suspended, and everybody is told."""
    for deposit in booking.deposits:
        await store.move(uow, deposit.id, _EVENT_OF[deposit.state], deposit.wallet_id)
        await _tell_of(uow, deposit)


async def orphan(uow: UnitOfWork, chain: ChainId, height_above: int) -> list[Deposit]:
    """Take back every deposit of the tenant above a height: its block was replaced. Booked ones get a mirror posting.

    Raises CreditSpent when a wallet no longer holds what has to be taken back.
    """
    changed = []
    for deposit in await store.lock_above(uow, chain, height_above):
        event = "orphan" if deposit.state in DEPOSITS.sources("orphan") else "reverse"
        if event == "reverse":
            await _mirror(uow, deposit)
        await store.move(uow, deposit.id, event, deposit.wallet_id)
        changed.append(replace(deposit, state=DEPOSITS.target(deposit.state, event)))
        await _tell_of(uow, changed[-1])
    return changed


async def record_heights(
    uow: UnitOfWork, chain: ChainId, *, height_final: int, height_ingested: int, ingested_at: datetime
) -> None:
    """Note, in the transaction that books it, up to where the tenant's books follow the chain."""
    await store.write_height(
        uow, chain, height_final=height_final, height_ingested=height_ingested, ingested_at=ingested_at
    )


async def final_height(session: ReadSession, chain: ChainId) -> FinalHeight | None:
    """Up to where the tenant's books follow a chain; None before its first block."""
    return await store.load_height(session, chain)


async def get_deposit(session: ReadSession, deposit_id: DepositId) -> Deposit:
    """A deposit of this tenant. Raises UnknownDeposit."""
    found = await store.load_deposit(session, deposit_id)
    if found is None:
        raise UnknownDeposit
    return found


async def list_deposits(
    session: ReadSession,
    *,
    wallet_ids: Collection[WalletId] | None = None,
    states: Collection[str] | None = None,
    after: UUID | None = None,
    limit: int = 100,
) -> list[Deposit]:
    """Deposits in the order they were observed: of some wallets or of all, in some states or in any, after one of them."""
    return await store.load_deposits(session, wallet_ids, states, after, limit)


def id_of(tenant: TenantId, transfer: ObservedTransfer) -> DepositId:
    """The deposit that an arrival is, in whichever block it is seen."""
    return DepositId(
        derived_uuid(
            "deposit",
            tenant,
            transfer.chain,
            transfer.tx_hash,
            transfer.ordinal,
            transfer.asset.text,
            transfer.source,
            transfer.account,
            transfer.tag,
            transfer.memo,
            transfer.amount,
        )
    )


def posting_id(deposit: Deposit) -> UUID:
    """The id under which this inclusion of a deposit is booked: its own, and another one for each later inclusion."""
    return deposit.id if deposit.inclusion == 1 else derived_uuid("deposit", deposit.id, deposit.inclusion)


async def _attribute(session: ReadSession, vault_id: VaultId, tag: int | None) -> WalletId | None:
    """Whose money it is. Tags are issued from a signed 64-bit counter, but a sender may write any unsigned one."""
    if tag is not None and tag > TAG_ISSUED_MAX:
        return None
    return await wallets.attribute(session, vault_id, tag)


async def _decide(uow: UnitOfWork, deposit: Deposit) -> Deposit:
    """The deposit as it will be: credited to a wallet or suspended. Asked again: the address may be younger than the money.

    A closed account takes nothing, but what has happened must be booked: it is suspended like money that names nobody.
    """
    wallet_id = deposit.wallet_id or await _attribute(uow, deposit.vault_id, deposit.transfer.tag)
    if wallet_id is not None:
        account = await ledger.find_account(uow, postings.wallet_account(wallet_id, deposit.transfer.asset))
        if account is not None and account.state in ACCOUNTS.terminal:
            wallet_id = None
    event = "suspend" if wallet_id is None else "credit"
    return replace(deposit, wallet_id=wallet_id, state=DEPOSITS.target(deposit.state, event))


def _posting(deposit: Deposit) -> tuple[Command, ...]:
    amount = Amount(deposit.transfer.asset, deposit.transfer.amount)
    if deposit.wallet_id is None:
        return postings.deposit_suspended(
            deposit_id=posting_id(deposit), vault_id=deposit.vault_id, amount=amount
        )
    return postings.deposit_credited(
        deposit_id=posting_id(deposit),
        vault_id=deposit.vault_id,
        wallet_id=deposit.wallet_id,
        amount=amount,
    )


async def _mirror(uow: UnitOfWork, deposit: Deposit) -> None:
    try:
        await ledger.post(uow, *postings.deposit_reversed(deposit_id=posting_id(deposit)))
    except InsufficientFunds as error:
        raise CreditSpent(deposit_id=deposit.id, wallet_id=deposit.wallet_id) from error


async def _tell_of(uow: UnitOfWork, deposit: Deposit) -> None:
    await _tell(uow, deposit.state, deposit.id, deposit.transfer, deposit.wallet_id)


async def _tell(
    uow: UnitOfWork,
    fact: str,
    deposit_id: DepositId,
    transfer: ObservedTransfer,
    wallet_id: WalletId | None,
) -> None:
    """The event for outsiders and the entry for examiners, of one change of state."""
    data = {
        "chain": transfer.chain,
        "height": transfer.height,
        "block_hash": transfer.block_hash,
        "tx_hash": transfer.tx_hash,
        "ordinal": transfer.ordinal,
        "asset": transfer.asset.text,
        "amount": str(transfer.amount),
        "wallet_id": None if wallet_id is None else str(wallet_id),
    }
    await outbox.emit(uow, f"deposit.{fact}", deposit_id, data)
    await audit.record(uow, ACTOR, f"deposit.{fact}", deposit_id, data)
