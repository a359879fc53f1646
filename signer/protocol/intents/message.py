"""Intents that become a signature under a message, and only one that proves who controls an address.

The first line is built by the signer and names the address, so that the signed bytes can never be those of a transaction, a
permit or a login of somebody else's making. Source: SEP-53, EIP-191.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from signer.protocol.intents.header import EVM_HEADER, STELLAR_HEADER, Header, Kind, nothing_more

TEXT_MAX = 512
"""Most characters of a text, line ends included."""
DOMAIN_LINE = "Proof of control of {address}\n"
_TEXT = re.compile(r"(?:[\x20-\x5b\x5d-\x7e]|\\[n\\])+")


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarMessage(Header):
    """A SEP-53 message of a Stellar key."""

    text: str
    """What follows the domain line: 1-512 printable ASCII characters and line ends, where a line end is written as a
    backslash and n, and a backslash twice.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmMessage(Header):
    """An EIP-191 personal message of an EVM key."""

    text: str
    """As in `StellarMessage`."""


def parse_text(text: str) -> str:
    """Check a text in its written form; raises ValueError("bad_text")."""
    if not _TEXT.fullmatch(text) or len(read_text(text)) > TEXT_MAX:
        raise ValueError("bad_text")
    return text


def read_text(written: str) -> str:
    """Return the characters that a checked text stands for."""
    return re.sub(r"\\([n\\])", lambda found: "\n" if found[1] == "n" else "\\", written)


def write_text(text: str) -> str:
    """Return the written form of a text; `read_text` of it is the text again."""
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def message_bytes(intent: StellarMessage | EvmMessage) -> bytes:
    """Return the whole message: the domain line and the text."""
    return (DOMAIN_LINE.format(address=intent.source) + read_text(intent.text)).encode("ascii")


KINDS: Mapping[str, Kind] = {
    "stellar_message": Kind(
        shape=StellarMessage, parsers={**STELLAR_HEADER, "text": parse_text}, check=nothing_more
    ),
    "evm_message": Kind(shape=EvmMessage, parsers={**EVM_HEADER, "text": parse_text}, check=nothing_more),
}
