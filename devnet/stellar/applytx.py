"""Applies one transaction of a closing ledger: its fee, its sequence, then its operations, all or nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stellar_sdk import xdr

from devnet.stellar.apply.context import OpContext
from devnet.stellar.apply.registry import OPERATIONS
from devnet.stellar.envelope import Frame, muxed_raw
from devnet.stellar.events import EventLog, fee_event
from devnet.stellar.meta import POINT, changes_to_xdr, no_changes
from devnet.stellar.results import OpCode, TxCode, not_yet_run, outer, succeeded, tx_result
from devnet.stellar.signatures import SignatureChecker
from devnet.stellar.state import Change, Layer
from devnet.stellar.txcheck import (
    BASE_FEE_STROOPS,
    Moment,
    account_fault,
    authority_fault,
    inner_fault,
    sequence_fault,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """A transaction's outcome."""

    result: xdr.TransactionResult
    meta: xdr.TransactionMeta


@dataclass(frozen=True, slots=True, kw_only=True)
class _Operations:
    """Result of every operation, and what they changed when all of them succeeded."""

    results: list[xdr.OperationResult]
    metas: list[xdr.OperationMetaV2]
    succeeded: bool


def charge_fee(frame: Frame, ledger: Layer) -> tuple[int, Sequence[Change]]:
    """Take the base fee from the payer, never more than the bid or than it has. Returns the fee and the changes."""
    layer = Layer(ledger, ledger.ledger)
    payer = layer.account(frame.fee_source)
    if payer is None:
        raise LookupError("a fee payer left between the set and the fees")
    fee = min(BASE_FEE_STROOPS * frame.fee_units, frame.bid, payer.balance)
    layer.put(replace(payer, balance=payer.balance - fee))
    changes = layer.changes()
    layer.commit_into(ledger)
    return fee, changes


def apply_transaction(frame: Frame, fee: int, ledger: Layer, moment: Moment, network_id: bytes) -> Applied:
    """Write the transaction's effects into the ledger layer and describe them."""
    layer = Layer(ledger, ledger.ledger)
    before = _touch_fee_source(frame, layer)
    code = inner_fault(frame, moment) or sequence_fault(frame, layer, moment)
    operations = _Operations(results=[], metas=[], succeeded=False)
    if code is None:
        checker = SignatureChecker(frame.contents_hash, frame.signatures)
        code = account_fault(frame, layer, moment, checker)
        before += _consume_sequence(frame, layer, moment)
        if code is None:
            operations, code = _apply_authorized(frame, layer, checker, moment, network_id)
    layer.commit_into(ledger)
    return Applied(
        result=tx_result(frame, fee, code, operations.results),
        meta=_meta(frame, before, operations, fee, network_id),
    )


def _touch_fee_source(frame: Frame, layer: Layer) -> list[Change]:
    """Core shows the payer of a fee bump before the inner transaction, unchanged; so do we."""
    if frame.fee_bump is None:
        return []
    payer = layer.account(frame.fee_bump.source)
    if payer is None:
        return []
    own = Layer(layer, layer.ledger)
    own.put(payer)
    changes = own.changes()
    own.commit_into(layer)
    return changes


def _consume_sequence(frame: Frame, layer: Layer, moment: Moment) -> list[Change]:
    source = layer.account(frame.source)
    if source is None:
        raise LookupError("source account vanished after its check")
    own = Layer(layer, layer.ledger)
    own.put(replace(source, seq=frame.seq, seq_ledger=moment.ledger, seq_time=moment.close_time))
    changes = own.changes()
    own.commit_into(layer)
    return changes


def _apply_authorized(
    frame: Frame, layer: Layer, checker: SignatureChecker, moment: Moment, network_id: bytes
) -> tuple[_Operations, xdr.TransactionResultCode]:
    """Signatures of every operation first, then the operations. Returns them with the transaction's code."""
    refused = _unauthorized(frame, layer, checker)
    if refused is not None:
        return refused, TxCode.txFAILED
    if not checker.all_used():
        return _Operations(results=[], metas=[], succeeded=False), TxCode.txBAD_AUTH_EXTRA
    operations = _apply_operations(frame, layer, moment, network_id)
    return operations, TxCode.txSUCCESS if operations.succeeded else TxCode.txFAILED


def _unauthorized(frame: Frame, layer: Layer, checker: SignatureChecker) -> _Operations | None:
    faults = [authority_fault(frame, index, layer, checker) for index in range(len(frame.tx.operations))]
    if not any(faults):
        return None
    results = [
        fault or not_yet_run(operation.body.type)
        for fault, operation in zip(faults, frame.tx.operations, strict=True)
    ]
    return _Operations(results=results, metas=[], succeeded=False)


def _apply_operations(frame: Frame, layer: Layer, moment: Moment, network_id: bytes) -> _Operations:
    """Run all operations, also those behind a failed one: the result names what each would have said."""
    everything = Layer(layer, layer.ledger)
    results: list[xdr.OperationResult] = []
    metas: list[xdr.OperationMetaV2] = []
    good = True
    for index, operation in enumerate(frame.tx.operations):
        own, log = Layer(everything, layer.ledger), EventLog(network_id)
        ctx = OpContext(frame=frame, index=index, layer=own, log=log, close_time=moment.close_time)
        result = _apply_one(ctx, operation)
        results.append(result)
        if not succeeded(result):
            good = False
            continue
        metas.append(xdr.OperationMetaV2(POINT, changes_to_xdr(own.changes()), log.events))
        own.commit_into(everything)
    if not good:
        return _Operations(results=results, metas=[], succeeded=False)
    everything.commit_into(layer)
    return _Operations(results=results, metas=metas, succeeded=True)


def _apply_one(ctx: OpContext, operation: xdr.Operation) -> xdr.OperationResult:
    source = muxed_raw(ctx.muxed_source)
    if ctx.layer.account(source) is None:
        return outer(OpCode.opNO_ACCOUNT)
    handler = OPERATIONS[operation.body.type]
    return handler.check(operation.body, source) or handler.apply(ctx)


def _meta(
    frame: Frame, before: list[Change], operations: _Operations, fee: int, network_id: bytes
) -> xdr.TransactionMeta:
    return xdr.TransactionMeta(
        4,
        v4=xdr.TransactionMetaV4(
            ext=POINT,
            tx_changes_before=changes_to_xdr(before),
            operations=operations.metas,
            tx_changes_after=no_changes(),
            soroban_meta=None,
            events=[fee_event(network_id, frame.fee_source, fee)],
            diagnostic_events=[],
        ),
    )
