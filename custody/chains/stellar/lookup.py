"""What a Stellar network says about one transaction, read from its envelope and proved by its hash. Pure.

Source: Stellar RPC v28 method getTransaction; Stellar-transaction.x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stellar_sdk import HashMemo, TransactionEnvelope
from stellar_sdk.exceptions import SdkError

from custody.chains.errors import RpcUnreadable
from custody.chains.jsonrpc import require_int, require_str

METHOD = "getTransaction"


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarTransaction:
    """A transaction that is in a closed ledger."""

    height: int
    """Ledger that holds it."""
    succeeded: bool
    """Whether its effect took place."""
    source: str
    """G address of the account that sent it."""
    memo_hash: bytes | None
    """The 32 bytes of a MEMO_HASH; none for every other memo."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsentTransaction:
    """The node does not hold such a transaction in the ledgers that it keeps."""

    oldest: int
    """First ledger that it keeps."""
    newest: int
    """Last ledger that it has."""


def read_transaction(
    answer: dict[str, Any], tx_hash: str, network_passphrase: str
) -> StellarTransaction | AbsentTransaction:
    """The node's answer to getTransaction. Raises RpcUnreadable, also when the envelope has another hash than was asked for."""
    status = answer.get("status")
    if status == "NOT_FOUND":
        return AbsentTransaction(
            oldest=require_int(METHOD, answer.get("oldestLedger")),
            newest=require_int(METHOD, answer.get("latestLedger")),
        )
    if status not in ("SUCCESS", "FAILED"):
        raise RpcUnreadable(method=METHOD, reason="a status that does not exist")
    text = require_str(METHOD, answer.get("envelopeXdr"))
    try:
        envelope = TransactionEnvelope.from_xdr(text, network_passphrase)
    except (ValueError, EOFError, SdkError) as error:
        raise RpcUnreadable(method=METHOD, reason="an envelope that does not decode") from error
    if envelope.hash_hex() != tx_hash:
        raise RpcUnreadable(method=METHOD, reason="the envelope of another transaction")
    memo = envelope.transaction.memo
    return StellarTransaction(
        height=require_int(METHOD, answer.get("ledger")),
        succeeded=status == "SUCCESS",
        source=envelope.transaction.source.account_id,
        memo_hash=memo.memo_hash if isinstance(memo, HashMemo) else None,
    )
