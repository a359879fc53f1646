"""Blocks of a real node, with transactions of every type that it takes, are proved; whatever is altered in them is named."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from eth_account import Account

from devnet.anvil import CHAIN_ID
from devnet.evm import Outsider
from ingestion.evm.encoding import bloom_bits
from ingestion.evm.errors import ForgedBlock
from ingestion.evm.normalize import READ_TOPICS
from ingestion.evm.prove import may_hold, prove_block, prove_receipts
from tests.fakes.contracts import call_data, deploy, invoke
from tests.integration.anvil_node import run_anvil

pytestmark = pytest.mark.stack
KEY = "0x" + "5a" * 32
OTHER = "0x" + "6b" * 32
RECEIVER = "0x" + "12" * 20
TWO_LOGS = "0x" + "5f5fa0" * 2 + "5f5ff3"
"""A creation that logs twice (PUSH0 PUSH0 LOG0), and leaves no code (PUSH0 PUSH0 RETURN)."""
Block = dict[str, Any]
FEES = {"maxFeePerGas": 10**10, "maxPriorityFeePerGas": 10**9}


def transactions(token: str) -> list[dict[str, Any]]:
    """One of each type but blobs, and a creation."""
    listed = [{"address": token, "storageKeys": ["0x" + "00" * 32]}]
    mint = call_data("mint(address,uint256)", RECEIVER, 700)
    delegation = Account.sign_authorization({"chainId": CHAIN_ID, "address": token, "nonce": 0}, OTHER)
    bare = {"chainId": CHAIN_ID, "gas": 300_000, "value": 0}
    return [
        {**bare, "gasPrice": 10**10, "to": RECEIVER, "value": 5},
        {**bare, "gasPrice": 10**10, "to": token, "data": mint, "accessList": listed, "type": 1},
        {**bare, **FEES, "to": token, "data": mint, "accessList": listed, "type": 2},
        {**bare, **FEES, "to": RECEIVER, "authorizationList": [delegation], "type": 4},
        {**bare, **FEES, "data": TWO_LOGS, "type": 2},
    ]


async def record(url: str) -> tuple[Block, list[Block]]:
    """A block with all of them."""
    async with Outsider(url) as outsider:
        token = await deploy(outsider, "Token")
        sender = Account.from_key(KEY)
        await outsider.send_ether(sender.address, 10**18)
        await outsider.call("evm_setAutomine", False)
        for nonce, each in enumerate(transactions(token)):
            signed = sender.sign_transaction({**each, "nonce": nonce})
            await outsider.call("eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex())
        await outsider.mine()
        block = await outsider.call("eth_getBlockByNumber", "latest", True)
        receipts = await outsider.call("eth_getBlockReceipts", block["hash"])
    assert [int(each["type"], 16) for each in block["transactions"]] == [0, 1, 2, 4, 2]
    return block, receipts


@pytest.fixture(scope="module")
async def recorded() -> tuple[Block, list[Block]]:
    """Taken from the node once."""
    async with run_anvil() as url:
        return await record(url)


def test_every_type_of_transaction_and_receipt_is_proved(recorded: tuple[Block, list[Block]]) -> None:
    block, receipts = recorded
    assert prove_block(block) == []
    assert prove_receipts(block, receipts) == []
    wanted = [bloom_bits(each) for each in READ_TOPICS]
    assert may_hold(block, wanted)
    assert not may_hold({**block, "logsBloom": "0x" + "00" * 256}, wanted)


async def test_a_block_of_many_transactions_is_proved() -> None:
    """More than 128 items: their keys in the trie are of two lengths."""
    async with run_anvil() as url, Outsider(url) as outsider:
        payer = await deploy(outsider, "Payer")
        await outsider.call("evm_setAutomine", False)
        sender = await outsider.address()
        for _ in range(150):
            await outsider.call("eth_sendTransaction", {"from": sender, "to": payer, "value": "0x1"})
        await outsider.mine()
        block = await outsider.call("eth_getBlockByNumber", "latest", True)
        receipts = await outsider.call("eth_getBlockReceipts", block["hash"])
        assert len(receipts) == 150
        assert (prove_block(block), prove_receipts(block, receipts)) == ([], [])
        await outsider.call("evm_setAutomine", True)
        empty = await outsider.call("eth_getBlockByNumber", hex((await _mined(outsider)).height), True)
        assert prove_block(empty) == []


async def _mined(outsider: Outsider) -> Any:
    token = await deploy(outsider, "Token")
    return await invoke(outsider, token, "mint(address,uint256)", RECEIVER, 1)


def set_field(name: str, value: Any) -> Callable[[Block], None]:
    return lambda block: block.update({name: value})


def set_of_tx(name: str, value: Any) -> Callable[[Block], None]:
    return lambda block: block["transactions"][0].update({name: value})


LIES: list[tuple[str, Callable[[Block], None], str]] = [
    ("time", set_field("timestamp", "0x1"), "header hash"),
    ("parent", set_field("parentHash", "0x" + "22" * 32), "header hash"),
    ("number", set_field("number", "0x99"), "header hash"),
    ("bloom", set_field("logsBloom", "0x" + "00" * 256), "header hash"),
    ("receipts root", set_field("receiptsRoot", "0x" + "22" * 32), "header hash"),
    ("withdrawals root", set_field("withdrawalsRoot", "0x" + "22" * 32), "header hash"),
    ("value", set_of_tx("value", "0x6"), "transactions root"),
    ("receiver", set_of_tx("to", "0x" + "13" * 20), "transactions root"),
    ("tx hash", set_of_tx("hash", "0x" + "22" * 32), "transaction hash"),
    ("left out", lambda block: block["transactions"].pop(), "transactions root"),
    (
        "withdrawal",
        lambda block: block["withdrawals"].append(
            {"index": "0x1", "validatorIndex": "0x2", "address": RECEIVER, "amount": "0x3"}
        ),
        "withdrawals root",
    ),
    ("no number", set_of_tx("value", "lots"), "unreadable: ValueError"),
    (
        "name of another case",
        lambda block: block["transactions"][0].update(hash="0Y" + _digits(block)),
        "transaction hash",
    ),
    (
        "digits apart",
        lambda block: block["transactions"][1].update(input=_apart(block)),
        "unreadable: ValueError",
    ),
]


def _digits(block: Block) -> str:
    return str(block["transactions"][0]["hash"][2:])


def _apart(block: Block) -> str:
    """The same bytes with a space between them."""
    data = block["transactions"][1]["input"]
    return str(data[:10] + "  " + data[10:])


def of_log(**changes: Any) -> Callable[[list[Block]], None]:
    """Alter the first log of the second receipt."""
    return lambda receipts: receipts[1]["logs"][0].update(changes)


def of_topic(change: Callable[[str], str]) -> Callable[[list[Block]], None]:
    """Alter how its first topic is written."""

    def alter(receipts: list[Block]) -> None:
        topics = receipts[1]["logs"][0]["topics"]
        topics[0] = change(topics[0])

    return alter


def second_place(receipts: list[Block]) -> None:
    """Two logs in one receipt, the second under a number that is not its own."""
    receipts[4]["logs"][1]["logIndex"] = "0x9"


LIES_OF_RECEIPTS: list[tuple[str, Callable[[list[Block]], None], str]] = [
    # What the receipts root does not hold, or holds in another spelling: each would hide a payment or give it a second name.
    ("log of another transaction", of_log(transactionHash="0x" + "22" * 32), "logs of another transaction"),
    ("place of a log", second_place, "places of logs"),
    ("capital topic", of_topic(lambda topic: "0x" + topic[2:].upper()), "unreadable receipts: ValueError"),
    ("capital prefix", of_topic(lambda topic: "0X" + topic[2:]), "unreadable receipts: ValueError"),
    ("short topic", of_topic(lambda topic: topic[:-2]), "receipts root"),
    ("no address", of_log(address="0x"), "receipts root"),
]


@pytest.mark.parametrize(
    ("lie", "what"), [each[1:] for each in LIES_OF_RECEIPTS], ids=[each[0] for each in LIES_OF_RECEIPTS]
)
def test_altered_receipts_are_refused_by_name(
    recorded: tuple[Block, list[Block]], lie: Callable[[list[Block]], None], what: str
) -> None:
    block, receipts = copy.deepcopy(recorded)
    lie(receipts)
    with pytest.raises(ForgedBlock) as caught:
        prove_receipts(block, receipts)
    assert caught.value.values["what"] == what


@pytest.mark.parametrize(("lie", "what"), [each[1:] for each in LIES], ids=[each[0] for each in LIES])
def test_an_altered_block_is_refused_by_name(
    recorded: tuple[Block, list[Block]], lie: Callable[[Block], None], what: str
) -> None:
    forged = copy.deepcopy(recorded[0])
    lie(forged)
    with pytest.raises(ForgedBlock) as caught:
        prove_block(forged)
    assert caught.value.values["what"] == what


def test_a_header_of_a_later_fork_is_unproved_and_not_a_lie(recorded: tuple[Block, list[Block]]) -> None:
    later = {**recorded[0], "hash": "0x" + "33" * 32, "slotNumber": "0x7"}
    assert prove_block(later) == ["a header that may hold slotNumber"]


def test_fields_beside_the_header_do_not_matter(recorded: tuple[Block, list[Block]]) -> None:
    assert prove_block({**recorded[0], "totalDifficulty": "0x1", "l1BlockNumber": "0x5"}) == []


def test_a_field_that_is_taken_away_is_told(recorded: tuple[Block, list[Block]]) -> None:
    poorer = {name: value for name, value in recorded[0].items() if name != "mixHash"}
    assert prove_block(poorer) == ["a header without mixHash"]
