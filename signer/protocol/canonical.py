"""The one byte string of each intent. Approvers, requester and signer must agree on it byte for byte (SPEC.md
section 2).

The encoding is a flat JSON object: keys sorted, every value a string, no whitespace, printable ASCII only.
Anything else is refused, never normalised, so an intent has no twin with another digest.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from signer.protocol import fields as check
from signer.protocol.intent import (
    EvmErc20Transfer,
    EvmTransfer,
    Intent,
    StellarAnchor,
    StellarChangeTrust,
    StellarPayment,
)

FORMAT_VERSION = "1"
SIZE_MAX = 4096
"""Longest accepted encoding in bytes."""
DIGEST_TAG = b"custody-intent-v1\x00"

Parser = Callable[[str], str | int]

_PAIR = re.compile(rb'"([a-z0-9_]{1,40})":"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')

_HEADER: Mapping[str, Parser] = {
    "org": check.parse_name,
    "vault": check.parse_name,
    "key_id": check.parse_key_id,
    "request_id": check.parse_uuid,
    "initiator": check.parse_name,
    "policy_version": check.parse_integer(1, 2**31 - 1),
    "not_before": check.parse_integer(0, check.TIME_MAX),
    "expires_at": check.parse_integer(1, check.TIME_MAX),
}
_STELLAR: Mapping[str, Parser] = {
    **_HEADER,
    "chain": check.parse_stellar_chain,
    "network_id": check.parse_hex32,
    "source": check.parse_account,
    "max_fee": check.parse_integer(100, 2**32 - 1),
}
_EVM: Mapping[str, Parser] = {
    **_HEADER,
    "chain": check.parse_evm_chain,
    "chain_id": check.parse_integer(1, check.INT64_MAX),
    "source": check.parse_evm_address,
    "destination": check.parse_evm_address,
    "amount": check.parse_integer(1, check.UINT256_MAX),
    "gas_limit": check.parse_integer(21_000, check.GAS_MAX),
    "max_fee_per_gas": check.parse_integer(1, 2**96 - 1),
    "max_priority_fee_per_gas": check.parse_integer(0, 2**96 - 1),
}
_KINDS: Mapping[str, tuple[type[Intent], Mapping[str, Parser]]] = {
    "stellar_payment": (
        StellarPayment,
        {
            **_STELLAR,
            "destination": check.parse_destination,
            "memo_type": check.parse_memo_type,
            "memo": str,
            "asset": check.parse_asset,
            "amount": check.parse_integer(1, check.INT64_MAX),
        },
    ),
    "stellar_change_trust": (
        StellarChangeTrust,
        {
            **_STELLAR,
            "asset": check.parse_credit_asset,
            "limit": check.parse_integer(0, check.INT64_MAX),
        },
    ),
    "stellar_anchor": (StellarAnchor, {**_STELLAR, "hash": check.parse_hex32}),
    "evm_transfer": (EvmTransfer, _EVM),
    "evm_erc20_transfer": (EvmErc20Transfer, {**_EVM, "token": check.parse_evm_address}),
}
_KIND_OF: Mapping[type[Intent], str] = {shape: kind for kind, (shape, _) in _KINDS.items()}


class MalformedIntent(Exception):
    """The bytes or the value are not a canonical intent. `code` is stable; `field` names the culprit or is
    empty.
    """

    def __init__(self, code: str, field: str = "") -> None:
        super().__init__(f"{code} {field}".rstrip())
        self.code = code
        self.field = field


def kind_of(intent: Intent) -> str:
    """Return the name of the intent's kind as it stands in the bytes."""
    return _KIND_OF[type(intent)]


def encode(intent: Intent) -> bytes:
    """Return the canonical bytes; raises MalformedIntent when a field is outside its range."""
    values = {field.name: _text(getattr(intent, field.name), field.name) for field in fields(intent)}
    values |= {"kind": kind_of(intent), "v": FORMAT_VERSION}
    data = write_flat(values)
    if decode(data) != intent:
        raise MalformedIntent("not_canonical")
    return data


def decode(data: bytes) -> Intent:
    """Return the intent of exactly these bytes; raises MalformedIntent."""
    values = read_flat(data)
    if values.get("v") != FORMAT_VERSION:
        raise MalformedIntent("unknown_version", "v")
    kind = values.get("kind", "")
    if kind not in _KINDS:
        raise MalformedIntent("unknown_kind", "kind")
    shape, parsers = _KINDS[kind]
    for name in values:
        if name not in parsers and name not in {"v", "kind"}:
            raise MalformedIntent("unknown_field", name)
    parsed: dict[str, Any] = {}
    for name, parse in parsers.items():
        if name not in values:
            raise MalformedIntent("missing_field", name)
        try:
            parsed[name] = parse(values[name])
        except ValueError as error:
            raise MalformedIntent(str(error), name) from error
    intent = shape(**parsed)
    _check_together(intent)
    if write_flat(values) != data:
        raise MalformedIntent("not_canonical")
    return intent


def digest(data: bytes) -> bytes:
    """Return the 32 bytes that name this intent everywhere: SHA-256 of the tag and the canonical bytes."""
    return hashlib.sha256(DIGEST_TAG + data).digest()


def _text(value: object, name: str) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is str:
        return value
    raise MalformedIntent("wrong_type", name)


def write_flat(values: Mapping[str, str]) -> bytes:
    """Return the flat object of these strings; raises MalformedIntent."""
    parts = []
    for name in sorted(values):
        escaped = values[name].replace("\\", "\\\\").replace('"', '\\"')
        parts.append(f'"{name}":"{escaped}"')
    try:
        return ("{" + ",".join(parts) + "}").encode("ascii")
    except UnicodeEncodeError as error:
        raise MalformedIntent("not_ascii") from error


def read_flat(data: bytes) -> dict[str, str]:
    """Read the flat object of strings; refuses whitespace, nesting, numbers, other escapes and repeated keys."""
    if len(data) > SIZE_MAX:
        raise MalformedIntent("too_long")
    if not (data.startswith(b'{"') and data.endswith(b'"}')):
        raise MalformedIntent("not_canonical")
    values: dict[str, str] = {}
    position = 1
    while True:
        pair = _PAIR.match(data, position)
        if pair is None:
            raise MalformedIntent("not_canonical")
        name, text = pair[1].decode("ascii"), pair[2].decode("ascii")
        if name in values:
            raise MalformedIntent("duplicate_field", name)
        values[name] = re.sub(r"\\(.)", r"\1", text)
        position = pair.end()
        if position == len(data) - 1:
            return values
        if data[position : position + 1] != b",":
            raise MalformedIntent("not_canonical")
        position += 1


def _check_together(intent: Intent) -> None:
    """Check what needs more than one field."""
    if intent.expires_at <= intent.not_before:
        raise MalformedIntent("empty_window", "expires_at")
    if isinstance(intent, StellarPayment):
        _check_payment(intent)
    if isinstance(intent, StellarChangeTrust) and intent.asset.partition(":")[2] == intent.source:
        raise MalformedIntent("self_transfer", "asset")
    if isinstance(intent, EvmTransfer | EvmErc20Transfer):
        _check_evm(intent)


def _check_payment(intent: StellarPayment) -> None:
    try:
        check.check_memo(intent.memo_type, intent.memo)
    except ValueError as error:
        raise MalformedIntent(str(error), "memo") from error
    if intent.destination.startswith("M") and intent.memo_type != "none":
        raise MalformedIntent("memo_with_muxed", "memo_type")
    if check.account_of(intent.destination) == check.account_of(intent.source):
        raise MalformedIntent("self_transfer", "destination")


def _check_evm(intent: EvmTransfer | EvmErc20Transfer) -> None:
    if intent.chain != f"eip155:{intent.chain_id}":
        raise MalformedIntent("chain_mismatch", "chain_id")
    if intent.max_priority_fee_per_gas > intent.max_fee_per_gas:
        raise MalformedIntent("out_of_range", "max_priority_fee_per_gas")
    if intent.destination.lower() == intent.source.lower():
        raise MalformedIntent("self_transfer", "destination")
    if isinstance(intent, EvmErc20Transfer) and intent.token.lower() in {
        intent.destination.lower(),
        intent.source.lower(),
    }:
        raise MalformedIntent("self_transfer", "token")
