"""Builds the protocol's result objects: one per operation, then the transaction's, plain or fee bump."""

from enum import IntEnum
from types import MappingProxyType
from typing import Any

from stellar_sdk import xdr

from devnet.stellar.envelope import Frame

TxCode = xdr.TransactionResultCode
OpCode = xdr.OperationResultCode
Kind = xdr.OperationType

_ARMS: MappingProxyType[xdr.OperationType, tuple[str, Any, Any]] = MappingProxyType(
    {
        Kind.CREATE_ACCOUNT: ("create_account_result", xdr.CreateAccountResult, xdr.CreateAccountResultCode),
        Kind.PAYMENT: ("payment_result", xdr.PaymentResult, xdr.PaymentResultCode),
        Kind.SET_OPTIONS: ("set_options_result", xdr.SetOptionsResult, xdr.SetOptionsResultCode),
        Kind.CHANGE_TRUST: ("change_trust_result", xdr.ChangeTrustResult, xdr.ChangeTrustResultCode),
        Kind.ACCOUNT_MERGE: ("account_merge_result", xdr.AccountMergeResult, xdr.AccountMergeResultCode),
        Kind.MANAGE_DATA: ("manage_data_result", xdr.ManageDataResult, xdr.ManageDataResultCode),
        Kind.BUMP_SEQUENCE: ("bump_seq_result", xdr.BumpSequenceResult, xdr.BumpSequenceResultCode),
        Kind.CREATE_CLAIMABLE_BALANCE: (
            "create_claimable_balance_result",
            xdr.CreateClaimableBalanceResult,
            xdr.CreateClaimableBalanceResultCode,
        ),
        Kind.CLAIM_CLAIMABLE_BALANCE: (
            "claim_claimable_balance_result",
            xdr.ClaimClaimableBalanceResult,
            xdr.ClaimClaimableBalanceResultCode,
        ),
        Kind.CLAWBACK: ("clawback_result", xdr.ClawbackResult, xdr.ClawbackResultCode),
        Kind.CLAWBACK_CLAIMABLE_BALANCE: (
            "clawback_claimable_balance_result",
            xdr.ClawbackClaimableBalanceResult,
            xdr.ClawbackClaimableBalanceResultCode,
        ),
        Kind.SET_TRUST_LINE_FLAGS: (
            "set_trust_line_flags_result",
            xdr.SetTrustLineFlagsResult,
            xdr.SetTrustLineFlagsResultCode,
        ),
    }
)
"""Operation type to the arm of the result union, its class and its codes."""

ZERO_BALANCE_ID = xdr.ClaimableBalanceID(
    xdr.ClaimableBalanceIDType.CLAIMABLE_BALANCE_ID_TYPE_V0, v0=xdr.Hash(bytes(32))
)


def inner(kind: xdr.OperationType, code: IntEnum, **payload: Any) -> xdr.OperationResult:
    """An operation's own result; payload fills the success arm where it has one."""
    arm, result, _ = _ARMS[kind]
    return xdr.OperationResult(
        OpCode.opINNER, tr=xdr.OperationResultTr(kind, **{arm: result(code, **payload)})
    )


def outer(code: xdr.OperationResultCode) -> xdr.OperationResult:
    """A failure that has nothing to do with the kind of operation (opBAD_AUTH, opNO_ACCOUNT, opNOT_SUPPORTED)."""
    return xdr.OperationResult(code)


def not_yet_run(kind: xdr.OperationType) -> xdr.OperationResult:
    """What core leaves for an operation it did not reach: the zero code of its kind."""
    if kind not in _ARMS:
        return outer(OpCode.opNOT_SUPPORTED)
    payload: dict[str, Any] = {}
    if kind == Kind.ACCOUNT_MERGE:
        payload["source_account_balance"] = xdr.Int64(0)
    if kind == Kind.CREATE_CLAIMABLE_BALANCE:
        payload["balance_id"] = ZERO_BALANCE_ID
    return inner(kind, _ARMS[kind][2](0), **payload)


def succeeded(result: xdr.OperationResult) -> bool:
    if result.tr is None:
        return False
    arm = _ARMS[result.tr.type][0]
    return int(getattr(result.tr, arm).code) == 0


def tx_result(
    frame: Frame,
    fee_charged: int,
    code: xdr.TransactionResultCode,
    operations: list[xdr.OperationResult] | None = None,
    *,
    outer_refused: bool = False,
) -> xdr.TransactionResult:
    """The result a client sees.

    `code` speaks of the inner transaction unless outer_refused says that the fee bump itself was refused.
    """
    listed = operations if code in (TxCode.txSUCCESS, TxCode.txFAILED) else None
    if frame.fee_bump is None or outer_refused:
        body = xdr.TransactionResultResult(code, results=listed)
        return xdr.TransactionResult(xdr.Int64(fee_charged), body, xdr.TransactionResultExt(0))
    pair = xdr.InnerTransactionResultPair(
        xdr.Hash(frame.contents_hash),
        xdr.InnerTransactionResult(
            xdr.Int64(0),
            xdr.InnerTransactionResultResult(code, results=listed),
            xdr.InnerTransactionResultExt(0),
        ),
    )
    good = code == TxCode.txSUCCESS
    bump_code = TxCode.txFEE_BUMP_INNER_SUCCESS if good else TxCode.txFEE_BUMP_INNER_FAILED
    body = xdr.TransactionResultResult(bump_code, inner_result_pair=pair)
    return xdr.TransactionResult(xdr.Int64(fee_charged), body, xdr.TransactionResultExt(0))
