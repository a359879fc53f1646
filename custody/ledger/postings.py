"""Which commands each event of the business means. Pure.

Ids are derived from the object: an event posted again is booked once. Each posting opens the accounts that it may use first.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from custody.kernel.assetid import AssetId
from custody.kernel.ids import derived_uuid
from custody.kernel.money import Amount
from custody.ledger.model import (
    AccountKey,
    AccountKind,
    Command,
    Hold,
    OpenAccount,
    PostHold,
    Reverse,
    Transfer,
    TransferCode,
    VoidHold,
)


def deposit_credited(
    *, deposit_id: UUID, vault_id: UUID, wallet_id: UUID, amount: Amount
) -> tuple[Command, ...]:
    """A final deposit: the vault holds more, and we owe the wallet more."""
    return _transferred(
        _id(deposit_id, "deposit"),
        vault_account(vault_id, amount.asset),
        wallet_account(wallet_id, amount.asset),
        amount,
        TransferCode.DEPOSIT,
        deposit_id,
    )


def deposit_suspended(*, deposit_id: UUID, vault_id: UUID, amount: Amount) -> tuple[Command, ...]:
    """A final deposit that names no wallet. Under the same transfer id as a credit: a deposit is booked one way or the other."""
    return _transferred(
        _id(deposit_id, "deposit"),
        vault_account(vault_id, amount.asset),
        suspense_account(amount.asset),
        amount,
        TransferCode.DEPOSIT_SUSPENDED,
        deposit_id,
    )


def deposit_reversed(*, deposit_id: UUID, assigned_by: UUID | None = None) -> tuple[Command, ...]:
    """The mirror of a deposit, credited or suspended, that the chain has taken back; before it that of the case's assignment."""
    deposit = Reverse(id=_id(deposit_id, "deposit_reversed"), transfer_id=_id(deposit_id, "deposit"))
    if assigned_by is None:
        return (deposit,)
    assigned = _id(assigned_by, "suspense_assigned")
    return (Reverse(id=_id(assigned_by, "suspense_assigned_reversed"), transfer_id=assigned), deposit)


def deposit_taken_back(
    *, deposit_id: UUID, vault_id: UUID, wallet_id: UUID | None, amount: Amount
) -> tuple[Command, ...]:
    """The same where the deposit's month is archived, so that it has no mirror: out of the wallet, or of suspense."""
    owed = suspense_account(amount.asset) if wallet_id is None else wallet_account(wallet_id, amount.asset)
    return _transferred(
        _id(deposit_id, "deposit_taken_back"),
        owed,
        vault_account(vault_id, amount.asset),
        amount,
        TransferCode.DEPOSIT,
        deposit_id,
    )


def suspense_assigned(*, case_id: UUID, wallet_id: UUID, amount: Amount) -> tuple[Command, ...]:
    """A person named the wallet of a suspended deposit. Once per case."""
    return _transferred(
        _id(case_id, "suspense_assigned"),
        suspense_account(amount.asset),
        wallet_account(wallet_id, amount.asset),
        amount,
        TransferCode.DEPOSIT,
        case_id,
    )


def wallet_transfer(
    *,
    transfer_id: UUID,
    source_wallet_id: UUID,
    destination_wallet_id: UUID,
    amount: Amount,
    fee: Amount | None = None,
) -> tuple[Command, ...]:
    """Between two wallets of one tenant. The transfer's id is the ledger's. A fee is a leg of its own, on top of the amount, and
    the two are one chain: who cannot pay the fee moves nothing."""
    source = wallet_account(source_wallet_id, amount.asset)
    destination = wallet_account(destination_wallet_id, amount.asset)
    moved = _transferred(transfer_id, source, destination, amount, TransferCode.WALLET_TRANSFER, transfer_id)
    return moved if fee is None else (*moved, *fee_charged(reference=transfer_id, payer=source, fee=fee))


def fee_charged(*, reference: UUID, payer: AccountKey, fee: Amount) -> tuple[Command, ...]:
    """What we charge for what `reference` names, and never part of the amount that it moves. One fee per reference."""
    return _transferred(
        fee_id(reference), payer, fee_income_account(fee.asset), fee, TransferCode.FEE, reference
    )


def fee_id(reference: UUID) -> UUID:
    """The ledger's id of the fee that was charged for this."""
    return _id(reference, "fee")


def adjusted(*, adjustment_id: UUID, wallet_id: UUID, amount: Amount, credit: bool) -> tuple[Command, ...]:
    """A correction by hand: our own capital gives to a wallet, or takes from it. Once per adjustment."""
    wallet, capital = wallet_account(wallet_id, amount.asset), equity_account(amount.asset)
    debit, credited = (capital, wallet) if credit else (wallet, capital)
    return _transferred(
        _id(adjustment_id, "adjustment"), debit, credited, amount, TransferCode.ADJUSTMENT, adjustment_id
    )


def exchanged(
    *,
    exchange_id: UUID,
    source_wallet_id: UUID,
    destination_wallet_id: UUID,
    sold: Amount,
    bought: Amount,
    fee: Amount | None = None,
) -> tuple[Command, ...]:
    """One asset for another, through our position in each: no leg crosses assets, so every asset's total stays zero."""
    source = wallet_account(source_wallet_id, sold.asset)
    legs = (
        *_transferred(
            _id(exchange_id, "exchange_sold"),
            source,
            clearing_account(sold.asset),
            sold,
            TransferCode.EXCHANGE,
            exchange_id,
        ),
        *_transferred(
            _id(exchange_id, "exchange_bought"),
            clearing_account(bought.asset),
            wallet_account(destination_wallet_id, bought.asset),
            bought,
            TransferCode.EXCHANGE,
            exchange_id,
        ),
    )
    return legs if fee is None else (*legs, *fee_charged(reference=exchange_id, payer=source, fee=fee))


def exchange_reversed(*, exchange_id: UUID, with_fee: bool) -> tuple[Command, ...]:
    """The mirror of every leg of an exchange, as though it had not been: the fee, if one was charged, is given back as well."""
    legs = [_id(exchange_id, step) for step in ("exchange_sold", "exchange_bought")]
    if with_fee:
        legs.append(fee_id(exchange_id))
    return tuple(Reverse(id=_id(leg, "reversed"), transfer_id=leg) for leg in legs)


def withdrawal_held(
    *,
    withdrawal_id: UUID,
    wallet_id: UUID | None,
    vault_id: UUID,
    amount: Amount,
    expires_at: datetime | None = None,
) -> tuple[Command, ...]:
    """Reserve the wallet's money (suspense's for a return, which has no wallet), and the vault's to pay it with. Either may lack
    funds."""
    return _held(
        withdrawal_id,
        "withdrawal",
        suspense_account(amount.asset) if wallet_id is None else wallet_account(wallet_id, amount.asset),
        vault_account(vault_id, amount.asset),
        amount,
        TransferCode.WITHDRAWAL,
        expires_at,
    )


def refill_held(
    *, withdrawal_id: UUID, vault_id: UUID, into_vault_id: UUID, amount: Amount
) -> tuple[Command, ...]:
    """Reserve one vault's money for another vault of ours. It ends as any withdrawal's hold does."""
    return _held(
        withdrawal_id,
        "withdrawal",
        vault_account(into_vault_id, amount.asset),
        vault_account(vault_id, amount.asset),
        amount,
        TransferCode.VAULT_TRANSFER,
        None,
    )


def withdrawal_settled(*, withdrawal_id: UUID) -> tuple[Command, ...]:
    """The chain confirmed: what was held has left wallet and vault."""
    return _settled(withdrawal_id, "withdrawal")


def withdrawal_released(*, withdrawal_id: UUID) -> tuple[Command, ...]:
    """Nothing left: the wallet may use the money again."""
    return _released(withdrawal_id, "withdrawal")


def withdrawal_fee_held(*, withdrawal_id: UUID, wallet_id: UUID, fee: Amount) -> tuple[Command, ...]:
    """Reserve the most that a withdrawal can cost its wallet, beside its amount and never part of it."""
    return _held(
        withdrawal_id,
        "withdrawal_fee",
        wallet_account(wallet_id, fee.asset),
        fee_income_account(fee.asset),
        fee,
        TransferCode.FEE,
        None,
    )


def withdrawal_fee_charged(*, withdrawal_id: UUID, charge: Amount) -> tuple[Command, ...]:
    """It settled: so much of what was held is ours, the rest is the wallet's again."""
    return (
        PostHold(
            id=_id(withdrawal_id, "withdrawal_fee_settled"),
            hold_id=_id(withdrawal_id, "withdrawal_fee_held"),
            amount=charge,
            final=True,
        ),
    )


def withdrawal_fee_released(*, withdrawal_id: UUID) -> tuple[Command, ...]:
    """Nothing is charged: all that was held is the wallet's again."""
    return _released(withdrawal_id, "withdrawal_fee")


def network_fee_paid(*, reference: UUID, vault_id: UUID, fee: Amount) -> tuple[Command, ...]:
    """What the chain took from the vault for one transaction of ours, which `reference` names (an attempt, or an id derived from
    the transaction's hash). One fee per reference."""
    return _transferred(
        _id(reference, "network_fee"),
        AccountKey(kind=AccountKind.NETWORK_FEES, owner=None, asset=fee.asset),
        vault_account(vault_id, fee.asset),
        fee,
        TransferCode.NETWORK_FEE,
        reference,
    )


def payout_held(
    *,
    payout_id: UUID,
    wallet_id: UUID,
    bank_account_id: UUID,
    amount: Amount,
    expires_at: datetime | None = None,
) -> tuple[Command, ...]:
    """Reserve the wallet's money, and the bank account's to pay it with. Either may lack funds."""
    return _held(
        payout_id,
        "payout",
        wallet_account(wallet_id, amount.asset),
        bank_account(bank_account_id, amount.asset),
        amount,
        TransferCode.PAYOUT,
        expires_at,
    )


def payout_settled(*, payout_id: UUID) -> tuple[Command, ...]:
    """The bank has paid."""
    return _settled(payout_id, "payout")


def payout_released(*, payout_id: UUID) -> tuple[Command, ...]:
    """The bank has not paid and never will: the wallet may use the money again."""
    return _released(payout_id, "payout")


def payout_returned(
    *, payout_id: UUID, wallet_id: UUID, bank_account_id: UUID, amount: Amount
) -> tuple[Command, ...]:
    """A settled payout came back. A transfer of its own, not a reversal: banks return payouts long after they settled, when the
    month of the settlement may be archived. Once, by its id."""
    return _transferred(
        _id(payout_id, "payout_returned"),
        bank_account(bank_account_id, amount.asset),
        wallet_account(wallet_id, amount.asset),
        amount,
        TransferCode.PAYOUT,
        payout_id,
    )


def receipt_credited(
    *, receipt_id: UUID, bank_account_id: UUID, wallet_id: UUID | None, amount: Amount
) -> tuple[Command, ...]:
    """Money came in at the bank, for the wallet that its reference names, or for nobody known (None: suspense)."""
    owed = suspense_account(amount.asset) if wallet_id is None else wallet_account(wallet_id, amount.asset)
    return _transferred(
        _id(receipt_id, "receipt"),
        bank_account(bank_account_id, amount.asset),
        owed,
        amount,
        TransferCode.RECEIPT,
        receipt_id,
    )


def wallet_account(wallet_id: UUID, asset: AssetId) -> AccountKey:
    """What we owe this wallet."""
    return AccountKey(kind=AccountKind.WALLET, owner=wallet_id, asset=asset)


def vault_account(vault_id: UUID, asset: AssetId) -> AccountKey:
    """What this vault holds on chain."""
    return AccountKey(kind=AccountKind.VAULT, owner=vault_id, asset=asset)


def bank_account(bank_account_id: UUID, asset: AssetId) -> AccountKey:
    """What lies in this bank account."""
    return AccountKey(kind=AccountKind.BANK, owner=bank_account_id, asset=asset)


def suspense_account(asset: AssetId) -> AccountKey:
    """What came in for nobody known."""
    return AccountKey(kind=AccountKind.SUSPENSE, owner=None, asset=asset)


def equity_account(asset: AssetId) -> AccountKey:
    """Our own capital in this asset."""
    return AccountKey(kind=AccountKind.EQUITY, owner=None, asset=asset)


def clearing_account(asset: AssetId) -> AccountKey:
    """Our open position in this asset from exchanges."""
    return AccountKey(kind=AccountKind.CLEARING, owner=None, asset=asset)


def fee_income_account(asset: AssetId) -> AccountKey:
    """What we have charged in this asset."""
    return AccountKey(kind=AccountKind.FEE_INCOME, owner=None, asset=asset)


def _transferred(
    transfer_id: UUID,
    debit: AccountKey,
    credit: AccountKey,
    amount: Amount,
    code: TransferCode,
    reference: UUID,
) -> tuple[Command, ...]:
    return (
        OpenAccount(key=debit),
        OpenAccount(key=credit),
        Transfer(id=transfer_id, debit=debit, credit=credit, amount=amount, code=code, reference=reference),
    )


def _held(
    reference: UUID,
    flow: str,
    debit: AccountKey,
    credit: AccountKey,
    amount: Amount,
    code: TransferCode,
    expires_at: datetime | None,
) -> tuple[Command, ...]:
    return (
        OpenAccount(key=debit),
        OpenAccount(key=credit),
        Hold(
            id=_id(reference, f"{flow}_held"),
            debit=debit,
            credit=credit,
            amount=amount,
            code=code,
            reference=reference,
            expires_at=expires_at,
        ),
    )


def _settled(reference: UUID, flow: str) -> tuple[Command, ...]:
    return (PostHold(id=_id(reference, f"{flow}_settled"), hold_id=_id(reference, f"{flow}_held")),)


def _released(reference: UUID, flow: str) -> tuple[Command, ...]:
    return (VoidHold(id=_id(reference, f"{flow}_released"), hold_id=_id(reference, f"{flow}_held")),)


def _id(reference: UUID, step: str) -> UUID:
    """The ledger id of one step in the life of an object: the same each time the step is posted."""
    return derived_uuid("ledger", step, reference)
