"""Our encoding and our roots equal those of others."""

from __future__ import annotations

from typing import Any

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from custody.chains.evm.address import keccak256
from ingestion.evm.rlp import bytes_text, encode, list_text, number_text, pack
from ingestion.evm.trie import EMPTY_ROOT, ordered_root

ITEMS: st.SearchStrategy[Any] = st.recursive(
    st.binary(max_size=80) | st.integers(min_value=0, max_value=2**256 - 1),
    lambda inner: st.lists(inner, max_size=6),
    max_leaves=30,
)


@given(ITEMS)
def test_encoding_equals_that_of_the_library(item: Any) -> None:
    assert encode(item) == rlp.encode(item)


@pytest.mark.parametrize("length", [0, 1, 55, 56, 255, 256, 65_535, 65_536])
def test_encoding_equals_that_of_the_library_at_every_length_of_a_head(length: int) -> None:
    for item in (b"\x80" * length, [b"\x01"] * length):
        assert encode(item) == rlp.encode(item)


def test_a_number_below_zero_has_no_encoding() -> None:
    with pytest.raises(ValueError, match="-1"):
        encode(-1)


def test_the_root_of_nothing_is_that_of_the_yellow_paper() -> None:
    assert ordered_root([]) == EMPTY_ROOT
    assert EMPTY_ROOT.hex() == "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"


def test_the_order_of_items_matters() -> None:
    assert ordered_root([b"one", b"two"]) != ordered_root([b"two", b"one"])


@given(st.integers(min_value=0, max_value=2**256 - 1), st.integers(min_value=0, max_value=3))
def test_a_quantity_is_encoded_as_the_number_that_it_is(number: int, zeros: int) -> None:
    assert pack(number_text("0x" + "0" * zeros + f"{number:x}")) == rlp.encode(number)


@given(st.binary(max_size=80))
def test_hex_is_encoded_as_the_bytes_that_it_is(data: bytes) -> None:
    assert pack(bytes_text("0x" + data.hex())) == rlp.encode(data)


@pytest.mark.parametrize("length", [0, 1, 2, 55, 56, 255, 256, 1023, 1024, 65_536])
def test_hex_is_encoded_at_every_length_of_a_head(length: int) -> None:
    data = b"\x80" * length
    text = bytes_text("0x" + data.hex())
    assert pack(text) == rlp.encode(data)
    assert pack(list_text(text)) == rlp.encode([data])


@pytest.mark.parametrize("value", ["", "0x-1", "lots", "0xAB", "1f", None, "0x" + "1" * 65])
def test_what_is_no_quantity_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"quantity|32 bytes|hex"):
        pack(number_text(value))


@pytest.mark.parametrize(
    "value", ["", "0x1", "0x zz", "0XAB", "0xAB", "0xab cd", "0x  ab", "zzab", "0x\u0661\u0661"]
)
def test_bytes_in_another_spelling_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"bytes|hex"):
        pack(bytes_text(value))


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 127, 128, 129, 255, 256, 257, 700])
def test_the_root_is_that_of_a_trie_built_key_by_key(count: int) -> None:
    """Built anew by other means: by inserting each key into nested maps, and hashing those."""
    items = [bytes((place % 256,)) * (1 + place % 40) for place in range(count)]
    assert ordered_root(items) == slow_root({rlp.encode(place): item for place, item in enumerate(items)})


def slow_root(entries: dict[bytes, bytes]) -> bytes:
    def build(below: dict[str, bytes]) -> Any:
        if len(below) == 1:
            ((path, item),) = below.items()
            return [prefixed(path, 2), item]
        first, last = min(below), max(below)
        shared = first[: next(place for place in range(len(first)) if first[place] != last[place])]
        if shared:
            return [
                prefixed(shared, 0),
                embed(build({path[len(shared) :]: item for path, item in below.items()})),
            ]
        parts = [
            {path[1:]: item for path, item in below.items() if path[0] == nibble}
            for nibble in "0123456789abcdef"
        ]
        return [*(embed(build(part)) if part else b"" for part in parts), b""]

    def embed(node: Any) -> Any:
        encoded = rlp.encode(node)
        return node if len(encoded) < 32 else keccak256(encoded)

    def prefixed(path: str, flag: int) -> bytes:
        return bytes.fromhex(f"{flag + 1}{path}" if len(path) % 2 else f"{flag}0{path}")

    return keccak256(rlp.encode(build({key.hex(): item for key, item in entries.items()})))
