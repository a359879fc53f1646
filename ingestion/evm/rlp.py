"""Recursive length prefix, encoding only. Pure.

The library that decodes elsewhere spends four fifths of a block's proof on finding out what it was given; every log of
every block goes through here. Compared with that library in tests.

What a node sends is hex, so most of the work is done in hex: an encoded item is its head and the digits that came, and a whole
transaction becomes bytes once (`pack`). Text keeps what bytes would hide: digits in another case or with a space between
them give the same bytes, but no longer the topic or the name that others compare with. Such text is refused.
Source: the yellow paper, appendix B; the Ethereum JSON-RPC specification (QUANTITY and DATA are 0x and digits in lower case).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

Item: TypeAlias = "bytes | int | Sequence[Item]"

EMPTY_TEXT = "80"
"""Nothing, and zero."""
_SMALL = {f"{value:x}": f"{value:02x}" if value < 0x80 else f"81{value:02x}" for value in range(1, 256)} | {
    "": EMPTY_TEXT
}
"""Numbers of one byte, by their digits."""
_NUMBER_DIGITS_MAX = 64
"""The machine's words have 32 bytes."""
_SHORT = 1024
"""Heads of shorter items are made beforehand."""


def encode(item: Item) -> bytes:
    """Bytes as they are, numbers as big-endian bytes without leading zeros, sequences of them. Raises ValueError below zero."""
    if isinstance(item, int):
        if item < 0:
            raise ValueError(item)
        item = item.to_bytes((item.bit_length() + 7) // 8, "big")
    if isinstance(item, bytes):
        return encode_bytes(item)
    return encode_list(b"".join(map(encode, item)))


def encode_bytes(item: bytes) -> bytes:
    """A string of bytes."""
    if len(item) == 1 and item[0] < 0x80:
        return item
    length = len(item)
    return (_BYTES_HEADS[length] if length < _SHORT else _head(length, 0x80)) + item


def encode_list(body: bytes) -> bytes:
    """A list of items that are encoded already."""
    length = len(body)
    return (_LIST_HEADS[length] if length < _SHORT else _head(length, 0xC0)) + body


def number_text(value: object) -> str:
    """A quantity (`0x1f`; a JSON number or truth value too), encoded, in hex. Raises ValueError."""
    text = value if isinstance(value, str) else hex(value) if isinstance(value, int) else ""
    if text[:2] != "0x":
        raise ValueError("not a quantity")
    digits = text[2:].lstrip("0")
    size = len(digits)
    if size < 3:
        found = _SMALL.get(digits)
        if found is None:
            raise ValueError("not a quantity")
        return found
    if size > _NUMBER_DIGITS_MAX:
        raise ValueError("a number of more than 32 bytes")
    if size & 1:
        return _BYTES_HEADS_TEXT[size + 1 >> 1] + "0" + digits
    return _BYTES_HEADS_TEXT[size >> 1] + digits


def bytes_text(value: str) -> str:
    """Bytes (`0x` and two digits each), encoded, in hex. Raises ValueError."""
    size = len(value) - 2
    if value[:2] != "0x" or size & 1:
        raise ValueError("not bytes")
    if size == 2 and value[2] < "8":
        return value[2:]
    length = size >> 1
    return (_BYTES_HEADS_TEXT[length] if length < _SHORT else _head(length, 0x80).hex()) + value[2:]


def list_text(body: str) -> str:
    """A list of items that are encoded already, in hex."""
    length = len(body) >> 1
    return (_LIST_HEADS_TEXT[length] if length < _SHORT else _head(length, 0xC0).hex()) + body


def pack(text: str) -> bytes:
    """The bytes. Raises ValueError for digits in upper case, and for anything between them."""
    packed = bytes.fromhex(text)
    if packed.hex() != text:
        raise ValueError("not plain hex in lower case")
    return packed


def _head(length: int, base: int) -> bytes:
    if length < 56:
        return bytes((base + length,))
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((base + 55 + len(size),)) + size


_BYTES_HEADS = tuple(_head(length, 0x80) for length in range(_SHORT))
_LIST_HEADS = tuple(_head(length, 0xC0) for length in range(_SHORT))
_BYTES_HEADS_TEXT = tuple(head.hex() for head in _BYTES_HEADS)
_LIST_HEADS_TEXT = tuple(head.hex() for head in _LIST_HEADS)
