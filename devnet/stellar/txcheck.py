"""Decides whether a transaction is valid: at submission, again when a ledger is put together, and while applying.

The order of the checks is the protocol's, because a client sees the first failure only.
"""

from dataclasses import dataclass

from stellar_sdk import xdr

from devnet.stellar.apply.accounts import first_sequence
from devnet.stellar.apply.registry import OPERATIONS, level_of
from devnet.stellar.entries import Account
from devnet.stellar.envelope import Bounds, Frame, muxed_raw
from devnet.stellar.results import OpCode, TxCode, not_yet_run, outer, tx_result
from devnet.stellar.signatures import LOW, SignatureChecker
from devnet.stellar.state import Layer

BASE_FEE_STROOPS = 100
"""Least fee per operation, and what a transaction is charged whatever it bids."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """The ledger a transaction is judged for."""

    ledger: int
    close_time: int


def refusal(frame: Frame, layer: Layer, moment: Moment, *, owed: int = 0) -> xdr.TransactionResult | None:
    """The ERROR result of a submission, or None when the transaction may enter a ledger.

    `owed` is what the payer already bids for other transactions that wait for a ledger.
    """
    fee = BASE_FEE_STROOPS * frame.fee_units
    if frame.fee_bump is not None:
        code = _bump_fault(frame, layer, owed)
        if code is not None:
            return tx_result(frame, fee, code, outer_refused=True)
    code = inner_fault(frame, moment)
    if code is None and frame.fee_bump is None:
        code = _fee_fault(frame)
    if code is not None:
        return tx_result(frame, fee, code)
    checker = SignatureChecker(frame.contents_hash, frame.signatures)
    code = account_fault(frame, layer, moment, checker)
    if code is None and frame.fee_bump is None:
        code = _balance_fault(frame, layer, owed)
    if code is not None:
        return tx_result(frame, fee, code)
    results = operation_faults(frame, layer, checker)
    if results is not None:
        return tx_result(frame, fee, TxCode.txFAILED, results)
    return None if checker.all_used() else tx_result(frame, fee, TxCode.txBAD_AUTH_EXTRA)


def inner_fault(frame: Frame, moment: Moment) -> xdr.TransactionResultCode | None:
    """Faults that need no account: operations missing, contract data without a contract, bounds."""
    if not frame.tx.operations:
        return TxCode.txMISSING_OPERATION
    if frame.tx.ext.v != 0 and all(op.body.type in OPERATIONS for op in frame.tx.operations):
        return TxCode.txMALFORMED
    bounds = frame.bounds()
    if len({k.to_xdr_bytes() for k in bounds.extra_signers}) != len(bounds.extra_signers):
        return TxCode.txMALFORMED
    if bounds.min_time > moment.close_time or bounds.min_ledger > moment.ledger:
        return TxCode.txTOO_EARLY
    if 0 < bounds.max_time < moment.close_time or 0 < bounds.max_ledger <= moment.ledger:
        return TxCode.txTOO_LATE
    return None


def account_fault(
    frame: Frame, layer: Layer, moment: Moment, checker: SignatureChecker
) -> xdr.TransactionResultCode | None:
    """Faults against the source account: its existence, sequence, minimum ages and the transaction's signatures."""
    fault = sequence_fault(frame, layer, moment)
    if fault is not None:
        return fault
    source = layer.account(frame.source)
    if source is None:
        return TxCode.txNO_ACCOUNT
    extra = frame.bounds().extra_signers
    if not checker.account_approves(source, LOW) or not checker.extra_signers_approve(extra):
        return TxCode.txBAD_AUTH
    return None


def sequence_fault(frame: Frame, layer: Layer, moment: Moment) -> xdr.TransactionResultCode | None:
    """The faults after which a transaction in a ledger does not even consume its sequence."""
    source = layer.account(frame.source)
    if source is None:
        return TxCode.txNO_ACCOUNT
    bounds = frame.bounds()
    if not _sequence_fits(source, frame, bounds, moment):
        return TxCode.txBAD_SEQ
    age = moment.close_time - (source.seq_time or 0)
    gap = moment.ledger - (source.seq_ledger or 0)
    if age < bounds.min_seq_age_s or gap < bounds.min_seq_ledger_gap:
        return TxCode.txBAD_MIN_SEQ_AGE_OR_GAP
    return None


def operation_faults(
    frame: Frame, layer: Layer, checker: SignatureChecker
) -> list[xdr.OperationResult] | None:
    """Results up to the first operation that is invalid, or None when all may be applied."""
    results = [not_yet_run(op.body.type) for op in frame.tx.operations]
    for index, operation in enumerate(frame.tx.operations):
        known = OPERATIONS.get(operation.body.type)
        if known is None:
            results[index] = outer(OpCode.opNOT_SUPPORTED)
            return results
        fault = authority_fault(frame, index, layer, checker)
        if fault is None:
            fault = known.check(operation.body, muxed_raw(frame.operation_source(index)))
        if fault is not None:
            results[index] = fault
            return results
    return None


def authority_fault(
    frame: Frame, index: int, layer: Layer, checker: SignatureChecker
) -> xdr.OperationResult | None:
    """opBAD_AUTH or opNO_ACCOUNT for one operation's source.

    An earlier operation of the same transaction may create the account, so a missing one is excused when it is named
    by the operation and its key has signed; applying the operation looks again.
    """
    body = frame.tx.operations[index].body
    source = muxed_raw(frame.operation_source(index))
    account = layer.account(source)
    if account is not None:
        return None if checker.account_approves(account, level_of(body)) else outer(OpCode.opBAD_AUTH)
    if frame.tx.operations[index].source_account is None:
        return outer(OpCode.opNO_ACCOUNT)
    return None if checker.key_approves(source) else outer(OpCode.opBAD_AUTH)


def _sequence_fits(source: Account, frame: Frame, bounds: Bounds, moment: Moment) -> bool:
    if frame.seq == first_sequence(moment.ledger) or frame.seq <= source.seq:
        return False
    if bounds.min_seq is None:
        return source.seq + 1 == frame.seq
    return source.seq >= bounds.min_seq


def _fee_fault(frame: Frame) -> xdr.TransactionResultCode | None:
    enough = frame.bid >= BASE_FEE_STROOPS * frame.fee_units
    return None if enough else TxCode.txINSUFFICIENT_FEE


def _balance_fault(frame: Frame, layer: Layer, owed: int) -> xdr.TransactionResultCode | None:
    payer = layer.account(frame.fee_source)
    if payer is None:
        return TxCode.txNO_ACCOUNT
    return None if payer.available >= frame.bid + owed else TxCode.txINSUFFICIENT_BALANCE


def _bump_fault(frame: Frame, layer: Layer, owed: int) -> xdr.TransactionResultCode | None:
    """Faults of the outer envelope: its rate may not be below the inner one's, its payer must sign and can pay."""
    bump = frame.fee_bump
    if bump is None:
        return None
    units, inner_units = frame.fee_units, len(frame.tx.operations)
    cheaper = bump.fee * inner_units < frame.tx.fee.uint32 * units
    if bump.fee < BASE_FEE_STROOPS * units or cheaper:
        return TxCode.txINSUFFICIENT_FEE
    payer = layer.account(bump.source)
    if payer is None:
        return TxCode.txNO_ACCOUNT
    checker = SignatureChecker(bump.contents_hash, bump.signatures)
    if not checker.account_approves(payer, LOW):
        return TxCode.txBAD_AUTH
    if payer.available < bump.fee + owed:
        return TxCode.txINSUFFICIENT_BALANCE
    return None if checker.all_used() else TxCode.txBAD_AUTH_EXTRA
