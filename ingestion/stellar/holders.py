"""Names of holders and assets, from the bytes in which entries and events spell them. Pure.

The same few thousand accounts and assets come again in every ledger, so their texts are kept, a bounded number of them.
Source: SEP-23 (strkeys), SEP-11 (asset names).
"""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache

NATIVE = "native"
"""The name of lumens."""

ACCOUNT, CONTRACT, CLAIMABLE, POOL = 6 << 3, 2 << 3, 1 << 3, 11 << 3
"""Version bytes of G, C, B and L addresses."""
_ADDRESS_KINDS = {0: ACCOUNT, 1: CONTRACT, 3: CLAIMABLE, 4: POOL}
"""SCAddressType to version byte. Muxed accounts (2) are no holders: CAP-67 never names them."""
_ADDRESS_SIZES = {0: 40, 1: 36, 3: 40, 4: 36}


def account_name(key: bytes) -> str:
    """The G address of an ed25519 key."""
    return strkey(ACCOUNT, key)


def contract_name(contract_id: bytes) -> str:
    """The C address of a contract."""
    return strkey(CONTRACT, contract_id)


def claimable_name(balance_id: bytes) -> str:
    """The B address of a claimable balance of type V0, the only one."""
    return strkey(CLAIMABLE, b"\0" + balance_id)


def pool_name(pool_id: bytes) -> str:
    """The L address of a liquidity pool."""
    return strkey(POOL, pool_id)


@lru_cache(maxsize=1 << 16)
def strkey(version: int, payload: bytes) -> str:
    """The text of a key of this version."""
    body = bytes((version,)) + payload
    checksum = binascii.crc_hqx(body, 0).to_bytes(2, "little")
    return base64.b32encode(body + checksum).rstrip(b"=").decode()


def address_name(address: bytes) -> str:
    """The holder that an SCAddress names; empty when it is of a kind that holds nothing."""
    kind = address[3]
    version = _ADDRESS_KINDS.get(kind)
    if version is None or len(address) != _ADDRESS_SIZES[kind]:
        return ""
    return strkey(version, b"\0" + address[-32:] if version == CLAIMABLE else address[-32:])


@lru_cache(maxsize=1 << 14)
def asset_name(asset: bytes) -> str:
    """`native` or `CODE:ISSUER` for an Asset in XDR. Bytes of a code that are no ASCII are written as escapes."""
    if len(asset) == 4:
        return NATIVE
    code = asset[4:-36].rstrip(b"\0").decode("ascii", "backslashreplace")
    return f"{code}:{account_name(asset[-32:])}"


def issuer_of(asset: str) -> str:
    """The account that issues the asset; empty for lumens and for tokens of contracts."""
    return asset.partition(":")[2]
