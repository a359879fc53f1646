"""Does what the node says of a block fit the block's own hashes? Pure.

The rule, once. The header's hash is recomputed from its fields, and the header speaks for the rest: transactions, withdrawals and
receipts are encoded again and their roots compared, the logs' bloom too. So every value, status, log and topic that is booked
hangs on the block hash; who names a true hash cannot leave a log out. What the hashes do not hold is checked where it follows
from what they hold (a receipt's gas and price); a transaction's sender is not: it would have to be recovered from the signature.

Receipts are had whole or not at all, because only all of them have a root. They are needed when a transaction names an account
of ours or the header's bloom may hold a log that concerns us (`receipts` asks for them); else the proved header says that there
is none. Logs alone (`eth_getLogs`) prove nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any

from custody.chains.evm.address import keccak256
from ingestion.evm.encoding import (
    DEPOSIT,
    Unknown,
    encode_receipt,
    encode_transaction,
    encode_withdrawal,
    header_hash,
    receipt_bloom,
    strange_fields,
)
from ingestion.evm.errors import ForgedBlock
from ingestion.evm.trie import ordered_root


def prove_block(block: Mapping[str, Any]) -> list[str]:
    """Compare a block and its transactions with its hash. Returns what could not be compared; raises ForgedBlock."""
    unproved = []
    for prove in (_prove_header, _prove_transactions, _prove_withdrawals):
        try:
            prove(block)
        except Unknown as error:
            unproved.append(str(error))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise _forged(block, f"unreadable: {type(error).__name__}") from error
    return unproved


def prove_receipts(block: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Compare all receipts of a block with its header. Returns what could not be compared; raises ForgedBlock."""
    try:
        _prove_order(block, receipts)
        encoded = [encode_receipt(each) for each in receipts]
        if ordered_root(encoded) != _bytes(block["receiptsRoot"]):
            raise _forged(block, "receipts root")
        if reduce(or_, map(receipt_bloom, receipts), 0) != int(block["logsBloom"], 16):
            raise _forged(block, "logs bloom")
        _prove_logs(block, receipts)
        _prove_gas(block, receipts)
    except Unknown as error:
        return [str(error)]
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise _forged(block, f"unreadable receipts: {type(error).__name__}") from error
    return []


def may_hold(block: Mapping[str, Any], wanted: Iterable[int]) -> bool:
    """Whether the block may hold a log with one of these topics, each by its `bloom_bits`. False is certain, where the header is
    proved."""
    held = int(block["logsBloom"], 16)
    return any(held & bits == bits for bits in wanted)


def _prove_header(block: Mapping[str, Any]) -> None:
    if _named(header_hash(block)) != block["hash"].lower():
        strange = strange_fields(block)
        if strange:
            raise Unknown(f"a header that may hold {', '.join(strange)[:200]}")
        raise _forged(block, "header hash")


def _prove_transactions(block: Mapping[str, Any]) -> None:
    encoded = [encode_transaction(each) for each in block["transactions"]]
    if ordered_root(encoded) != _bytes(block["transactionsRoot"]):
        raise _forged(block, "transactions root")
    for tx, raw in zip(block["transactions"], encoded, strict=True):
        if _named(keccak256(raw)) != tx["hash"].lower():
            raise _forged(block, "transaction hash")


def _prove_withdrawals(block: Mapping[str, Any]) -> None:
    root, withdrawals = block.get("withdrawalsRoot"), block.get("withdrawals")
    if root is None:
        if withdrawals:
            raise _forged(block, "withdrawals without a root")
        return
    if withdrawals is None:
        raise Unknown("no withdrawals")
    if not withdrawals and any(
        int(each.get("type") or "0x0", 16) == DEPOSIT for each in block["transactions"]
    ):
        # The OP Stack keeps another root in this field (Isthmus); its blocks all begin with a deposit and have no withdrawals.
        return
    if ordered_root([encode_withdrawal(each) for each in withdrawals]) != _bytes(root):
        raise _forged(block, "withdrawals root")


def _prove_order(block: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]]) -> None:
    """Receipts name the block and its transactions, in order: the root alone does not say whose a receipt is."""
    if [each["hash"].lower() for each in block["transactions"]] != [
        each["transactionHash"].lower() for each in receipts
    ]:
        raise _forged(block, "receipts of other transactions")
    if any(each["blockHash"].lower() != block["hash"].lower() for each in receipts):
        raise _forged(block, "receipts of another block")


def _prove_logs(block: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]]) -> None:
    """Logs name their receipt's transaction and are numbered without a gap: no hash says so, but the first decides whose
    receipt is looked into, and the second is a part of a deposit's id."""
    for receipt in receipts:
        logs = receipt["logs"]
        if not logs:
            continue
        name, first = receipt["transactionHash"].lower(), int(logs[0]["logIndex"], 16)
        for place, log in enumerate(logs, first):
            if log["transactionHash"].lower() != name:
                raise _forged(block, "logs of another transaction")
            if int(log["logIndex"], 16) != place:
                raise _forged(block, "places of logs")


def _prove_gas(block: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]]) -> None:
    """A receipt's own gas and price are under no hash, but follow from what is. Source: EIP-1559."""
    before = 0
    base = int(block.get("baseFeePerGas") or "0x0", 16)
    for tx, receipt in zip(block["transactions"], receipts, strict=True):
        after = int(receipt["cumulativeGasUsed"], 16)
        if int(receipt["gasUsed"], 16) != after - before:
            raise _forged(block, "gas of a receipt")
        before = after
        kind = int(tx.get("type") or "0x0", 16)
        if kind == DEPOSIT:
            continue
        if kind in (0, 1):
            price = int(tx["gasPrice"], 16)
        else:
            price = min(int(tx["maxFeePerGas"], 16), base + int(tx["maxPriorityFeePerGas"], 16))
        if int(receipt["effectiveGasPrice"], 16) != price:
            raise _forged(block, "gas price of a receipt")


def _forged(block: Mapping[str, Any], what: str) -> ForgedBlock:
    return ForgedBlock(height=str(block.get("number"))[:20], block=str(block.get("hash"))[:66], what=what)


def _named(digest: bytes) -> str:
    """A hash as others write it. Names are compared as text: they become ids, for which the bytes alone do not stand."""
    return "0x" + digest.hex()


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])
