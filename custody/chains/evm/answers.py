"""What a node's words about a submission mean. Pure.

JSON-RPC gives errors a text and no stable code, and each client words its own; the table holds the words of geth (and Erigon,
Reth, Nethermind since 1.36, which copy them), of older Nethermind, Besu, Parity's heirs, Arbitrum, Substrate and anvil. The first
line that matches decides, so narrow words stand above wide ones. Words that are in no line prove nothing.
Sources: go-ethereum core/txpool/errors.go and core/error.go; nethermind AcceptTxResult.cs; besu RpcErrorType.java;
openethereum rpc/helpers/errors.rs; foundry anvil eth/pool and eth/error.rs.
"""

from __future__ import annotations

from enum import Enum

from custody.chains.ports import Submission, SubmissionStatus


class Meaning(Enum):
    """What is to be made of an answer, before the node is asked anything more."""

    KNOWN = "known"
    """The node has these very bytes."""
    SPENT = "nonce_too_low"
    """The nonce is used: by these bytes or by others."""
    REPLACEMENT = "replacement_underpriced"
    """The node holds other bytes on this nonce that do not pay enough less."""
    UNDERPRICED = "underpriced"
    """The price is below what the node queues, or below the block's base fee."""
    FUNDS = "insufficient_funds"
    """The account does not hold value and fee."""
    FULL = "pool_full"
    """The node's queue has no room, at this price or for this account."""
    FUTURE = "future_nonce"
    """The node does not queue so far ahead of what it has of this account."""
    BUSY = "rate_limited"
    """The node, or who stands before it, did not look at the call."""
    GAS = "gas_too_low"
    """The gas limit is below what the transaction needs at least."""
    GAS_LIMIT = "gas_limit"
    """The gas limit is above what a block may hold."""
    FEE_CAP = "over_node_fee_cap"
    """The node's own guard against dear transactions."""
    SIGNATURE = "invalid_signature"
    CHAIN = "wrong_chain"
    FEES = "invalid_fees"
    ENCODING = "invalid_encoding"
    TYPE = "unsupported_type"
    """The chain does not know EIP-1559 transactions."""


_WORDS: tuple[tuple[str, Meaning], ...] = (
    ("unknown transaction", Meaning.TYPE),
    ("already known", Meaning.KNOWN),
    ("already imported", Meaning.KNOWN),
    ("alreadyimported", Meaning.KNOWN),
    ("known transaction", Meaning.KNOWN),
    ("alreadyknown", Meaning.KNOWN),
    ("already in mempool", Meaning.KNOWN),
    ("transaction already exists", Meaning.KNOWN),
    ("another transaction with same nonce", Meaning.REPLACEMENT),
    ("replacement transaction underpriced", Meaning.REPLACEMENT),
    ("replacement_underpriced", Meaning.REPLACEMENT),
    ("replacementnotallowed", Meaning.REPLACEMENT),
    ("ownnoncealreadyused", Meaning.REPLACEMENT),
    ("could not replace existing tx", Meaning.REPLACEMENT),
    ("future transaction tries to replace pending", Meaning.REPLACEMENT),
    ("nonce too low", Meaning.SPENT),
    ("nonce is too low", Meaning.SPENT),
    ("nonce_too_low", Meaning.SPENT),
    ("nonce below current nonce", Meaning.SPENT),
    ("oldnonce", Meaning.SPENT),
    ("invalid transaction nonce", Meaning.SPENT),
    ("pool(stale)", Meaning.SPENT),
    ("already finalized", Meaning.SPENT),
    ("nonce too high", Meaning.FUTURE),
    ("nonce too far in", Meaning.FUTURE),
    ("nonce_too_far", Meaning.FUTURE),
    ("nonce too distant", Meaning.FUTURE),
    ("nonce has too big a gap", Meaning.FUTURE),
    ("noncegap", Meaning.FUTURE),
    ("nonce gap", Meaning.FUTURE),
    ("gapped-nonce", Meaning.FUTURE),
    ("txpool is full", Meaning.FULL),
    ("tx pool is full", Meaning.FULL),
    ("pool is full", Meaning.FULL),
    ("pool_full", Meaning.FULL),
    ("pool overflow", Meaning.FULL),
    ("account limit exceeded", Meaning.FULL),
    ("exceeded max transaction slots", Meaning.FULL),
    ("in-flight transaction limit", Meaning.FULL),
    ("too many transactions in the queue", Meaning.FULL),
    ("discarded by the transaction pool", Meaning.FULL),
    ("pending sub-pool", Meaning.FULL),
    ("feetoolowtocompete", Meaning.FULL),
    ("insufficient funds", Meaning.FUNDS),
    ("insufficientfunds", Meaning.FUNDS),
    ("insufficient balance", Meaning.FUNDS),
    ("not enough funds for gas", Meaning.FUNDS),
    ("upfront cost exceeds", Meaning.FUNDS),
    ("exceeds the configured cap", Meaning.FEE_CAP),
    ("txfeecap", Meaning.FEE_CAP),
    ("tip higher than fee cap", Meaning.FEES),
    ("max priority fee per gas higher", Meaning.FEES),
    ("underpriced", Meaning.UNDERPRICED),
    ("max fee per gas less than block base fee", Meaning.UNDERPRICED),
    ("gas price less than current base fee", Meaning.UNDERPRICED),
    ("gas price below", Meaning.UNDERPRICED),
    ("gas price is too low", Meaning.UNDERPRICED),
    ("gas price too low", Meaning.UNDERPRICED),
    ("gas_price_too_low", Meaning.UNDERPRICED),
    ("fee too low", Meaning.UNDERPRICED),
    ("feetoolow", Meaning.UNDERPRICED),
    ("intrinsic gas", Meaning.GAS),
    ("intrinsic_gas", Meaning.GAS),
    ("gas too low", Meaning.GAS),
    ("gas is too low", Meaning.GAS),
    ("gas limit", Meaning.GAS_LIMIT),
    ("gaslimitexceeded", Meaning.GAS_LIMIT),
    ("gas_limit", Meaning.GAS_LIMIT),
    ("invalid sender", Meaning.SIGNATURE),
    ("invalid signature", Meaning.SIGNATURE),
    ("failedtoresolvesender", Meaning.SIGNATURE),
    ("recover sender", Meaning.SIGNATURE),
    ("chain id", Meaning.CHAIN),
    ("chainid", Meaning.CHAIN),
    ("replay-protected", Meaning.CHAIN),
    ("transaction type not supported", Meaning.TYPE),
    ("invalid_transaction_type", Meaning.TYPE),
    ("invalid transaction type", Meaning.TYPE),
    ("rate limit", Meaning.BUSY),
    ("too many requests", Meaning.BUSY),
    ("limit exceeded", Meaning.BUSY),
    ("capacity exceeded", Meaning.BUSY),
    ("rlp", Meaning.ENCODING),
    ("decode", Meaning.ENCODING),
)
_STATUS = {
    Meaning.KNOWN: SubmissionStatus.ACCEPTED,
    Meaning.SPENT: SubmissionStatus.UNKNOWN,
    Meaning.FULL: SubmissionStatus.TRY_LATER,
    Meaning.FUTURE: SubmissionStatus.TRY_LATER,
    Meaning.BUSY: SubmissionStatus.TRY_LATER,
}
"""What the answer says about these bytes; all others judge and refuse them. A spent nonce may be spent by them."""


def meaning_of(message: str) -> Meaning | None:
    """What the node means; None for words that nobody here knows."""
    words = message.lower()
    return next((meaning for fragment, meaning in _WORDS if fragment in words), None)


def judged(meaning: Meaning | None) -> Submission:
    """The answer in the words of the domain."""
    if meaning is None:
        return Submission(status=SubmissionStatus.UNKNOWN, code="unknown_refusal")
    if meaning is Meaning.KNOWN:
        return Submission(status=SubmissionStatus.ACCEPTED)
    return Submission(status=_STATUS.get(meaning, SubmissionStatus.REFUSED), code=meaning.value)
