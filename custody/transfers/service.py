"""Move money between two wallets of one tenant, inside the books: at once, for good, and without touching a chain."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from custody.audit import service as audit
from custody.db.session import ReadSession, UnitOfWork
from custody.events import outbox
from custody.identity.model import Principal
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import TransferId, WalletId
from custody.kernel.money import Amount, AmountNotPositive
from custody.ledger import history, postings
from custody.ledger import service as ledger
from custody.ledger.errors import TransferExistsDifferent
from custody.ledger.history import BookedTransfer
from custody.ledger.model import TransferCode
from custody.switches import service as switches
from custody.switches.model import of_asset, of_customer
from custody.transfers.errors import SameWallet, UnknownTransfer
from custody.transfers.model import RequestTransfer, WalletTransfer
from custody.wallets import service as wallets


async def request(uow: UnitOfWork, principal: Principal, wanted: RequestTransfer) -> WalletTransfer:
    """Move the money and charge the fee, both or neither. Idempotent by id.

    Raises UnknownWallet, SameWallet, AmountNotPositive, InsufficientFunds, TransferExistsDifferent, StoppedBySwitch. Locks the
    ledger accounts.
    """
    if wanted.source_wallet_id == wanted.destination_wallet_id:
        raise SameWallet
    for each in (wanted.amount, wanted.fee):
        if each is not None and each.atomic <= 0:
            raise AmountNotPositive(amount=str(each.atomic))
    source = await wallets.get_own_wallet(uow, principal, wanted.source_wallet_id)
    await wallets.get_wallet(uow, wanted.destination_wallet_id)
    # Asked before the accounts are locked, as everywhere: whoever stands behind a stop keeps no account from others.
    switch = await switches.find_stopped(
        uow, [*of_asset(wanted.amount.asset), of_customer(source.customer_id)]
    )
    outcomes = await ledger.post(
        uow,
        *postings.wallet_transfer(
            transfer_id=wanted.id,
            source_wallet_id=wanted.source_wallet_id,
            destination_wallet_id=wanted.destination_wallet_id,
            amount=wanted.amount,
            fee=wanted.fee,
        ),
    )
    booked = await get(uow, wanted.id)
    replayed = {outcome.replayed for outcome in outcomes if outcome.command_id is not None}
    if booked.fee != wanted.fee or len(replayed) > 1:
        # The amount's leg was booked before and the fee's was not, or the other way round.
        raise TransferExistsDifferent(command=wanted.id)
    if True in replayed:
        return booked
    # Answered after the ledger's word, since what was moved before stays moved; a stop takes all of it back.
    if switch is not None:
        raise switches.stopped_by(switch)
    told = facts_of(booked)
    await outbox.emit(uow, "transfer.posted", booked.id, told)
    await audit.record(uow, principal.subject, "transfer.post", booked.id, told)
    return booked


async def get(session: ReadSession, transfer_id: TransferId) -> WalletTransfer:
    """One transfer. Raises UnknownTransfer."""
    found = await history.find_transfer(session, TransferCode.WALLET_TRANSFER, transfer_id)
    if found is None:
        raise UnknownTransfer
    return _between_wallets(found, await history.amounts_of(session, [postings.fee_id(found.id)]))


async def list_transfers(
    session: ReadSession,
    *,
    wallet_id: WalletId | None = None,
    before: TransferId | None = None,
    limit: int = 100,
    with_fees: bool = True,
) -> list[WalletTransfer]:
    """A page, newest first, of one wallet on either side or of all; `before` is the last of the page before. Fees are another
    question to the books, which need not be asked where nobody wants to know."""
    found = await history.list_transfers(
        session, TransferCode.WALLET_TRANSFER, owner=wallet_id, before=before, limit=limit
    )
    fees: Mapping[UUID, Amount] = {}
    if with_fees:
        fees = await history.amounts_of(session, [postings.fee_id(each.id) for each in found])
    return [_between_wallets(each, fees) for each in found]


def facts_of(booked: WalletTransfer) -> dict[str, object]:
    """What the event and the audit entry of a transfer say."""
    return {
        "source_wallet_id": str(booked.source_wallet_id),
        "destination_wallet_id": str(booked.destination_wallet_id),
        "asset": booked.amount.asset.text,
        "amount": str(booked.amount.atomic),
        "fee": None if booked.fee is None else str(booked.fee.atomic),
    }


def _between_wallets(found: BookedTransfer, fees: Mapping[UUID, Amount]) -> WalletTransfer:
    if found.debit.owner is None or found.credit.owner is None:
        raise InvariantViolated(
            "a transfer between wallets names an account without an owner", transfer=found.id
        )
    return WalletTransfer(
        id=TransferId(found.id),
        source_wallet_id=WalletId(found.debit.owner),
        destination_wallet_id=WalletId(found.credit.owner),
        amount=found.amount,
        fee=fees.get(postings.fee_id(found.id)) if fees else None,
        booked_at=found.booked_at,
    )
