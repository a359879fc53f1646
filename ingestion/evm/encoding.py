"""Headers, transactions, receipts and withdrawals in the bytes that a block's hashes are made of. Pure.

What has a form that we do not know raises `Unknown`: it is neither right nor wrong. Nothing is guessed.
Source: the yellow paper, section 4.3; EIP-2718 with EIP-2930, 1559, 4844 and 7702 for types 1 to 4; EIP-4895 (withdrawals);
the OP Stack specification, "Deposits" and Canyon, for type 0x7e; EIP-4399 (mixHash), EIP-4788 and EIP-7685 for headers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from custody.chains.evm.address import keccak256
from ingestion.evm.rlp import EMPTY_TEXT, bytes_text, list_text, number_text, pack

BLOOM_BYTES = 256
_NO_LOGS = "0x" + "00" * BLOOM_BYTES
"""The filter of a receipt without logs."""
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
_MAY_BE_ABSENT = frozenset(("to", "mint", "isSystemTx"))
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
    fields = [_header_nonce(block) if name == "nonce" else _field(block, name) for name in (*_HEADER, *later)]
    return keccak256(pack(list_text("".join(fields))))


def strange_fields(block: Mapping[str, Any]) -> list[str]:
    """Fields of a block that may be a part of its header and are none that we know."""
    return sorted(set(block) - set(_HEADER) - set(_HEADER_LATER) - _BESIDE_HEADER)


def encode_transaction(tx: Mapping[str, Any]) -> bytes:
    """The signed transaction as it travels: its Keccak-256 is its hash. Raises Unknown, and ValueError for what is no hex."""
    kind = _type(tx)
    names = _TRANSACTIONS.get(kind)
    if names is None:
        raise Unknown(f"a transaction of type {kind:#x}")
    return _pack_typed(kind, "".join([_field(tx, name) for name in names]))


def encode_receipt(receipt: Mapping[str, Any]) -> bytes:
    """The receipt as the receipts root holds it. Raises Unknown, and ValueError for what is no hex."""
    kind = _type(receipt)
    if kind not in _TRANSACTIONS:
        raise Unknown(f"a receipt of type {kind:#x}")
    has_root = "root" in receipt and "status" not in receipt
    body = bytes_text(receipt["root"]) if has_root else number_text(receipt["status"])
    body += number_text(receipt["cumulativeGasUsed"])
    body += bytes_text(_bloom_text(receipt))
    body += list_text("".join([_log(log) for log in receipt["logs"]]))
    if kind == DEPOSIT and receipt.get("depositReceiptVersion") is not None:
        body += number_text(receipt["depositNonce"]) + number_text(receipt["depositReceiptVersion"])
    return _pack_typed(kind, body)


def encode_withdrawal(withdrawal: Mapping[str, Any]) -> bytes:
    """A withdrawal from the beacon chain. Its amount is in gwei. Source: EIP-4895."""
    numbers = [number_text(withdrawal[name]) for name in ("index", "validatorIndex")]
    fields = [*numbers, bytes_text(withdrawal["address"].lower()), number_text(withdrawal["amount"])]
    return pack(list_text("".join(fields)))


def receipt_bloom(receipt: Mapping[str, Any]) -> int:
    """The receipt's filter as the node gave it, for the root answers for it; computed where the node left it out."""
    text = _bloom_text(receipt)
    return 0 if text == _NO_LOGS else int(text, 16)


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


def _bloom_text(receipt: Mapping[str, Any]) -> str:
    given = receipt.get("logsBloom")
    text = f"0x{bloom(receipt['logs']):0{2 * BLOOM_BYTES}x}" if given is None else str(given)
    if len(text) != len(_NO_LOGS):
        raise ValueError("a bloom of another length")
    return text


def _log(log: Mapping[str, Any]) -> str:
    topics = "".join([bytes_text(each) for each in log["topics"]])
    return list_text(bytes_text(log["address"].lower()) + list_text(topics) + bytes_text(log["data"]))


def _pack_typed(kind: int, body: str) -> bytes:
    """Legacy items are bare, all others begin with their type. Source: EIP-2718."""
    packed = pack(list_text(body))
    return packed if kind == 0 else bytes([kind]) + packed


def _field(source: Mapping[str, Any], name: str) -> str:
    """One field, encoded, in hex. Absent `to` is a creation; absent `mint` mints nothing."""
    value = source.get(name)
    if value is None:
        value = _absent(source, name)
        if value is None:
            return EMPTY_TEXT
    return _ENCODERS[name](value)


def _absent(source: Mapping[str, Any], name: str) -> Any:
    """What stands for a field that is not there; None for nothing. Raises Unknown."""
    if name == "yParity" and source.get("v") is not None:
        return source["v"]
    if name in _MAY_BE_ABSENT:
        return None
    raise Unknown(f"no {name}")


def _access(entry: Mapping[str, Any]) -> str:
    keys = "".join([bytes_text(key) for key in entry["storageKeys"]])
    return list_text(bytes_text(entry["address"].lower()) + list_text(keys))


def _authorization(entry: Mapping[str, Any]) -> str:
    parts = "".join([number_text(entry[part]) for part in ("nonce", *_SIGNATURE)])
    return list_text(number_text(entry["chainId"]) + bytes_text(entry["address"].lower()) + parts)


def _header_nonce(block: Mapping[str, Any]) -> str:
    """A header's nonce is eight bytes, not a number."""
    return bytes_text("0x" + str(block["nonce"])[2:].rjust(16, "0"))


def _type(source: Mapping[str, Any]) -> int:
    return int(source.get("type") or "0x0", 16)


def _bytes(value: Any) -> bytes:
    return bytes.fromhex(value[2:])


def _address(value: str) -> str:
    """Some nodes write a checksum, in both cases."""
    return bytes_text(value.lower())


def _access_list(value: list[Any]) -> str:
    """Source: EIP-2930."""
    return list_text("".join([_access(each) for each in value]))


def _hash_list(value: list[Any]) -> str:
    """Source: EIP-4844."""
    return list_text("".join([bytes_text(each) for each in value]))


def _authorization_list(value: list[Any]) -> str:
    """Source: EIP-7702."""
    return list_text("".join([_authorization(each) for each in value]))


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
"""Fields that are minimal numbers in RLP."""
_ENCODERS: Mapping[str, Callable[[Any], str]] = {
    **dict.fromkeys((*_HEADER, *_HEADER_LATER, "input", "sourceHash"), bytes_text),
    **dict.fromkeys(_NUMBERS, number_text),
    **dict.fromkeys(("to", "from", "miner"), _address),
    "accessList": _access_list,
    "blobVersionedHashes": _hash_list,
    "authorizationList": _authorization_list,
}
"""How each field is encoded."""
