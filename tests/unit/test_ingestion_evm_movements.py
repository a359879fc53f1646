"""Parts of a block that no anvil makes: withdrawals, fees of rollups and blobs, doubled events, failed frames, poisoning."""

from __future__ import annotations

from typing import Any

import pytest

from custody.chains.evm.abi import DEPOSIT_TOPIC, TRANSFER_TOPIC
from custody.chains.evm.address import ZERO, checksum
from custody.kernel.assetid import ChainId
from custody.settings import ChainSettings
from ingestion.errors import InconsistentNode
from ingestion.evm.encoding import encode_receipt, encode_transaction
from ingestion.evm.inner import of_frames, of_traces
from ingestion.evm.normalize import hinted_accounts, normalize, token_transfers

CHAIN = ChainId("eip155:10")
ADA, BEN = "0x" + "a1" * 20, "0x" + "b2" * 20
TOKEN = "0x" + "c3" * 20
TX = "0x" + "01" * 32
BLOCK_HASH = "0x" + "02" * 32
OURS = frozenset({checksum(ADA)})


def block(*, withdrawals: list[dict[str, str]] | None = None, **tx: Any) -> dict[str, Any]:
    sent = {"hash": TX, "from": ADA, "to": BEN, "value": "0x0", "nonce": "0x3", "input": "0x", **tx}
    return {
        "number": "0x7",
        "hash": BLOCK_HASH,
        "parentHash": "0x" + "03" * 32,
        "timestamp": "0x6450ffef",
        "transactions": [sent],
        "withdrawals": withdrawals or [],
    }


def receipt(**more: Any) -> dict[str, Any]:
    return {
        "blockHash": BLOCK_HASH,
        "transactionHash": TX,
        "status": "0x1",
        "gasUsed": "0x64",
        "effectiveGasPrice": "0x5",
        "logs": [],
        **more,
    }


def log(index: int, contract: str, *topics: str, amount: int = 9) -> dict[str, Any]:
    return {
        "address": contract,
        "topics": [topics[0], *("0x" + "00" * 12 + each[2:] for each in topics[1:])],
        "data": f"0x{amount:064x}",
        "logIndex": hex(index),
        "transactionHash": TX,
    }


@pytest.mark.parametrize(
    ("more", "fee"),
    [
        ({}, 500),
        ({"l1Fee": "0x3e8"}, 1_500),
        ({"l1Fee": None}, 500),
        ({"gasUsedForL1": "0x32"}, 500),
        ({"blobGasUsed": "0x20000", "blobGasPrice": "0x2"}, 500 + 2 * 131_072),
        ({"status": "0x0"}, 500),
    ],
    ids=["gas", "OP Stack", "OP Stack deposit", "Arbitrum", "blobs", "failed"],
)
def test_a_sender_pays_gas_and_what_its_chain_adds(more: dict[str, Any], fee: int) -> None:
    facts = normalize(CHAIN, block(value="0x9"), {TX: receipt(**more)}, OURS)
    assert [each.fee_atomic for each in facts.transactions] == [fee]
    failed = more.get("status") == "0x0"
    assert [each.amount for each in facts.departures] == ([] if failed else [9])


def test_a_withdrawal_of_the_beacon_chain_is_an_arrival_in_wei_at_its_own_number() -> None:
    withdrawal = {"index": "0x2a", "validatorIndex": "0x1", "address": ADA, "amount": "0x3"}
    other = {**withdrawal, "index": "0x2b", "address": BEN}
    facts = normalize(CHAIN, block(withdrawals=[withdrawal, other]), {}, OURS)
    (found,) = facts.movements
    assert (found.tx_hash, found.ordinal, found.amount, found.source) == ("withdrawal:42", 0, 3 * 10**9, "")


def test_wrapped_ether_that_says_the_same_twice_counts_once() -> None:
    logs = [log(4, TOKEN, TRANSFER_TOPIC, ZERO, ADA), log(5, TOKEN, DEPOSIT_TOPIC, ADA)]
    assert [each.log_index for each in token_transfers(logs, frozenset({TOKEN}))] == [4]
    assert [each.log_index for each in token_transfers(logs[1:], frozenset({TOKEN}))] == [5]
    assert token_transfers(logs[1:]) == []


def test_a_transfer_of_nothing_makes_nobody_known() -> None:
    """Address poisoning: a look-alike sends zero, or has zero sent in our name."""
    logs = [
        log(0, TOKEN, TRANSFER_TOPIC, BEN, ADA, amount=0),
        log(1, TOKEN, TRANSFER_TOPIC, ADA, BEN, amount=0),
    ]
    facts = normalize(CHAIN, block(**{"from": BEN, "to": TOKEN}), {TX: receipt(logs=logs)}, OURS)
    assert (facts.movements, facts.departures, facts.transactions) == ((), (), ())


def test_logs_of_other_shapes_are_no_transfers() -> None:
    fourth = log(0, TOKEN, TRANSFER_TOPIC, ADA, BEN, BEN)
    unindexed = {**log(1, TOKEN, TRANSFER_TOPIC), "data": "0x" + "00" * 96}
    anonymous = {**log(2, TOKEN, TRANSFER_TOPIC), "topics": []}
    assert token_transfers([fourth, unindexed, anonymous]) == []


def test_addresses_in_call_data_and_topics_are_asked_about_and_numbers_are_not() -> None:
    data = "0x12345678" + "00" * 12 + ADA[2:] + f"{500:064x}" + "ff" * 32
    named = hinted_accounts(block(input=data), [log(0, TOKEN, "0x" + "ee" * 32, BEN)])
    assert named == {checksum(ADA), checksum(BEN)}


def frame(kind: str, to: str, value: int, *calls: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": kind, "from": BEN, "to": to, "value": hex(value), "calls": list(calls), **more}


def test_frames_that_failed_or_only_borrow_code_move_nothing() -> None:
    top = frame(
        "CALL",
        BEN,
        100,
        frame("CALL", ADA, 1),
        frame("DELEGATECALL", TOKEN, 100, frame("CALL", ADA, 2)),
        frame("CALL", TOKEN, 3, frame("CALL", ADA, 4), error="execution reverted"),
        frame("STATICCALL", TOKEN, 0),
        frame("CREATE2", TOKEN, 5),
        frame("SELFDESTRUCT", ADA, 6),
    )
    found = of_frames(block(), [{"txHash": TX, "result": top}])
    assert [(each.place, each.destination, each.amount) for each in found] == [
        (0, ADA, 1),
        (1, ADA, 2),
        (2, TOKEN, 5),
        (3, ADA, 6),
    ]
    assert of_frames(block(), [{"txHash": TX, "result": {**top, "error": "out of gas"}}]) == []


def test_traces_of_another_block_or_of_other_transactions_are_refused() -> None:
    with pytest.raises(InconsistentNode):
        of_frames(block(), [])
    with pytest.raises(InconsistentNode):
        of_frames(block(), [{"txHash": "0x" + "09" * 32, "result": frame("CALL", ADA, 1)}])
    with pytest.raises(InconsistentNode):
        of_traces(block(), [])
    strange = {"blockHash": "0x" + "09" * 32, "transactionHash": TX, "traceAddress": [], "type": "call"}
    with pytest.raises(InconsistentNode):
        of_traces(block(), [strange])


def test_a_deposit_of_the_op_stack_is_encoded_with_its_nonce_from_canyon_on() -> None:
    plain = {
        "type": "0x7e",
        "status": "0x1",
        "cumulativeGasUsed": "0x64",
        "logs": [],
        "depositNonce": "0x5",
    }
    regolith = encode_receipt(plain)
    canyon = encode_receipt({**plain, "depositReceiptVersion": "0x1"})
    assert (regolith[0], canyon[0]) == (0x7E, 0x7E)
    assert (canyon[-2:], len(canyon) - len(regolith)) == (b"\x05\x01", 2)
    deposit = {
        "type": "0x7e",
        "sourceHash": "0x" + "11" * 32,
        "from": ADA,
        "to": BEN,
        "mint": None,
        "value": "0x0",
        "gas": "0xf4240",
        "input": "0x",
    }
    assert encode_transaction(deposit)[0] == 0x7E


@pytest.mark.parametrize(
    "more",
    [
        {"unprovable_blocks": "tell"},
        {"inner_value": "debug"},
        {"inner_value_from": 5},
        {"wrapped_native": [ADA]},
    ],
    ids=lambda each: next(iter(each)),
)
def test_a_stellar_chain_takes_no_setting_of_evm_blocks(more: dict[str, Any]) -> None:
    stellar = {
        "id": "stellar:devnet",
        "kind": "stellar",
        "rpc_url": "http://127.0.0.1:1",
        "network_passphrase": "Test",
        "confirmations": 0,
        "max_fee_stroops": 1_000,
        "tx_valid_s": 60,
        "tx_valid_ledgers": 20,
    }
    assert ChainSettings.model_validate(stellar).kind == "stellar"
    with pytest.raises(ValueError, match="none of the other"):
        ChainSettings.model_validate({**stellar, **more})
