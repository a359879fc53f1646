"""Values that everything else is made of."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from custody.kernel.assetid import AssetId, ChainId, MalformedAssetId, native, parse_asset_id, parse_chain_id
from custody.kernel.clock import FixedClock
from custody.kernel.errors import IllegalTransition, InvariantViolated
from custody.kernel.ids import MalformedId, build_uuid7, derived_uuid, new_uuid, parse_id, show_id
from custody.kernel.money import (
    MAX_ATOMIC,
    Amount,
    AmountNotPositive,
    AmountTooLarge,
    AssetMismatch,
    MalformedAmount,
    format_units,
    parse_atomic,
    parse_positive,
    parse_units,
)
from custody.kernel.transitions import Transition, TransitionTable

EUR = parse_asset_id("fiat/EUR")
XLM = parse_asset_id("stellar:devnet/native")


@given(st.integers(0, MAX_ATOMIC), st.integers(0, 36))
def test_printing_and_parsing_units_round_trips(atomic: int, decimals: int) -> None:
    assert parse_units(format_units(atomic, decimals), decimals) == atomic


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "01", "1.0", "1e3", " 1", "1 ", "٣", "0x1", "1_000", "NaN", "1,0"]
)
def test_an_atomic_amount_is_plain_digits(text: str) -> None:
    with pytest.raises(MalformedAmount):
        parse_atomic(text)


def test_an_atomic_amount_ends_at_uint256() -> None:
    assert parse_atomic(str(MAX_ATOMIC)) == MAX_ATOMIC
    with pytest.raises(AmountTooLarge):
        parse_atomic(str(MAX_ATOMIC + 1))


@pytest.mark.parametrize("text", ["0", "-5"])
def test_money_that_moves_is_positive(text: str) -> None:
    with pytest.raises(AmountNotPositive):
        parse_positive(text)


def test_more_decimals_than_the_asset_has_are_refused_not_rounded() -> None:
    assert parse_units("1.23", 2) == 123
    with pytest.raises(MalformedAmount):
        parse_units("1.234", 2)


def test_amounts_of_two_assets_do_not_meet() -> None:
    with pytest.raises(AssetMismatch):
        Amount(EUR, 1) + Amount(XLM, 1)
    assert Amount(EUR, 3) - Amount(EUR, 1) == Amount(EUR, 2)
    assert Amount(EUR, 1) < Amount(EUR, 2) <= Amount(EUR, 2)


@pytest.mark.parametrize(
    "text",
    [
        "stellar:pubnet/native",
        "stellar:pubnet/USDC:GA5ZSEJYB37JRC5AVCIA5MOP4RHTM335X2KGX3IHOJAPP5RE34K4KZVN",
        "eip155:1/native",
        "eip155:1/erc20:0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
        "fiat/EUR",
    ],
)
def test_an_asset_id_prints_as_it_was_written(text: str) -> None:
    assert parse_asset_id(text).text == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fiat",
        "fiat/eur",
        "fiat:x/EUR",
        "stellar/native",
        "eip155:1/USDC",
        "stellar:pubnet/USDC:GA5",
        "bip122:0/native",
        "a/b/c",
    ],
)
def test_a_malformed_asset_id_is_refused(text: str) -> None:
    with pytest.raises(MalformedAssetId):
        parse_asset_id(text)


def test_a_chain_has_a_native_asset() -> None:
    assert native(parse_chain_id("eip155:1")) == AssetId(ChainId("eip155:1"), "native")
    assert native(ChainId("eip155:1")).is_native
    assert not EUR.is_native


@given(st.uuids(), st.sampled_from(["wdr", "cus"]))
def test_a_shown_id_parses_back_only_under_its_prefix(value: UUID, prefix: str) -> None:
    assert parse_id(prefix, show_id(prefix, value)) == value
    with pytest.raises(MalformedId):
        parse_id("pay", show_id(prefix, value))


@given(st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_a_version_7_id_is_well_formed_and_starts_with_its_time(unix_ms: int, randomness: bytes) -> None:
    built = build_uuid7(unix_ms, randomness)
    assert (built.version, built.int >> 80) == (7, unix_ms)


def test_ids_are_new_or_the_same_as_wanted() -> None:
    assert new_uuid() != new_uuid()
    assert derived_uuid("a", 1) == derived_uuid("a", "1")
    assert derived_uuid("ab", "c") != derived_uuid("a", "bc")


def test_a_fixed_clock_moves_only_when_told() -> None:
    clock = FixedClock(datetime(2026, 1, 1, tzinfo=UTC))
    clock.advance(61)
    assert clock.now() == datetime(2026, 1, 1, 0, 1, 1, tzinfo=UTC)


TABLE = TransitionTable(
    "thing", "new", (Transition("new", "start", "running"), Transition("running", "finish", "done"))
)


def test_a_table_answers_every_state_and_event() -> None:
    legal = {("new", "start"): "running", ("running", "finish"): "done"}
    for state in TABLE.states:
        for event in TABLE.events:
            if (state, event) in legal:
                assert TABLE.target(state, event) == legal[state, event]
            else:
                with pytest.raises(IllegalTransition):
                    TABLE.target(state, event)
    assert TABLE.terminal == {"done"}
    assert TABLE.sources("finish") == ("running",)
    assert TABLE.target_of("start") == "running"


def test_an_ambiguous_table_is_refused() -> None:
    with pytest.raises(InvariantViolated):
        TransitionTable("bad", "a", (Transition("a", "go", "b"), Transition("a", "go", "c")))
