"""Real pubnet ledgers: our movements and balance changes equal those of two independent oracles, on every transaction."""

from __future__ import annotations

import base64
import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from stellar_sdk import Network, StrKey, xdr

from custody.kernel.assetid import ChainId
from ingestion.errors import BrokenHashChain, MetaWithoutEvents
from ingestion.stellar.movements import EventReader, TokenEvent, sum_changes, sum_events
from ingestion.stellar.normalize import normalize, open_ledger, transaction_parts

FIXTURES = Path(
    os.environ.get("CUSTODY_FIXTURES", Path(__file__).resolve().parents[3] / "shared" / "fixtures")
)
PUBNET = FIXTURES / "stellar" / "pubnet"
LEDGERS = (51000294, 63092988, 63092990)


def _shown(event: TokenEvent) -> dict[str, Any]:
    addresses = [each for each in (event.source, event.destination) if each]
    shown: dict[str, Any] = {
        "op_index": event.op_index,
        "type": event.kind,
        "contract": event.contract,
        "asset": event.asset,
        "addresses": addresses,
        "amount": str(event.amount),
    }
    if event.tag is not None:
        shown["to_muxed"] = {"id": str(event.tag)}
    elif event.memo:
        kind, _, words = event.memo.partition(":")
        shown["to_muxed"] = {"bytes" if kind == "hash" else kind: words}
    return shown


def _address(holder: str) -> str:
    """The expected file names pools and claimable balances by a letter and their hash in hex."""
    match holder[0], len(holder):
        case "L", 65:
            return StrKey.encode_liquidity_pool(bytes.fromhex(holder[1:]))
        case "B", 65:
            return StrKey.encode_claimable_balance(bytes(1) + bytes.fromhex(holder[1:]))
        case _:
            return holder


def _read(number: int) -> tuple[xdr.LedgerCloseMeta, list[dict[str, Any]]]:
    source = PUBNET / f"ledger-{number}.xdr.gz"
    if not source.exists():
        pytest.skip(f"the real ledgers are not at {PUBNET}; set CUSTODY_FIXTURES")
    expected = json.loads(gzip.decompress((PUBNET / f"ledger-{number}.expected.json.gz").read_bytes()))
    return open_ledger(gzip.decompress(source.read_bytes())), expected["txs"]


@pytest.mark.parametrize("number", LEDGERS)
def test_every_transaction_of_a_real_ledger_equals_both_oracles(number: int) -> None:
    meta, expected = _read(number)
    reader = EventReader(Network.PUBLIC_NETWORK_PASSPHRASE)
    parts = transaction_parts(meta)
    assert len(parts) == len(expected)
    for part, wanted in zip(parts, expected, strict=True):
        assert part.tx_hash == wanted["hash"]
        events = reader.read(part.meta)
        assert [_shown(event) for event in events] == wanted["events"], part.tx_hash
        deltas = {(_address(holder), asset): change for holder, asset, change in wanted["balance_deltas"]}
        assert sum_changes(part.changes) == deltas, part.tx_hash
        assert sum_events(events) == deltas, part.tx_hash


@pytest.mark.parametrize("number", LEDGERS)
def test_a_real_ledger_becomes_proved_facts_with_every_sender_found(number: int) -> None:
    meta, expected = _read(number)
    passphrase = Network.PUBLIC_NETWORK_PASSPHRASE
    facts = normalize(meta.to_xdr_bytes(), ChainId("stellar:pubnet"), passphrase, EventReader(passphrase))
    assert facts.ref.height == number
    assert facts.discrepancies == ()
    assert {each.carrier_hash for each in facts.transactions} == {wanted["hash"] for wanted in expected}
    arrivals = [
        event for wanted in expected for event in wanted["events"] if event["type"] in ("transfer", "mint")
    ]
    assert [str(each.amount) for each in facts.movements] == [
        event["amount"] for event in arrivals if event["amount"] != "0"
    ]


def test_a_ledger_whose_header_was_changed_is_refused() -> None:
    meta, _ = _read(LEDGERS[0])
    passphrase = Network.PUBLIC_NETWORK_PASSPHRASE
    data = bytearray(meta.to_xdr_bytes())
    position = bytes(data).index(meta.v1.ledger_header.header.previous_ledger_hash.hash)
    data[position] ^= 1
    with pytest.raises(BrokenHashChain):
        normalize(bytes(data), ChainId("stellar:pubnet"), passphrase, EventReader(passphrase))


def test_old_ledgers_without_events_are_refused_by_name_and_an_empty_one_is_not() -> None:
    source = PUBNET / "ledgers-v0-base64.txt.gz"
    if not source.exists():
        pytest.skip(f"the real ledgers are not at {PUBNET}; set CUSTODY_FIXTURES")
    passphrase = Network.PUBLIC_NETWORK_PASSPHRASE
    refused, read = [], []
    for line in gzip.decompress(source.read_bytes()).decode().split():
        try:
            facts = normalize(
                base64.b64decode(line), ChainId("stellar:pubnet"), passphrase, EventReader(passphrase)
            )
        except MetaWithoutEvents as error:
            refused.append(error.values["height"])
        else:
            read.append((facts.ref.height, facts.movements))
    assert read == [(6154623, ())]
    assert len(refused) == 4
