"""Move money between two wallets of one tenant, inside the books: at once, for good, and without touching a chain."""

from __future__ import annotations

from custody.audit import service as audit
from custody.db.session import ReadSession, UnitOfWork
from custody.events import outbox
from custody.identity.model import Principal
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import TransferId, WalletId
from custody.kernel.money import AmountNotPositive
from custody.ledger import history, postings
from custody.ledger import service as ledger
from custody.ledger.history import BookedTransfer
from custody.ledger.model import TransferCode
from custody.transfers.errors import SameWallet, UnknownTransfer
from custody.transfers.model import RequestTransfer, WalletTransfer
from custody.wallets import service as wallets


async def request(uow: UnitOfWork, principal: Principal, wanted: RequestTransfer) -> WalletTransfer:
    """Move the money. Idempotent by id.

    Raises UnknownWallet, SameWallet, AmountNotPositive, InsufficientFunds, TransferExistsDifferent. Locks both ledger accounts.
    """
    if wanted.source_wallet_id == wanted.destination_wallet_id:
        raise SameWallet
    if wanted.amount.atomic <= 0:
        raise AmountNotPositive(amount=str(wanted.amount.atomic))
    await wallets.get_wallet(uow, wanted.source_wallet_id)
    await wallets.get_wallet(uow, wanted.destination_wallet_id)
    outcomes = await ledger.post(
        uow,
        *postings.wallet_transfer(
            transfer_id=wanted.id,
            source_wallet_id=wanted.source_wallet_id,
            destination_wallet_id=wanted.destination_wallet_id,
            amount=wanted.amount,
        ),
    )
    booked = await get(uow, wanted.id)
    if any(outcome.command_id == wanted.id and outcome.replayed for outcome in outcomes):
        return booked
    told = {
        "source_wallet_id": str(booked.source_wallet_id),
        "destination_wallet_id": str(booked.destination_wallet_id),
        "asset": booked.amount.asset.text,
        "amount": str(booked.amount.atomic),
    }
    await outbox.emit(uow, "transfer.posted", booked.id, told)
    await audit.record(uow, principal.subject, "transfer.post", booked.id, told)
    return booked


async def get(session: ReadSession, transfer_id: TransferId) -> WalletTransfer:
    """One transfer. Raises UnknownTransfer."""
    found = await history.find_transfer(session, TransferCode.WALLET_TRANSFER, transfer_id)
    if found is None:
        raise UnknownTransfer
    return _between_wallets(found)


async def list_transfers(
    session: ReadSession,
    *,
    wallet_id: WalletId | None = None,
    before: TransferId | None = None,
    limit: int = 100,
) -> list[WalletTransfer]:
    """A page, newest first, of one wallet on either side or of all; `before` is the last of the page before."""
    found = await history.list_transfers(
        session, TransferCode.WALLET_TRANSFER, owner=wallet_id, before=before, limit=limit
    )
    return [_between_wallets(each) for each in found]


def _between_wallets(found: BookedTransfer) -> WalletTransfer:
    if found.debit.owner is None or found.credit.owner is None:
        raise InvariantViolated(
            "a transfer between wallets names an account without an owner", transfer=found.id
        )
    return WalletTransfer(
        id=TransferId(found.id),
        source_wallet_id=WalletId(found.debit.owner),
        destination_wallet_id=WalletId(found.credit.owner),
        amount=found.amount,
        booked_at=found.booked_at,
    )
