"""What a Stellar transaction came to, in words: the transaction's code, and that of the operation that failed. Pure.

Operations are named as Horizon names them (`op_no_trust`). Source: Stellar-transaction.x, TransactionResult.
"""

from __future__ import annotations

from stellar_sdk import xdr

UNDECODED = "undecoded_result"
"""The node's words that are no result."""
MAY_PASS = frozenset(
    {"txINSUFFICIENT_FEE", "txINSUFFICIENT_BALANCE", "txNO_ACCOUNT", "txTOO_EARLY", "txINTERNAL_ERROR"}
)
"""Refusals that say how the ledger stands now, not what the bytes are worth: dear times, a fee that the sender cannot pay, an
account that the node does not know yet. The same bytes may be taken later."""
UNPAID = frozenset({"txINSUFFICIENT_FEE", "txINSUFFICIENT_BALANCE"})
"""Those of them that a fee bump by another account cures. Source: CAP-15."""
PROVES_NOTHING = frozenset({"txBAD_SEQ", UNDECODED})
"""The sequence is used: by this very transaction, perhaps. Only our own ingestion tells."""


def read_result(text: object) -> str:
    """The name of a result in base64, as in `txBAD_AUTH`, or of the operation that failed, as in `op_no_trust`."""
    if not isinstance(text, str):
        return UNDECODED
    try:
        return name_result(xdr.TransactionResult.from_xdr(text))
    except (ValueError, EOFError):
        return UNDECODED


def name_result(result: xdr.TransactionResult) -> str:
    """The same of a decoded result; of a fee bump what is inside it, unless the bump itself failed."""
    inner = result.result.inner_result_pair
    body = result.result if inner is None else inner.result.result
    if body.code is not xdr.TransactionResultCode.txFAILED:
        return body.code.name
    return next((name for each in body.results or () if (name := _failure(each))), body.code.name)


def _failure(result: xdr.OperationResult) -> str:
    """How one operation failed; empty when it did not."""
    if result.tr is None:
        name = result.code.name
        return "" if name == "opINNER" else "op_" + name.removeprefix("op").lower()
    told = next(
        (value for name, value in vars(result.tr).items() if name.endswith("_result") and value is not None),
        None,
    )
    code = "" if told is None else told.code.name
    if told is None or told.code.value == 0:
        return ""
    return "op_" + code.removeprefix(result.tr.type.name + "_").lower()
