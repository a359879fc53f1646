"""What a Stellar memo says, in one spelling: `text:…`, `bytes:…` or `hash:…`. Pure.

An id memo is no words but a number, the same as a muxed id (SEP-23). Core's events tell a hash memo and a return memo alike
(CAP-67), so both are `hash:` here and neither can be told from the other. Senders choose these bytes: text that is no UTF-8, or
holds a NUL, which no database column does, is kept as `bytes:` and hexadecimal digits, so that nothing of it is lost.
"""

from __future__ import annotations

import re

from custody.chains.errors import InvalidAddressMemo

TEXT_MAX_BYTES = 28
"""Longest text memo. Source: Stellar XDR, Memo."""
MEMO_TYPES = ("text", "hash", "return")
"""Types of memo that may be registered for a wallet; an id memo is a tag, which we issue."""

_NUMBER = re.compile(r"text:(0|[1-9][0-9]{0,19})")
_HEX32 = re.compile(r"[0-9a-f]{64}")
_UINT64_MAX = 2**64 - 1


def words_of(kind: str, content: bytes) -> str:
    """The words of a memo that is no number: `kind` is `text` or `hash`. Different bytes give different words."""
    if kind == "hash":
        return "hash:" + content.hex()
    try:
        text = content.decode()
    except UnicodeDecodeError:
        return "bytes:" + content.hex()
    return "bytes:" + content.hex() if "\x00" in text else "text:" + text


def parse_words(memo_type: str, value: str) -> str:
    """The words of a memo that is to name a wallet. Raises InvalidAddressMemo.

    Text is 1 to 28 bytes of printable UTF-8, hash and return are 64 lower-case hex digits. Text that spells a number is refused:
    arrivals with it are matched as an id memo (`number_in`).
    """
    if memo_type == "text":
        words = words_of("text", value.encode(errors="replace"))
        fits = value.isprintable() and value == value.strip() and 1 <= len(value.encode()) <= TEXT_MAX_BYTES
        if fits and number_in(words) is None:
            return words
    elif memo_type in MEMO_TYPES and _HEX32.fullmatch(value):
        return words_of("hash", bytes.fromhex(value))
    raise InvalidAddressMemo(memo_type=memo_type[:20], memo=value[:80])


def number_in(words: str) -> int | None:
    """The number that a text memo spells, as an id memo would: many senders have only a field for text.

    Canonical decimals below 2^64 only: no sign, blank, or leading zero.
    """
    found = _NUMBER.fullmatch(words)
    number = int(found[1]) if found else _UINT64_MAX + 1
    return number if number <= _UINT64_MAX else None


def show_words(words: str) -> str:
    """What stands behind the kind: the text, or hexadecimal digits."""
    return words.partition(":")[2]
