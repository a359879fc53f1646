"""A real mainnet block behind a real JSON-RPC server: what it moved is what others found in it, and no lie about it passes.

The recorded block lacks three things that its hashes cover (mixHash, signatures, withdrawals): its header and transactions cannot
be proved, its receipts and logs are. A header that can be proved is altered in test_ingestion_evm_proofs.
"""

from __future__ import annotations

import copy
import gzip
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from custody.chains.errors import RpcRefused
from custody.chains.evm.address import ZERO
from custody.chains.jsonrpc import JsonRpc
from custody.kernel.assetid import ChainId
from ingestion.errors import InconsistentNode
from ingestion.evm.errors import ForgedBlock, UnprovableBlock
from ingestion.evm.sources import Means, RpcBlocks
from ingestion.model import BlockFacts
from tests.fakes.rpc_node import RpcNode, run_node

HEIGHT = 17173049
Record = dict[str, Any]


@pytest.fixture(scope="module")
def recorded(fixtures: Path) -> Record:
    """The block, its receipts, and what they should come to."""
    source = fixtures / "evm" / f"mainnet-{HEIGHT}.json.gz"
    if not source.exists():
        pytest.skip(f"the real block is not at {source}")
    return json.loads(gzip.decompress(source.read_bytes()))


@pytest.fixture
async def node() -> AsyncIterator[RpcNode]:
    """A server without answers."""
    async with run_node() as running:
        yield running


async def everybody(accounts: frozenset[str]) -> frozenset[str]:
    """Whoever is asked for is ours."""
    return accounts


def replay(node: RpcNode, recorded: Record, *, whole_receipts: bool = True) -> None:
    """Serve the recorded block; no state is had, as from a node without an archive."""
    receipts = {each["transactionHash"]: each for each in recorded["receipts"]}
    node.result("eth_getBlockByNumber", recorded["block"])
    node.answers["eth_getTransactionReceipt"] = lambda params: {"result": receipts.get(params[0])}
    for method in ("eth_getBalance", "eth_call", "eth_getStorageAt"):
        node.error(method, "missing trie node")
    if whole_receipts:
        node.result("eth_getBlockReceipts", recorded["receipts"])
    else:
        node.error("eth_getBlockReceipts", "the method does not exist", -32601)


async def fetch(node: RpcNode, how: str = "tell") -> BlockFacts:
    means = Means(unprovable_blocks="tell" if how == "tell" else "refuse")
    source = RpcBlocks(ChainId("eip155:1"), JsonRpc(node.url), 1, everybody, means=means)
    try:
        (facts,) = await source.fetch(HEIGHT, HEIGHT)
    finally:
        await source.aclose()
    return facts


@pytest.mark.parametrize("whole_receipts", [True, False], ids=["whole receipts", "one by one"])
async def test_a_real_block_moves_what_an_independent_extractor_found(
    node: RpcNode, recorded: Record, whole_receipts: bool
) -> None:
    replay(node, recorded, whole_receipts=whole_receipts)
    facts = await fetch(node)
    topics = {
        int(log["logIndex"], 16): len(log["topics"]) for each in recorded["receipts"] for log in each["logs"]
    }
    expected = [
        (
            each["transaction_hash"],
            each["token_address"],
            each["from_address"],
            each["to_address"],
            each["value"],
        )
        for each in recorded["expected_erc20_transfers"]
        if topics[each["log_index"]] == 3 and each["value"] and each["to_address"] != ZERO
    ]
    assert [
        (
            each.tx_hash,
            each.asset.reference.partition(":")[2].lower(),
            each.source.lower() or ZERO,
            each.account.lower(),
            each.amount,
        )
        for each in facts.movements
        if not each.asset.is_native
    ] == expected
    assert len(expected) > 100
    status = {each["transactionHash"]: each["status"] for each in recorded["receipts"]}
    paid = [
        (tx["hash"], tx["to"], int(tx["value"], 16))
        for tx in recorded["block"]["transactions"]
        if int(tx["value"], 16) and status[tx["hash"]] == "0x1"
    ]
    native = [each for each in facts.movements if each.asset.is_native]
    assert [(each.tx_hash, each.account.lower(), each.amount) for each in native] == paid
    assert [each.code for each in facts.notices] == ["unproved_block"]
    assert "mixHash" in facts.notices[0].found
    assert "eth_getLogs" not in node.asked


def _log(recorded: Record) -> tuple[Record, int]:
    """The third log of the first receipt that has so many."""
    return next(each for each in recorded["receipts"] if len(each["logs"]) > 2), 2


def omit_a_log(recorded: Record) -> None:
    receipt, place = _log(recorded)
    del receipt["logs"][place]


def omit_every_log_of_a_transaction(recorded: Record) -> None:
    _log(recorded)[0]["logs"] = []


def alter_an_amount(recorded: Record) -> None:
    receipt, place = _log(recorded)
    receipt["logs"][place]["data"] = "0x" + "00" * 31 + "01"


def alter_a_receiver(recorded: Record) -> None:
    receipt, place = _log(recorded)
    receipt["logs"][place]["topics"][-1] = "0x" + "00" * 12 + "12" * 20


def invent_a_log(recorded: Record) -> None:
    receipt, place = _log(recorded)
    receipt["logs"].append(copy.deepcopy(receipt["logs"][place]))


def let_a_failure_succeed(recorded: Record) -> None:
    failed = next(each for each in recorded["receipts"] if each["status"] == "0x0")
    failed["status"] = "0x1"


def omit_a_receipt(recorded: Record) -> None:
    del recorded["receipts"][7]


def swap_two_receipts(recorded: Record) -> None:
    receipts = recorded["receipts"]
    receipts[3], receipts[4] = receipts[4], receipts[3]


def omit_all_receipts(recorded: Record) -> None:
    recorded["receipts"] = []


def alter_gas_used(recorded: Record) -> None:
    recorded["receipts"][5]["gasUsed"] = "0x5209"


def alter_gas_price(recorded: Record) -> None:
    recorded["receipts"][5]["effectiveGasPrice"] = "0x1"


def alter_receipts_root(recorded: Record) -> None:
    recorded["block"]["receiptsRoot"] = "0x" + "11" * 32


def alter_bloom(recorded: Record) -> None:
    bloom = int(recorded["block"]["logsBloom"], 16) | 1 << 5 | 1 << 900
    recorded["block"]["logsBloom"] = f"0x{(bloom ^ 1 << 77):0512x}"


LIES = [
    (omit_a_log, "receipts root"),
    (omit_every_log_of_a_transaction, "receipts root"),
    (alter_an_amount, "receipts root"),
    (alter_a_receiver, "receipts root"),
    (invent_a_log, "receipts root"),
    (let_a_failure_succeed, "receipts root"),
    (omit_a_receipt, "receipts of other transactions"),
    (omit_all_receipts, "receipts of other transactions"),
    (swap_two_receipts, "receipts of other transactions"),
    (alter_gas_used, "gas of a receipt"),
    (alter_gas_price, "gas price of a receipt"),
    (alter_receipts_root, "receipts root"),
    (alter_bloom, "logs bloom"),
]


@pytest.mark.parametrize(("lie", "what"), LIES, ids=[lie.__name__ for lie, _ in LIES])
async def test_a_lie_about_receipts_is_refused_by_name(
    node: RpcNode, recorded: Record, lie: Callable[[Record], None], what: str
) -> None:
    forged = copy.deepcopy(recorded)
    lie(forged)
    replay(node, forged)
    with pytest.raises(ForgedBlock) as caught:
        await fetch(node)
    assert caught.value.values["what"] == what


@pytest.mark.parametrize("lie", [omit_a_log, let_a_failure_succeed], ids=lambda each: each.__name__)
async def test_receipts_that_are_asked_for_one_by_one_are_proved_alike(
    node: RpcNode, recorded: Record, lie: Callable[[Record], None]
) -> None:
    forged = copy.deepcopy(recorded)
    lie(forged)
    replay(node, forged, whole_receipts=False)
    with pytest.raises(ForgedBlock):
        await fetch(node)


async def test_a_receipt_that_the_node_has_not_is_asked_for_again(node: RpcNode, recorded: Record) -> None:
    forged = copy.deepcopy(recorded)
    omit_a_receipt(forged)
    replay(node, forged, whole_receipts=False)
    with pytest.raises(InconsistentNode):
        await fetch(node)


async def test_what_cannot_be_proved_is_refused_unless_somebody_chose_otherwise(
    node: RpcNode, recorded: Record
) -> None:
    replay(node, recorded)
    with pytest.raises(UnprovableBlock) as caught:
        await fetch(node, "refuse")
    assert caught.value.values["parts"] == ["a header without mixHash", "no chainId", "no withdrawals"]


@pytest.mark.parametrize(
    ("message", "code", "is_the_tokens"),
    [
        ("execution reverted", 3, True),
        ("out of gas", -32000, True),
        ("rate limit exceeded", -32005, False),
        ("header not found", -32000, False),
    ],
)
async def test_a_balance_that_was_not_told_is_no_lie_of_the_token(
    node: RpcNode, recorded: Record, message: str, code: int, is_the_tokens: bool
) -> None:
    replay(node, recorded)
    node.result("eth_getBalance", "0x0")
    node.error("eth_call", message, code)
    if is_the_tokens:
        facts = await fetch(node)
        assert "token_unreadable" in {each.code for each in facts.notices}
        assert all(each.asset.is_native for each in facts.movements)
    else:
        with pytest.raises(RpcRefused):
            await fetch(node)


async def test_a_type_that_we_do_not_know_is_told_and_never_passed(node: RpcNode, recorded: Record) -> None:
    strange = copy.deepcopy(recorded)
    strange["receipts"][2]["type"] = "0x6a"
    replay(node, strange)
    facts = await fetch(node)
    assert "a receipt of type 0x6a" in facts.notices[0].found
    with pytest.raises(UnprovableBlock):
        await fetch(node, "refuse")
