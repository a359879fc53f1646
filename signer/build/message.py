"""The signed message of a proof of control. Source: SEP-53, EIP-191 (version 0x45)."""

import hashlib

from signer.build.address import keccak256
from signer.protocol.intent import MessageIntent, StellarMessage
from signer.protocol.intents.message import DOMAIN_LINE, message_bytes, write_text
from signer.refusal import Refusal

SEP_53 = b"Stellar Signed Message:\n"
EIP_191 = b"\x19Ethereum Signed Message:\n"


def build_unsigned(intent: MessageIntent) -> bytes:
    """Return the prefix of the chain and the message: what is hashed and signed."""
    message = message_bytes(intent)
    unsigned = _prefix(intent, len(message)) + message
    _check_fields(unsigned, intent)
    return unsigned


def message_of(intent: MessageIntent, unsigned: bytes) -> bytes:
    """Return the 32 bytes that the key signs."""
    if isinstance(intent, StellarMessage):
        return hashlib.sha256(unsigned).digest()
    return keccak256(unsigned)


def _prefix(intent: MessageIntent, size: int) -> bytes:
    return SEP_53 if isinstance(intent, StellarMessage) else EIP_191 + str(size).encode("ascii")


def _check_fields(unsigned: bytes, intent: MessageIntent) -> None:
    """Read prefix, domain line and text back and compare; raises Refusal("bad_request")."""
    head, line, written = _split(unsigned)
    size = len(line) + len(written)
    same = (
        head == _prefix(intent, size)
        and line.decode("ascii") == DOMAIN_LINE.format(address=intent.source)
        and write_text(written.decode("ascii")) == intent.text
    )
    if not same:
        raise Refusal("bad_request", "the message built is not the one approved")


def _split(unsigned: bytes) -> tuple[bytes, bytes, bytes]:
    """Return the prefix, the first line with its end, and the rest."""
    first = unsigned.find(DOMAIN_LINE.partition("{")[0].encode("ascii"))
    end = unsigned.find(b"\n", first) + 1
    if first < 0 or end == 0:
        raise Refusal("bad_request", "the message built has no first line")
    return unsigned[:first], unsigned[first:end], unsigned[end:]
