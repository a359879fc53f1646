"""Creditor references: check digits notice a slip, and a payer's spelling does not matter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody.receipts.reference import build_reference, find_references, is_reference, new_reference


def test_the_standards_own_example_verifies() -> None:
    # Source: ISO 11649, as printed by the European Payments Council: RF18 5390 0754 7034.
    assert is_reference("RF18539007547034")
    assert build_reference("539007547034") == "RF18539007547034"


@given(st.text("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=21))
def test_every_built_reference_verifies(body: str) -> None:
    assert is_reference(build_reference(body))


@given(st.integers(0, 10**18 - 1), st.integers(2, 21), st.sampled_from("0123456789"))
def test_one_wrong_digit_is_noticed(number: int, position: int, digit: str) -> None:
    right = build_reference(f"{number:018d}")
    wrong = right[:position] + digit + right[position + 1 :]
    assert is_reference(wrong) == (wrong == right)


@given(st.integers(0, 10**18 - 1), st.integers(2, 20))
def test_two_swapped_neighbours_are_noticed(number: int, position: int) -> None:
    right = build_reference(f"{number:018d}")
    wrong = right[:position] + right[position + 1] + right[position] + right[position + 2 :]
    assert is_reference(wrong) == (wrong == right)


@pytest.mark.parametrize(
    "spelling",
    ["{}", "rent {} thanks", "{} ", "Ref: {}.", "/RFB/{}/"],
)
@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("lower", [False, True])
def test_a_reference_is_found_however_it_is_spelt(spelling: str, spaced: bool, lower: bool) -> None:
    reference = new_reference()
    written = " ".join(reference[n : n + 4] for n in range(0, len(reference), 4)) if spaced else reference
    text = spelling.format(written.lower() if lower else written)
    assert reference in find_references(text)


@pytest.mark.parametrize("text", ["", "rent november", "RF00", "RF18539007547035", "RF", "R F18539007547034"])
def test_no_reference_is_found_where_there_is_none(text: str) -> None:
    assert find_references(text) == ()


def test_a_text_full_of_beginnings_holds_no_reference() -> None:
    assert find_references("RF " * 100_000) == ()
