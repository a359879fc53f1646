"""Stellar bytes in a test's own hands: built and signed on a software token, without a signer around them."""

from typing import Any

from stellar_sdk import Asset

from signer.build import assembly
from signer.protocol.canonical import KINDS
from signer.protocol.intent import StellarOperation
from tests.fakes.signer_hsm import START, FakeToken
from tests.fakes.signer_kinds import bind_kind, make_kind
from tests.fakes.signer_people import ISSUER, PASSPHRASE, key_view

HSM = FakeToken()
NETWORKS = {"stellar:devnet": PASSPHRASE}
KEY = key_view(HSM, "ed25519")
CHANNEL = key_view(HSM, "ed25519", b"channel." * 2)
OPERATIONS = sorted(
    kind
    for kind, row in KINDS.items()
    if kind.startswith("stellar_") and issubclass(row.shape, StellarOperation)
)
USDC, LONG_ASSET = Asset("USDC", ISSUER), Asset("LONGCODE1234", ISSUER)


def make(kind: str, **changes: Any) -> Any:
    """Return a valid intent of the key, over the channel if it is a channel payment."""
    if kind == "stellar_channel_payment":
        changes = {"channel": CHANNEL.address} | changes
    return make_kind(kind, KEY, START, **changes)


def sign(intent: Any, unsigned: bytes, *keys: Any) -> dict[bytes, bytes]:
    """Return the signatures of these keys by public key."""
    message = assembly.message_of(intent, unsigned)
    return {
        bytes.fromhex(key.public_key): HSM.sign(bytes.fromhex(key.key_id), "ed25519", message) for key in keys
    }


def build(intent: Any, number: int = 5) -> tuple[bytes, Any]:
    """Return what is signed, and the binding under which it was built."""
    binding = bind_kind(intent, number)
    return assembly.build_unsigned(intent, binding, None, NETWORKS, START), binding
