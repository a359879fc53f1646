"""Credit money that arrived at a bank, exactly once, to the wallet that the payer named."""

from __future__ import annotations

from custody.audit import service as audit
from custody.banking import service as banking
from custody.db.session import ReadSession, UnitOfWork
from custody.events import outbox
from custody.kernel.assetid import AssetId
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import BankAccountId, ReceiptId, WalletId, derived_uuid
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.transitions import ACCOUNTS
from custody.receipts import store
from custody.receipts.errors import ReceiptContradicts, UnknownReceipt
from custody.receipts.model import BankReceipt, Receipt
from custody.receipts.reference import find_references, new_reference
from custody.wallets import service as wallets


async def observe(uow: UnitOfWork, told: BankReceipt) -> Receipt:
    """Book an arrival: to the one wallet that its text names, else to SUSPENSE. Idempotent by the bank's id of the credit.

    Raises UnknownBankAccount; ReceiptContradicts when a report of the same credit differs, or names another currency.
    """
    account = await banking.get_by_iban(uow, told.rail, told.account_iban)
    if told.amount.asset != account.asset or told.amount.atomic <= 0:
        raise ReceiptContradicts(
            external_ref=told.external_ref, asset=told.amount.asset.text, amount=str(told.amount.atomic)
        )
    named = await store.find_wallets(uow, find_references(told.remittance))
    # Text that names two wallets names none: a person has to read it.
    wallet_id = await _open_or_none(uow, named[0], told.amount.asset) if len(named) == 1 else None
    receipt_id = ReceiptId(derived_uuid("receipt", uow.tenant, told.rail, told.external_ref))
    written = await store.insert_receipt(uow, receipt_id, account.id, wallet_id, told)
    receipt = await store.load_receipt(uow, receipt_id)
    if receipt is None:
        raise ReceiptContradicts(external_ref=told.external_ref, event=told.external_event_id)
    if not written:
        return _same(receipt, told, account.id)
    booked = postings.receipt_credited(
        receipt_id=receipt.id, bank_account_id=account.id, wallet_id=receipt.wallet_id, amount=receipt.amount
    )
    await ledger.post(uow, *booked)
    await _announce(uow, receipt)
    return receipt


async def reference_for(uow: UnitOfWork, wallet_id: WalletId) -> str:
    """The text that payers must quote for this wallet; made on first use, the same for ever. Raises UnknownWallet."""
    await wallets.get_wallet(uow, wallet_id)
    known = await store.load_reference(uow, wallet_id)
    if known is not None:
        return known
    await store.insert_reference(uow, new_reference(), wallet_id)
    given = await store.load_reference(uow, wallet_id)
    if given is None:
        raise InvariantViolated("a reference that was just written is not there")
    return given


async def find_reference(session: ReadSession, wallet_id: WalletId) -> str | None:
    """The text that payers quote for this wallet; None while nobody has asked for it."""
    return await store.load_reference(session, wallet_id)


async def get(session: ReadSession, receipt_id: ReceiptId) -> Receipt:
    """The tenant's arrival. Raises UnknownReceipt."""
    receipt = await store.load_receipt(session, receipt_id)
    if receipt is None:
        raise UnknownReceipt(receipt=str(receipt_id))
    return receipt


async def list_receipts(
    session: ReadSession, *, wallet_id: WalletId | None = None, before: int | None = None, limit: int = 100
) -> list[Receipt]:
    """A page of the tenant's arrivals, newest first; `before` is the last `sequence` of the page before."""
    return await store.load_receipts(session, wallet_id=wallet_id, before=before, limit=limit)


async def booked_receipts(session: ReadSession, bank_account_id: BankAccountId) -> list[tuple[str, int]]:
    """The bank's id and minor units of everything booked as arrived on a bank account."""
    return await store.load_of_account(session, bank_account_id)


async def _open_or_none(uow: UnitOfWork, wallet_id: WalletId, asset: AssetId) -> WalletId | None:
    """A closed account takes nothing, but what has arrived must be booked: it is suspended."""
    account = await ledger.find_account(uow, postings.wallet_account(wallet_id, asset))
    return None if account is not None and account.state in ACCOUNTS.terminal else wallet_id


async def _announce(uow: UnitOfWork, receipt: Receipt) -> None:
    told: dict[str, object] = {
        "receipt_id": str(receipt.id),
        "rail": receipt.rail,
        "external_ref": receipt.external_ref,
        "bank_account_id": str(receipt.bank_account_id),
        "wallet_id": None if receipt.wallet_id is None else str(receipt.wallet_id),
        "asset": receipt.amount.asset.text,
        "amount": str(receipt.amount.atomic),
    }
    await outbox.emit(uow, f"receipt.{receipt.outcome.value}", receipt.id, told)
    await audit.record(uow, f"rail:{receipt.rail}", f"receipt.{receipt.outcome.value}", receipt.id, told)


def _same(receipt: Receipt, told: BankReceipt, bank_account_id: BankAccountId) -> Receipt:
    """The recorded arrival, if the report repeats it. Raises ReceiptContradicts."""
    recorded = (receipt.external_ref, receipt.amount, receipt.bank_account_id, receipt.remittance)
    if recorded != (told.external_ref, told.amount, bank_account_id, told.remittance):
        raise ReceiptContradicts(receipt=str(receipt.id), external_ref=told.external_ref)
    return receipt
