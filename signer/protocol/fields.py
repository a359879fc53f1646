"""Checks of single fields: the text form of each value, and nothing that needs more than the standard
library.

Each parser takes the decoded text and returns the value, or raises ValueError with a refusal code. EIP-55
case and the curve membership of keys need keccak and curve arithmetic; the signer checks those in
`signer.build` before it signs.
"""

import base64
import re
from collections.abc import Callable
from typing import Literal

MemoType = Literal["none", "id", "text", "hash"]

INT64_MAX = 2**63 - 1
UINT64_MAX = 2**64 - 1
UINT256_MAX = 2**256 - 1
TIME_MAX = 253_402_300_799
"""The last second of the year 9999."""
GAS_MAX = 2**24
"""Most gas that one transaction may ask for (EIP-7825)."""

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,77}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,63}")
_HEX16 = re.compile(r"[0-9a-f]{32}")
_HEX32 = re.compile(r"[0-9a-f]{64}")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_STELLAR_CHAIN = re.compile(r"stellar:[a-z0-9-]{1,32}")
_EVM_CHAIN = re.compile(r"eip155:[1-9][0-9]{0,18}")
_EVM_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_ASSET_CODE = re.compile(r"[A-Za-z0-9]{1,12}")
_MEMO_TEXT = re.compile(r"[\x20-\x7e]{1,28}")

_VERSION_G = 6 << 3
_VERSION_M = 12 << 3
_VERSION_C = 2 << 3

PATH_MAX = 5
"""Most assets between the two ends of a path payment."""
RESERVED_MAX = 0xFFFF
"""Last of the addresses that are kept for precompiles (EIP-1352); nobody holds a key or a token there."""


def parse_integer(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of minimal decimals within [low, high]; codes: not_minimal, out_of_range."""

    def parse(text: str) -> int:
        if not _DECIMAL.fullmatch(text):
            raise ValueError("not_minimal")
        value = int(text)
        if not low <= value <= high:
            raise ValueError("out_of_range")
        return value

    return parse


def _parse_pattern(pattern: re.Pattern[str], code: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(code)
        return text

    return parse


parse_name = _parse_pattern(_NAME, "bad_name")
parse_key_id = _parse_pattern(_HEX16, "bad_key_id")
parse_hex32 = _parse_pattern(_HEX32, "bad_hex")
parse_uuid = _parse_pattern(_UUID, "bad_uuid")
parse_stellar_chain = _parse_pattern(_STELLAR_CHAIN, "bad_chain")
parse_evm_chain = _parse_pattern(_EVM_CHAIN, "bad_chain")


def parse_evm_address(text: str) -> str:
    """Check the shape of an EVM address, not zero and no precompile; EIP-55 is checked in the signer."""
    if not _EVM_ADDRESS.fullmatch(text) or int(text, 16) <= RESERVED_MAX:
        raise ValueError("bad_address")
    return text


def _crc16(data: bytes) -> int:
    """CRC-16/XMODEM, as strkey uses it. Source: SEP-23."""
    crc = 0
    for byte in data:
        crc ^= byte << 8
        for _ in range(8):
            crc = ((crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xFFFF
    return crc


def _strkey_payload(text: str, version: int, size: int) -> bytes:
    """Return the payload of a strkey; raises ValueError("bad_address") on any other encoding of it. Source:
    SEP-23.
    """
    if not re.fullmatch(r"[A-Z2-7]{1,112}", text):
        raise ValueError("bad_address")
    padded = text + "=" * (-len(text) % 8)
    try:
        raw = base64.b32decode(padded)
    except ValueError as error:
        raise ValueError("bad_address") from error
    canonical = base64.b32encode(raw).decode().rstrip("=")
    whole = len(raw) == size + 3 and raw[0] == version and canonical == text
    if not whole or _crc16(raw[:-2]).to_bytes(2, "little") != raw[-2:]:
        raise ValueError("bad_address")
    return raw[1:-2]


def payload_of(address: str) -> bytes:
    """Return the raw bytes inside a checked address: 32 for G and C, 32 and the 8-byte id for M."""
    if address.startswith("M"):
        return _strkey_payload(address, _VERSION_M, 40)
    if address.startswith("C"):
        return _strkey_payload(address, _VERSION_C, 32)
    return _strkey_payload(address, _VERSION_G, 32)


def account_of(address: str) -> bytes:
    """Return the 32-byte account key inside a checked G or M address."""
    return payload_of(address)[:32]


def parse_account(text: str) -> str:
    """Check a G address: version byte, length, padding bits and checksum."""
    _strkey_payload(text, _VERSION_G, 32)
    return text


def parse_destination(text: str) -> str:
    """Check a G or an M address."""
    if text.startswith("M"):
        _strkey_payload(text, _VERSION_M, 40)
    else:
        _strkey_payload(text, _VERSION_G, 32)
    return text


def parse_contract(text: str) -> str:
    """Check a C address."""
    _strkey_payload(text, _VERSION_C, 32)
    return text


def parse_credit_asset(text: str) -> str:
    """Check "CODE:ISSUER": 1-12 letters or digits and the issuer's G address."""
    code, colon, issuer = text.partition(":")
    if not colon or not _ASSET_CODE.fullmatch(code):
        raise ValueError("bad_asset")
    parse_account(issuer)
    return text


def parse_asset(text: str) -> str:
    """Check "native" or "CODE:ISSUER"."""
    return text if text == "native" else parse_credit_asset(text)


def parse_path(text: str) -> str:
    """Check up to 5 assets joined by ","; "" is no asset."""
    assets = path_of(text)
    if len(assets) > PATH_MAX:
        raise ValueError("out_of_range")
    for asset in assets:
        parse_asset(asset)
    return text


def path_of(text: str) -> list[str]:
    """Return the assets of a path."""
    return text.split(",") if text else []


def parse_unless_empty(parse: Callable[[str], str | int]) -> Callable[[str], str]:
    """Return a parser that takes "" for a value that is not given, and keeps the text of one that is."""

    def parse_text(text: str) -> str:
        if text:
            parse(text)
        return text

    return parse_text


def parse_memo_type(text: str) -> str:
    """Check the kind of memo."""
    if text not in {"none", "id", "text", "hash"}:
        raise ValueError("bad_memo_type")
    return text


def check_memo(memo_type: MemoType, memo: str) -> None:
    """Check the memo against its type; raises ValueError("bad_memo", "memo")."""
    if memo_type == "none":
        valid = memo == ""
    elif memo_type == "id":
        valid = bool(_DECIMAL.fullmatch(memo)) and int(memo) <= UINT64_MAX
    elif memo_type == "text":
        valid = bool(_MEMO_TEXT.fullmatch(memo))
    else:
        valid = bool(_HEX32.fullmatch(memo))
    if not valid:
        raise ValueError("bad_memo", "memo")
