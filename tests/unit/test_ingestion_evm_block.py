"""A real mainnet block: our ERC-20 transfers equal those of an independent extractor, and fees agree with the receipts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from custody.chains.errors import RpcUnreadable
from custody.chains.evm.address import ZERO, checksum
from custody.kernel.assetid import ChainId
from ingestion.evm.normalize import (
    TokenTransfer,
    block_ref,
    named_accounts,
    normalize,
    relevant_hashes,
    token_transfers,
)

MAINNET = ChainId("eip155:1")


@pytest.fixture(scope="module")
def recorded(fixtures: Path) -> dict[str, Any]:
    """The block, its receipts, and what they should come to."""
    source = fixtures / "evm" / "mainnet-17173049.json.gz"
    if not source.exists():
        pytest.skip(f"the real block is not at {source}")
    return json.loads(gzip.decompress(source.read_bytes()))


def _logs(recorded: dict[str, Any]) -> list[dict[str, Any]]:
    return [log for receipt in recorded["receipts"] for log in receipt["logs"]]


def _transfers(recorded: dict[str, Any]) -> list[TokenTransfer]:
    return token_transfers(_logs(recorded))


def _fungible(recorded: dict[str, Any]) -> list[dict[str, Any]]:
    """The extractor counts ERC-721 transfers too, whose logs have a fourth topic; all the others are ERC-20."""
    topics = {int(log["logIndex"], 16): len(log["topics"]) for log in _logs(recorded)}
    return [each for each in recorded["expected_erc20_transfers"] if topics[each["log_index"]] == 3]


def _receipts(recorded: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["transactionHash"]: each for each in recorded["receipts"]}


def test_the_transfers_of_a_real_block_are_those_that_an_independent_extractor_found(
    recorded: dict[str, Any],
) -> None:
    ours = [
        {
            "token_address": each.contract,
            "from_address": each.source,
            "to_address": each.destination,
            "value": each.amount,
            "transaction_hash": each.tx_hash,
            "log_index": each.log_index,
        }
        for each in token_transfers(_logs(recorded))
    ]
    assert ours == _fungible(recorded)
    assert len(ours) > 100


def test_when_every_account_is_ours_every_movement_of_the_block_is_seen(recorded: dict[str, Any]) -> None:
    block, receipts = recorded["block"], _receipts(recorded)
    everybody = named_accounts(block, _transfers(recorded))
    facts = normalize(MAINNET, block, receipts, everybody)
    assert facts.ref == block_ref(block)
    native = [each for each in facts.movements if each.asset.is_native]
    paid = [
        (tx["hash"], int(tx["value"], 16))
        for tx in block["transactions"]
        if int(tx["value"], 16) and receipts[tx["hash"]]["status"] == "0x1"
    ]
    assert [(each.tx_hash, each.amount) for each in native] == paid
    tokens = [each for each in facts.movements if not each.asset.is_native]
    expected = [each["value"] for each in _fungible(recorded) if each["value"] and each["to_address"] != ZERO]
    assert sorted(each.amount for each in tokens) == sorted(expected)
    places = [(each.tx_hash, each.ordinal) for each in facts.movements]
    assert len(set(places)) == len(places)
    fees = {each.tx_hash: each.fee_atomic for each in facts.transactions}
    assert fees == {
        tx_hash: int(receipt["gasUsed"], 16) * int(receipt["effectiveGasPrice"], 16)
        for tx_hash, receipt in receipts.items()
    }


def test_only_transactions_that_touch_us_need_their_receipts(recorded: dict[str, Any]) -> None:
    transfer = recorded["expected_erc20_transfers"][5]
    ours = frozenset({checksum(transfer["to_address"])})
    wanted = relevant_hashes(recorded["block"], _transfers(recorded), ours)
    assert transfer["transaction_hash"] in wanted
    assert len(wanted) < len(recorded["receipts"])
    receipts = {tx_hash: _receipts(recorded)[tx_hash] for tx_hash in wanted}
    facts = normalize(MAINNET, recorded["block"], receipts, ours)
    assert transfer["value"] in {each.amount for each in facts.movements}
    assert {each.account for each in facts.movements} == ours


def test_nothing_is_seen_where_nobody_is_ours(recorded: dict[str, Any]) -> None:
    nobody = frozenset({checksum("0x" + "12" * 20)})
    assert relevant_hashes(recorded["block"], _transfers(recorded), nobody) == []
    facts = normalize(MAINNET, recorded["block"], {}, nobody)
    assert (facts.movements, facts.transactions, facts.departures) == ((), (), ())


def test_a_receipt_of_another_block_is_refused(recorded: dict[str, Any]) -> None:
    receipt = {**recorded["receipts"][0], "blockHash": "0x" + "00" * 32}
    everybody = named_accounts(recorded["block"], [])
    with pytest.raises(RpcUnreadable):
        normalize(MAINNET, recorded["block"], {receipt["transactionHash"]: receipt}, everybody)


def test_a_receipt_of_another_transaction_is_refused(recorded: dict[str, Any]) -> None:
    """A node that mixes up its answers must not decide whether our own transaction succeeded."""
    first, second = recorded["receipts"][:2]
    everybody = named_accounts(recorded["block"], [])
    with pytest.raises(RpcUnreadable):
        normalize(MAINNET, recorded["block"], {first["transactionHash"]: second}, everybody)
