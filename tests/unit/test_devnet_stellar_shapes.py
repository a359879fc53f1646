"""Transactions of the development network have the shape of real ones: which changes, in which phase, which events."""

import gzip
from typing import TypeAlias

import pytest
from stellar_sdk import (
    Asset,
    ChangeTrust,
    Claimant,
    ClaimClaimableBalance,
    CreateClaimableBalance,
    Payment,
    TextMemo,
    xdr,
)

from tests.unit.test_devnet_stellar_proof import PUBNET, Mix, created_balances

Shape: TypeAlias = tuple[object, ...]
APPLIED_HERE = {
    xdr.OperationType.PAYMENT,
    xdr.OperationType.CREATE_ACCOUNT,
    xdr.OperationType.CREATE_CLAIMABLE_BALANCE,
    xdr.OperationType.CLAIM_CLAIMABLE_BALANCE,
    xdr.OperationType.CHANGE_TRUST,
}
SPONSORSHIP = xdr.OperationType.BEGIN_SPONSORING_FUTURE_RESERVES
"""Not applied here; a sponsored entry also writes its sponsor, so such transactions are left out."""


def operation_shapes(meta: xdr.LedgerCloseMeta) -> set[Shape]:
    """Shape of every successful operation of a kind that this network knows."""
    shapes: set[Shape] = set()
    for processed in _transactions(meta):
        result = processed.result.result.result
        pair = result.inner_result_pair
        results = (result.results if pair is None else pair.result.result.results) or []
        if any(o.tr is not None and o.tr.type == SPONSORSHIP for o in results):
            continue
        body = processed.tx_apply_processing.v4
        for outcome, operation in zip(results, body.operations, strict=False):
            if outcome.tr is not None and outcome.tr.type in APPLIED_HERE:
                events = tuple(_event_shape(event) for event in operation.events)
                shapes.add((outcome.tr.type.name, _changes_shape(operation.changes), events))
    return shapes


def transaction_shapes(meta: xdr.LedgerCloseMeta) -> set[Shape]:
    """Shape of what surrounds the operations, by result code: fee, sequence, and the fee's event."""
    shapes: set[Shape] = set()
    for processed in _transactions(meta):
        body = processed.tx_apply_processing.v4
        if body.soroban_meta is not None:
            continue
        shapes.add(
            (
                processed.result.result.result.code.name,
                _changes_shape(processed.fee_processing),
                _changes_shape(body.tx_changes_before),
                _changes_shape(body.tx_changes_after),
                tuple((e.stage.name, _event_shape(e.event)) for e in body.events),
                bool(body.operations),
                len(body.diagnostic_events),
            )
        )
    return shapes


def _transactions(meta: xdr.LedgerCloseMeta) -> list[xdr.TransactionResultMetaV1]:
    return (meta.v2 or meta.v1).tx_processing


def _changes_shape(changes: xdr.LedgerEntryChanges) -> Shape:
    """Kinds of change by kind of entry. Core's own order within an operation follows a hash, so order is left out."""
    rows: list[tuple[str, str]] = []
    pending: str | None = None
    for change in changes.ledger_entry_changes:
        kind = change.type.name.removeprefix("LEDGER_ENTRY_")
        if change.state is not None:
            pending = kind
            continue
        entry = change.created or change.updated
        name = change.removed.type.name if entry is None else entry.data.type.name
        rows.append((name, kind if pending is None else f"{pending}+{kind}"))
        pending = None
    assert pending is None
    return tuple(sorted(rows))


def _event_shape(event: xdr.ContractEvent) -> Shape:
    body = event.body.v0
    topics = tuple(t.address.type.name if t.address is not None else t.type.name for t in body.topics)
    fields = (
        ()
        if body.data.map is None
        else tuple((e.key.sym.sc_symbol, e.val.type.name) for e in body.data.map.sc_map)
    )
    return (body.topics[0].sym.sc_symbol, topics, body.data.type.name, fields)


@pytest.fixture(scope="module")
def ours() -> list[xdr.LedgerCloseMeta]:
    mix = Mix(11)
    for _ in range(40):
        mix.round()
    # What the dice need not hit: a mint with a text memo, a line opened and closed, a claim from somebody else.
    person, issuer, euro = mix.people[0], mix.open_issuer, Asset("EURC", mix.open_issuer.public_key)
    set_aside = CreateClaimableBalance(euro, "1", [Claimant(person.public_key), Claimant(issuer.public_key)])
    back = [Payment(issuer.public_key, euro, "2"), ChangeTrust(euro, "0")]
    mix.metas += [
        mix.alone(person, ChangeTrust(euro)),
        mix.alone(issuer, Payment(person.public_key, euro, "1"), memo=TextMemo("gruß")),
        mix.alone(issuer, set_aside),
    ]
    claim = ClaimClaimableBalance(created_balances(mix.metas[-1])[0])
    mix.metas += [mix.alone(person, claim), *(mix.alone(person, operation) for operation in back)]
    return mix.metas


@pytest.mark.parametrize("ledger", [63092988, 63092990, 51000294])
def test_real_shapes_are_among_ours(ours: list[xdr.LedgerCloseMeta], ledger: int) -> None:
    path = PUBNET / "stellar" / "pubnet" / f"ledger-{ledger}.xdr.gz"
    if not path.exists():
        pytest.skip(f"real ledger {path.name} is not here (set CUSTODY_FIXTURES)")
    real = xdr.LedgerCloseMeta.from_xdr_bytes(gzip.decompress(path.read_bytes()))
    transactions = set().union(*(transaction_shapes(meta) for meta in ours))
    operations = set().union(*(operation_shapes(meta) for meta in ours))
    assert transaction_shapes(real) <= transactions
    assert operation_shapes(real) <= operations
