"""Headers, transactions, receipts and withdrawals in the bytes that a block's hashes are made of. Pure.

What has a form that we do not know raises `Unknown`: it is neither right nor wrong. Nothing is guessed.
Source: the yellow paper, section 4.3; EIP-2718 with EIP-2930, 1559, 4844 and 7702 for types 1 to 4; EIP-4895 (withdrawals);
the OP Stack specification, "Deposits" and Canyon, for type 0x7e; EIP-4399 (mixHash), EIP-4788 and EIP-7685 for headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from custody.chains.evm.address import keccak256
from ingestion.evm.rlp import Item, encode

BLOOM_BYTES = 256
_HEADER = (
    *(
        "parentHash",
        "sha3Uncles",
        "miner",
        "stateRoot",
        "transactionsRoot",
        "receiptsRoot",
        "logsBloom",
        "difficulty",
    ),
    *("number", "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash", "nonce"),
)
_HEADER_LATER = (
    *(
        "baseFeePerGas",
        "withdrawalsRoot",
        "blobGasUsed",
        "excessBlobGas",
        "parentBeaconBlockRoot",
        "requestsHash",
    ),
)
"""In the order in which forks added them: London, Shanghai, Cancun (three), Prague."""
_BESIDE_HEADER = frozenset(
    ("hash", "size", "totalDifficulty", "transactions", "uncles", "withdrawals", "blockTimestamp")
)
_NUMBERS = frozenset(
    (
        *(
            "difficulty",
            "number",
            "gasLimit",
            "gasUsed",
            "timestamp",
            "baseFeePerGas",
            "blobGasUsed",
            "excessBlobGas",
        ),
        *(
            "chainId",
            "nonce",
            "gasPrice",
            "maxPriorityFeePerGas",
            "maxFeePerGas",
            "maxFeePerBlobGas",
            "gas",
            "value",
        ),
        *("v", "r", "s", "yParity", "mint", "isSystemTx"),
    )
)
"""Fields that are minimal numbers in RLP; all others are bytes."""
_CALL = ("gas", "to", "value", "input")
_FEES = ("maxPriorityFeePerGas", "maxFeePerGas")
_SIGNATURE = ("yParity", "r", "s")
_TRANSACTIONS: Mapping[int, tuple[str, ...]] = {
    0: ("nonce", "gasPrice", *_CALL, "v", "r", "s"),
    1: ("chainId", "nonce", "gasPrice", *_CALL, "accessList", *_SIGNATURE),
    2: ("chainId", "nonce", *_FEES, *_CALL, "accessList", *_SIGNATURE),
    3: (
        *("chainId", "nonce", *_FEES, *_CALL, "accessList"),
        *("maxFeePerBlobGas", "blobVersionedHashes", *_SIGNATURE),
    ),
    4: ("chainId", "nonce", *_FEES, *_CALL, "accessList", "authorizationList", *_SIGNATURE),
    0x7E: ("sourceHash", "from", "to", "mint", "value", "gas", "isSystemTx", "input"),
}
DEPOSIT = 0x7E
"""OP Stack: a transaction that the chain below put in."""


class Unknown(Exception):
    """A type or field whose encoding we do not know, or one that is missing. The text says which."""


def header_hash(block: Mapping[str, Any]) -> bytes:
    """Keccak-256 of the header. Raises Unknown where a field is missing; `strange_fields` tells those that we do not know."""
    missing = [name for name in _HEADER if block.get(name) is None]
    if missing:
        raise Unknown(f"a header without {missing[0]}")
    later = [name for name in _HEADER_LATER if block.get(name) is not None]
    if later != list(_HEADER_LATER[: len(later)]):
        raise Unknown(f"a header with {later[-1]} and without what came before it")
    fields = [_nonce(block) if name == "nonce" else _field(block, name) for name in (*_HEADER, *later)]
    return keccak256(encode(fields))


def strange_fields(block: Mapping[str, Any]) -> list[str]:
    """Fields of a block that may be a part of its header and are none that we know."""
    return sorted(set(block) - set(_HEADER) - set(_HEADER_LATER) - _BESIDE_HEADER)


def encode_transaction(tx: Mapping[str, Any]) -> bytes:
    """The signed transaction as it travels: its Keccak-256 is its hash. Raises Unknown."""
    kind = _type(tx)
    names = _TRANSACTIONS.get(kind)
    if names is None:
        raise Unknown(f"a transaction of type {kind:#x}")
    encoded = encode([_field(tx, name) for name in names])
    return encoded if kind == 0 else bytes([kind]) + encoded


def encode_receipt(receipt: Mapping[str, Any]) -> bytes:
    """The receipt as the receipts root holds it. Raises Unknown."""
    kind = _type(receipt)
    if kind not in _TRANSACTIONS:
        raise Unknown(f"a receipt of type {kind:#x}")
    logs: list[Item] = [
        [_bytes(log["address"]), [_bytes(each) for each in log["topics"]], _bytes(log["data"])]
        for log in receipt["logs"]
    ]
    outcome = (
        _bytes(receipt["root"])
        if "root" in receipt and "status" not in receipt
        else _number(receipt["status"])
    )
    fields: list[Item] = [
        outcome,
        _number(receipt["cumulativeGasUsed"]),
        receipt_bloom(receipt).to_bytes(BLOOM_BYTES, "big"),
        logs,
    ]
    if kind == DEPOSIT and receipt.get("depositReceiptVersion") is not None:
        fields += [_number(receipt["depositNonce"]), _number(receipt["depositReceiptVersion"])]
    encoded = encode(fields)
    return encoded if kind == 0 else bytes([kind]) + encoded


def encode_withdrawal(withdrawal: Mapping[str, Any]) -> bytes:
    """A withdrawal from the beacon chain. Its amount is in gwei. Source: EIP-4895."""
    return encode(
        [
            *(_number(withdrawal[name]) for name in ("index", "validatorIndex")),
            _bytes(withdrawal["address"]),
            _number(withdrawal["amount"]),
        ]
    )


def receipt_bloom(receipt: Mapping[str, Any]) -> int:
    """The receipt's filter as the node gave it, for the root answers for it; computed where the node left it out."""
    given = receipt.get("logsBloom")
    return bloom(receipt["logs"]) if given is None else int(given, 16)


def bloom(logs: list[Mapping[str, Any]]) -> int:
    """The 2048-bit filter over addresses and topics of logs. Source: the yellow paper, section 4.3.1."""
    found = 0
    for text in {text for log in logs for text in (log["address"], *log["topics"])}:
        found |= bloom_bits(text)
    return found


def bloom_bits(text: str) -> int:
    """The three bits of one address or topic, given as hex."""
    digest = keccak256(_bytes(text))
    return (
        1 << (int.from_bytes(digest[0:2], "big") & 2047)
        | 1 << (int.from_bytes(digest[2:4], "big") & 2047)
        | 1 << (int.from_bytes(digest[4:6], "big") & 2047)
    )


def _field(source: Mapping[str, Any], name: str) -> Any:
    """One field in the shape that RLP wants. Absent `to` is a creation; absent `mint` mints nothing."""
    value = source.get(name)
    if name == "to":
        return b"" if value is None else _bytes(value)
    if name == "yParity" and value is None:
        value = source.get("v")
    if name in ("mint", "isSystemTx") and not value:
        return 0
    if value is None:
        raise Unknown(f"no {name}")
    if name == "accessList":
        return [[_bytes(each["address"]), [_bytes(key) for key in each["storageKeys"]]] for each in value]
    if name == "blobVersionedHashes":
        return [_bytes(each) for each in value]
    if name == "authorizationList":
        return [
            [
                _number(each["chainId"]),
                _bytes(each["address"]),
                *(_number(each[part]) for part in ("nonce", *_SIGNATURE)),
            ]
            for each in value
        ]
    return _number(value) if name in _NUMBERS else _bytes(value)


def _nonce(block: Mapping[str, Any]) -> bytes:
    """A header's nonce is eight bytes, not a number."""
    return _bytes(block["nonce"]).rjust(8, b"\0")


def _type(source: Mapping[str, Any]) -> int:
    return _number(source.get("type") or "0x0")


def _number(value: Any) -> int:
    if isinstance(value, bool | int):
        return int(value)
    return int(value, 16)


def _bytes(value: Any) -> bytes:
    return bytes.fromhex(value[2:])
