"""The scanner against bytes that nobody honest sends: every refusal names a type and an offset, and none costs much."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import pytest
from stellar_sdk import xdr

from devnet.stellar.network import LocalNetwork
from ingestion.errors import UnreadableLedger
from ingestion.stellar.scan.grammar import Enum, Fixed, Many, Option, Struct, Times, Union, load_grammar
from ingestion.stellar.scan.ledger import FAST, WALKED, patterns, scan_ledger, walker
from ingestion.stellar.scan.patterns import Patterns
from ingestion.stellar.scan.walk import DEPTH_MAX, Walker
from scripts import stellar_grammar
from tests.fakes.stellar_ledgers import BATCH, OLD, UNIFIED, real_ledger, sdk_body

NAME_AT = {"type", "offset", "reason"}


@pytest.fixture(scope="module")
def empty() -> bytes:
    """A ledger without transactions."""
    return LocalNetwork().close().to_xdr_bytes()


def refused(data: bytes, name: str = "LedgerCloseMeta") -> dict[str, object]:
    """What the refusal of this value says."""
    with pytest.raises(UnreadableLedger) as caught:
        walker().skip(name)(data, 0, DEPTH_MAX)
    assert set(caught.value.values) == NAME_AT
    return dict(caught.value.values)


def test_the_committed_grammar_is_that_of_the_installed_sdk() -> None:
    assert stellar_grammar.TARGET.read_text() == stellar_grammar.text()


def test_the_grammar_holds_the_versions_that_ledgers_come_in() -> None:
    grammar = load_grammar()
    ledger, meta = grammar["LedgerCloseMeta"], grammar["TransactionMeta"]
    assert isinstance(ledger, Union)
    assert isinstance(meta, Union)
    assert [value for value, _ in ledger.arms] == [0, 1, 2]
    assert [value for value, _ in meta.arms] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("number", [*UNIFIED, *OLD, BATCH])
def test_patterns_and_the_walk_end_at_the_same_byte(fixtures: Path, number: int) -> None:
    """The patterns only save time: without any of them the walk comes to the same end."""
    data = real_ledger(fixtures, number)
    plain = Walker(load_grammar(), patterns(), ())
    assert plain.skip("LedgerCloseMeta")(data, 0, DEPTH_MAX) == len(data)
    assert walker().skip("LedgerCloseMeta")(data, 0, DEPTH_MAX) == len(data)


def test_a_pattern_knows_no_value_that_the_walk_refuses(fixtures: Path) -> None:
    """Each value that a pattern takes is cut out of a real ledger and walked by the grammar alone."""
    data = real_ledger(fixtures, UNIFIED[2])
    plain = Walker(load_grammar(), patterns(), ())
    taken = dict.fromkeys(FAST, 0)
    for name in FAST:
        pattern = patterns().compiled(name)
        for at in range(0, 200_000, 4):
            found = pattern.match(data, at)
            if found is not None:
                assert plain.skip(name)(data, at, DEPTH_MAX) == found.end(), (name, at)
                taken[name] += 1
    assert min(taken.values()) > 0, taken


def test_an_unknown_discriminant_is_refused_by_name_and_offset() -> None:
    change = xdr.LedgerEntryChangeType.LEDGER_ENTRY_CREATED.to_xdr_bytes()
    assert refused(change[:3] + b"\x09", "LedgerEntryChange") == {
        "type": "LedgerEntryChange",
        "offset": 0,
        "reason": "knows no 9",
    }
    entry = change + bytes(4) + struct.pack(">i", 77)
    assert refused(entry, "LedgerEntryChange") == {
        "type": "LedgerEntry",
        "offset": 8,
        "reason": "knows no 77",
    }


def test_an_optional_that_is_neither_there_nor_absent_is_refused() -> None:
    assert refused(struct.pack(">I", 2), "SponsorshipDescriptor")["reason"] == "knows no 2"


def test_bytes_behind_the_end_are_refused(empty: bytes) -> None:
    with pytest.raises(UnreadableLedger) as caught:
        scan_ledger(empty + bytes(4))
    assert caught.value.values["offset"] == len(empty)


def test_every_place_to_cut_a_ledger_is_noticed(empty: bytes) -> None:
    for end in range(len(empty)):
        with pytest.raises(UnreadableLedger):
            scan_ledger(empty[:end])


@pytest.mark.parametrize("count", [0xFFFFFFFF, 0x7FFFFFFF, 1 << 20])
@pytest.mark.parametrize("name", ["LedgerEntryChanges", "SCVec", "SCBytes", "UpgradeType"])
def test_a_hostile_length_costs_nothing(count: int, name: str) -> None:
    data = struct.pack(">I", count) + bytes(64)
    tracemalloc.start()
    try:
        values = refused(data, name)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert values["offset"] == 0
    assert peak < 100_000


def test_more_items_than_the_type_allows_are_refused() -> None:
    signatures = struct.pack(">I", 21) + bytes(21 * 12)
    grammar = load_grammar()
    plain = Walker(grammar, patterns(), ())
    node = grammar["TransactionV1Envelope"]
    assert isinstance(node, Struct)
    with pytest.raises(UnreadableLedger) as caught:
        plain.build(node.fields[1], "signatures")(signatures, 0, DEPTH_MAX)
    assert "20 are allowed" in str(caught.value.values["reason"])


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("SCVal", struct.pack(">III", 16, 1, 1)),
        ("SCVal", struct.pack(">IIII", 17, 1, 1, 1)),
        ("ClaimPredicate", struct.pack(">II", 3, 1)),
        ("SorobanAuthorizedInvocation", bytes(52) + struct.pack(">I", 1)),
    ],
)
def test_nesting_without_end_is_refused_before_the_stack_is_used_up(name: str, level: bytes) -> None:
    assert refused(level * 100_000, name)["reason"] == "nested too deeply"


def test_values_as_deep_as_contracts_may_make_them_are_walked() -> None:
    value = xdr.SCVal(xdr.SCValType.SCV_VOID)
    for _ in range(100):
        row = xdr.SCMapEntry(xdr.SCVal(xdr.SCValType.SCV_VOID), value)
        value = xdr.SCVal(xdr.SCValType.SCV_MAP, map=xdr.SCMap([row]))
    data = value.to_xdr_bytes()
    assert walker().skip("SCVal")(data, 0, DEPTH_MAX) == len(data)


def test_types_without_a_pattern_say_so() -> None:
    with pytest.raises(ValueError, match="has no pattern"):
        Patterns(load_grammar(), WALKED).of("SorobanTransactionData")


def test_every_kind_of_type_is_in_the_grammar() -> None:
    """So every kind of skip and of pattern is one that real ledgers meet."""
    seen: set[type] = set()

    def visit(node: object) -> None:
        seen.add(type(node))
        match node:
            case Times(each, _) | Many(each, _) | Option(each):
                visit(each)
            case Struct(fields):
                for field in fields:
                    visit(field)
            case Union(arms):
                for _, arm in arms:
                    visit(arm)
            case _:
                return

    for node in load_grammar().values():
        visit(node)
    assert {Enum, Fixed, Many, Option, Struct, Times, Union} <= seen


@pytest.mark.parametrize("number", [*UNIFIED, *OLD, BATCH])
def test_envelopes_are_found_where_the_sdk_finds_them(fixtures: Path, number: int) -> None:
    data = real_ledger(fixtures, number)
    ledger = scan_ledger(data)
    tx_set = sdk_body(xdr.LedgerCloseMeta.from_xdr_bytes(data)).tx_set
    if isinstance(tx_set, xdr.TransactionSet):
        wanted = list(tx_set.txs)
    else:
        wanted = []
        for phase in tx_set.v1_tx_set.phases:
            for component in phase.v0_components or []:
                wanted += component.txs_maybe_discounted_fee.txs
            if phase.parallel_txs_component is not None:
                for stage in phase.parallel_txs_component.execution_stages:
                    for cluster in stage.parallel_tx_execution_stage:
                        wanted += cluster.dependent_tx_cluster
    assert [data[begin:end] for begin, end in ledger.envelopes] == [each.to_xdr_bytes() for each in wanted]
