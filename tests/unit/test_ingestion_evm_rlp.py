"""Our encoding and our roots equal those of others."""

from __future__ import annotations

from typing import Any

import pytest
import rlp
from hypothesis import given
from hypothesis import strategies as st

from ingestion.evm.rlp import encode
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
