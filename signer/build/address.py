"""Addresses: from public keys, and the checks that need keccak or the curve."""

from Crypto.Hash import keccak
from stellar_sdk import StrKey

from signer.points import is_public_key
from signer.protocol.fields import account_of
from signer.protocol.intent import (
    EvmErc20Transfer,
    EvmTransfer,
    Intent,
    StellarAnchor,
    StellarChangeTrust,
    StellarIntent,
    StellarPayment,
)
from signer.refusal import Refusal


def keccak256(data: bytes) -> bytes:
    """Return the original Keccak-256, as Ethereum uses it."""
    return keccak.new(digest_bits=256, data=data).digest()


def checksummed(raw: bytes) -> str:
    """Return the EIP-55 form of a 20-byte address. Source: EIP-55."""
    lower = raw.hex()
    case = keccak256(lower.encode("ascii")).hex()
    letters = zip(lower, case, strict=False)
    return "0x" + "".join(letter.upper() if int(nibble, 16) >= 8 else letter for letter, nibble in letters)


def address_of(curve: str, public_key: bytes) -> str:
    """Return the G address of an ed25519 key or the EIP-55 address of an uncompressed secp256k1 key."""
    if curve == "ed25519":
        return StrKey.encode_ed25519_public_key(public_key)
    return checksummed(keccak256(public_key[1:])[12:])


def curve_of(intent: Intent) -> str:
    """Return the curve of the keys that sign on the intent's chain."""
    return "ed25519" if isinstance(intent, StellarIntent) else "secp256k1"


def check_addresses(intent: Intent) -> None:
    """Check every address that the protocol could only check by shape; raises Refusal("bad_checksum")."""
    if isinstance(intent, StellarPayment):
        accounts = [intent.destination]
        if intent.asset != "native":
            accounts.append(intent.asset.partition(":")[2])
        valid = all(is_public_key(account_of(account)) for account in accounts)
    elif isinstance(intent, StellarChangeTrust):
        valid = is_public_key(account_of(intent.asset.partition(":")[2]))
    elif isinstance(intent, StellarAnchor):
        # Its only address is the source, which has to be the key's own.
        valid = True
    elif isinstance(intent, EvmErc20Transfer):
        valid = all(_is_checksummed(text) for text in (intent.source, intent.destination, intent.token))
    else:
        valid = _is_evm_checksummed(intent)
    if not valid:
        raise Refusal("bad_checksum", "an address of the intent is mistyped")


def _is_evm_checksummed(intent: EvmTransfer) -> bool:
    return _is_checksummed(intent.source) and _is_checksummed(intent.destination)


def _is_checksummed(text: str) -> bool:
    return checksummed(bytes.fromhex(text[2:])) == text
