"""Addresses: from public keys, and the checks that need keccak or the curve."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from Crypto.Hash import keccak
from stellar_sdk import StrKey

from signer.points import is_public_key
from signer.protocol.canonical import KINDS
from signer.protocol.fields import account_of, path_of
from signer.protocol.intent import Intent
from signer.refusal import Refusal

_ADDRESSES = frozenset({"source", "destination", "channel", "signer_key", "token", "spender"})
_ASSETS = frozenset({"asset", "send_asset", "dest_asset", "path"})
"""The fields that hold addresses or assets. A name means the same in every kind."""
_PLACES: Mapping[type[Any], tuple[list[str], list[str]]] = {
    kind.shape: (
        [name for name in kind.parsers if name in _ADDRESSES],
        [name for name in kind.parsers if name in _ASSETS],
    )
    for kind in KINDS.values()
}
"""By the shape of the intent: which of its fields hold addresses, and which assets."""


def keccak256(data: bytes) -> bytes:
    """Return the original Keccak-256, as Ethereum uses it."""
    return keccak.new(digest_bits=256, data=data).digest()


@lru_cache(maxsize=4096)
def checksummed(raw: bytes) -> str:
    """Return the EIP-55 form of a 20-byte address. Source: EIP-55."""
    lower = raw.hex()
    case = keccak256(lower.encode("ascii")).hex()
    letters = zip(lower, case, strict=False)
    return "0x" + "".join(letter.upper() if int(nibble, 16) >= 8 else letter for letter, nibble in letters)


@lru_cache(maxsize=4096)
def address_of(curve: str, public_key: bytes) -> str:
    """Return the G address of an ed25519 key or the EIP-55 address of an uncompressed secp256k1 key."""
    if curve == "ed25519":
        return StrKey.encode_ed25519_public_key(public_key)
    return checksummed(keccak256(public_key[1:])[12:])


def curve_of(intent: Intent) -> str:
    """Return the curve of the keys that sign on the intent's chain."""
    return "ed25519" if intent.chain.startswith("stellar:") else "secp256k1"


def check_addresses(intent: Intent) -> None:
    """Check every address that the protocol could only check by shape; raises Refusal("bad_checksum")."""
    valid = _is_account if curve_of(intent) == "ed25519" else _is_checksummed
    if not all(valid(address) for address in addresses_in(intent)):
        raise Refusal("bad_checksum", "an address of the intent is mistyped")


def addresses_in(intent: Intent) -> list[str]:
    """Return every address that stands in the intent, also those inside assets."""
    found = []
    plain, assets = _PLACES[type(intent)]
    found += [getattr(intent, name) for name in plain]
    for name in assets:
        found += [asset.rpartition(":")[2] for asset in path_of(getattr(intent, name))]
    return [address for address in found if address not in ("", "native")]


@lru_cache(maxsize=4096)
def _is_account(address: str) -> bool:
    """A contract is no key, so every 32 bytes can be one."""
    return address.startswith("C") or is_public_key(account_of(address))


def _is_checksummed(text: str) -> bool:
    return checksummed(bytes.fromhex(text[2:])) == text
