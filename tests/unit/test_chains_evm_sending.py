"""What EVM nodes say to a submission, in each client's words, and what they are asked before a price is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import ValidationError

from custody.chains.errors import RpcRefused, RpcUnreadable
from custody.chains.evm.address import keccak256
from custody.chains.evm.answers import Meaning, judged, meaning_of
from custody.chains.evm.fees import GAS_PRICE_ORACLE, MIN_TIP_WEI, TX_BYTES, Pricing
from custody.chains.evm.rpc import EvmRpc
from custody.chains.jsonrpc import JsonRpc
from custody.chains.ports import FeeQuote, Submission, SubmissionStatus
from custody.kernel.assetid import ChainId
from custody.settings import ChainSettings
from tests.fakes.rpc_node import RpcNode, run_node

ACCEPTED, TRY_LATER = SubmissionStatus.ACCEPTED, SubmissionStatus.TRY_LATER
REFUSED, UNKNOWN = SubmissionStatus.REFUSED, SubmissionStatus.UNKNOWN
ETH = ChainId("eip155:31337")


@pytest.fixture
async def node() -> AsyncIterator[RpcNode]:
    """A node that says what it is told to."""
    async with run_node() as running:
        yield running


def client(node: RpcNode, **pricing: Any) -> EvmRpc:
    return EvmRpc(ETH, JsonRpc(node.url, timeout_s=2), 31337, Pricing(**pricing))


WORDS = {
    "geth": (
        ("already known", Meaning.KNOWN),
        ("nonce too low: next nonce 5, tx nonce 4", Meaning.SPENT),
        ("nonce too high: address 0xab, tx: 9 state: 1", Meaning.FUTURE),
        ("replacement transaction underpriced", Meaning.REPLACEMENT),
        ("future transaction tries to replace pending", Meaning.REPLACEMENT),
        ("transaction underpriced: tip needed 1, tip permitted 0", Meaning.UNDERPRICED),
        ("transaction gas price below minimum: gas tip cap 1, minimum needed 2", Meaning.UNDERPRICED),
        (
            "max fee per gas less than block base fee: address 0xab, maxFeePerGas: 1, baseFee: 7",
            Meaning.UNDERPRICED,
        ),
        ("max priority fee per gas higher than max fee per gas", Meaning.FEES),
        ("insufficient funds for gas * price + value: balance 1, tx cost 2, overshot 1", Meaning.FUNDS),
        ("txpool is full", Meaning.FULL),
        ("account limit exceeded: pooled 16 txs", Meaning.FULL),
        ("in-flight transaction limit reached for delegated accounts", Meaning.FULL),
        ("gapped-nonce tx from delegated accounts", Meaning.FUTURE),
        ("intrinsic gas too low: gas 20000, minimum needed 21000", Meaning.GAS),
        ("exceeds block gas limit", Meaning.GAS_LIMIT),
        ("tx fee (2.00 ether) exceeds the configured cap (1.00 ether)", Meaning.FEE_CAP),
        ("invalid sender: invalid chain id for signer", Meaning.SIGNATURE),
        ("transaction type not supported", Meaning.TYPE),
        ("rlp: expected input list for types.LegacyTx", Meaning.ENCODING),
    ),
    "erigon": (
        ("existing tx with same hash", None),
        ("ALREADY_EXISTS: already known", Meaning.KNOWN),
        ("INTERNAL_ERROR: could not replace existing tx", Meaning.REPLACEMENT),
        ("INTERNAL_ERROR: fee too low", Meaning.UNDERPRICED),
        ("INTERNAL_ERROR: nonce too distant", Meaning.FUTURE),
        ("pending sub-pool is full", Meaning.FULL),
    ),
    "nethermind": (
        ("AlreadyKnown", Meaning.KNOWN),
        ("OldNonce, Current nonce: 5, nonce of rejected tx: 4", Meaning.SPENT),
        ("NonceGap, Future nonce. Expected nonce: 3", Meaning.FUTURE),
        ("nonce too far in future", Meaning.FUTURE),
        ("ReplacementNotAllowed", Meaning.REPLACEMENT),
        ("OwnNonceAlreadyUsed", Meaning.REPLACEMENT),
        ("FeeTooLow, MaxFeePerGas too low. MaxFeePerGas: 1, BaseFee: 7", Meaning.UNDERPRICED),
        ("FeeTooLowToCompete", Meaning.FULL),
        ("InsufficientFunds, Account balance: 0, cumulative cost: 3", Meaning.FUNDS),
        ("GasLimitExceeded", Meaning.GAS_LIMIT),
        ("failed to recover sender", Meaning.SIGNATURE),
    ),
    "besu": (
        ("Known transaction", Meaning.KNOWN),
        ("Nonce too low", Meaning.SPENT),
        ("Nonce below current nonce", Meaning.SPENT),
        ("Transaction nonce is too distant from current sender nonce: nonce too distant", Meaning.FUTURE),
        ("NONCE_TOO_FAR_IN_FUTURE_FOR_SENDER", Meaning.FUTURE),
        ("Replacement transaction underpriced", Meaning.REPLACEMENT),
        ("Upfront cost exceeds account balance", Meaning.FUNDS),
        ("Gas price below configured minimum gas price", Meaning.UNDERPRICED),
        (
            "gasPrice is less than the current BaseFee: gas price less than current base fee",
            Meaning.UNDERPRICED,
        ),
        ("Intrinsic gas exceeds gas limit", Meaning.GAS),
        ("Wrong chainId", Meaning.CHAIN),
        ("INVALID_TRANSACTION_TYPE", Meaning.TYPE),
    ),
    "reth": (
        ("exceeded max transaction slots for account", Meaning.FULL),
        ("txpool is full", Meaning.FULL),
        (
            "transaction discarded outright due to pool size constraints: discarded by the transaction pool",
            Meaning.FULL,
        ),
    ),
    "anvil": (
        ("transaction already imported", Meaning.KNOWN),
        ("nonce too low", Meaning.SPENT),
        ("Insufficient funds for gas * price + value", Meaning.FUNDS),
        ("max fee per gas less than block base fee", Meaning.UNDERPRICED),
    ),
    "others": (
        ("Transaction with the same hash was already imported.", Meaning.KNOWN),
        (
            "There are too many transactions in the queue. Your transaction was dropped due to limit.",
            Meaning.FULL,
        ),
        (
            "Transaction gas price 1 is too low. There is another transaction with same nonce in the queue",
            Meaning.REPLACEMENT,
        ),
        ("invalid transaction nonce", Meaning.SPENT),
        ("not enough funds for gas", Meaning.FUNDS),
        ("Pool(Stale)", Meaning.SPENT),
        ("Pool(AlreadyImported)", Meaning.KNOWN),
        ("rate limit exceeded", Meaning.BUSY),
        ("Too Many Requests", Meaning.BUSY),
        ("unknown transaction type 0x02", Meaning.TYPE),
        ("the dog ate it", None),
        ("", None),
    ),
}


@pytest.mark.parametrize(
    ("words", "meaning"),
    [pytest.param(*row, id=f"{name}:{row[0][:40]}") for name, rows in WORDS.items() for row in rows],
)
def test_each_clients_words_mean_the_same(words: str, meaning: Meaning | None) -> None:
    assert meaning_of(words) is meaning
    assert meaning_of(f"Error: {words.upper()}") is meaning


def test_only_a_judgement_about_the_bytes_refuses_them() -> None:
    """What is known is on its way; a spent nonce may be spent by these very bytes; a full queue may have room later."""
    assert {meaning: judged(meaning).status for meaning in Meaning} == {
        **dict.fromkeys(Meaning, REFUSED),
        Meaning.KNOWN: ACCEPTED,
        Meaning.SPENT: UNKNOWN,
        **dict.fromkeys((Meaning.FULL, Meaning.FUTURE, Meaning.BUSY), TRY_LATER),
    }
    assert judged(None) == Submission(status=UNKNOWN, code="unknown_refusal")


@pytest.mark.parametrize(
    ("message", "known", "expected"),
    [
        ("already known", False, Submission(status=ACCEPTED)),
        ("nonce too low: next nonce 5, tx nonce 4", True, Submission(status=ACCEPTED)),
        ("nonce too low", False, Submission(status=UNKNOWN, code="nonce_too_low")),
        (
            "replacement transaction underpriced",
            False,
            Submission(status=REFUSED, code="replacement_underpriced"),
        ),
        ("the dog ate it", True, Submission(status=UNKNOWN, code="unknown_refusal")),
    ],
)
async def test_of_a_spent_nonce_it_is_asked_by_whom(
    node: RpcNode, message: str, known: bool, expected: Submission
) -> None:
    node.error("eth_sendRawTransaction", message)
    node.result("eth_getTransactionByHash", {"hash": "0x00"} if known else None)
    assert await client(node).submit(b"tx", "0x00") == expected


HISTORY = {"baseFeePerGas": ["0xa", "0x14"], "reward": [["0x0"], ["0x4c4b40"], ["0x3d0900"]]}


def listen(node: RpcNode, method: str, value: Any) -> list[Any]:
    """Answer this method with this result, and keep what it is asked."""
    asked: list[Any] = []

    def answer(params: Any) -> dict[str, Any]:
        asked.append(params)
        return {"result": value}

    node.answers[method] = answer
    return asked


async def test_the_price_leaves_room_for_six_full_blocks_and_takes_the_middle_tip(node: RpcNode) -> None:
    asked = listen(node, "eth_feeHistory", HISTORY)
    quote = await client(node, percentile=70).fees()
    assert quote == FeeQuote(
        max_fee_per_gas_wei=2 * 20 + 4_000_000,
        max_priority_fee_per_gas_wei=4_000_000,
        base_fee_per_gas_wei=20,
    )
    assert asked[-1] == ["0xa", "latest", [70]]


async def test_an_empty_chain_is_offered_a_tip_all_the_same(node: RpcNode) -> None:
    node.result("eth_feeHistory", {"baseFeePerGas": ["0x0"], "reward": None})
    assert (await client(node).fees()).max_priority_fee_per_gas_wei == MIN_TIP_WEI
    node.result("eth_feeHistory", {"baseFeePerGas": []})
    with pytest.raises(RpcUnreadable):
        await client(node).fees()


async def test_a_chain_without_a_base_fee_is_bid_the_price_that_its_node_names(node: RpcNode) -> None:
    node.result("eth_gasPrice", "0x3b9aca00")
    quote = await client(node, market="gas_price").fees()
    assert (quote.max_fee_per_gas_wei, quote.max_priority_fee_per_gas_wei) == (10**9, 10**9)
    assert quote.base_fee_per_gas_wei == 0


async def test_the_op_stack_tells_what_the_layer_below_costs(node: RpcNode) -> None:
    node.result("eth_feeHistory", HISTORY)
    asked = listen(node, "eth_call", f"0x{777:064x}")
    assert (await client(node, rollup="op_stack").fees()).layer_one_fee_wei == 777
    selector = keccak256(b"getL1FeeUpperBound(uint256)")[:4].hex()
    call, block = asked[-1]
    assert (call, block) == ({"to": GAS_PRICE_ORACLE, "data": f"0x{selector}{TX_BYTES:064x}"}, "latest")
    node.error("eth_call", "execution reverted")
    with pytest.raises(RpcRefused):
        await client(node, rollup="op_stack").fees()


async def test_arbitrum_takes_no_tip(node: RpcNode) -> None:
    node.result("eth_feeHistory", HISTORY)
    quote = await client(node, rollup="arbitrum").fees()
    assert (quote.max_fee_per_gas_wei, quote.max_priority_fee_per_gas_wei) == (40, 0)


def settings(**changes: Any) -> ChainSettings:
    limits = {
        "gas_limit_native": 21_000, "gas_limit_erc20": 100_000, "max_fee_per_gas_wei": 10**12,
        "max_priority_fee_per_gas_wei": 10**11, "tx_valid_s": 600, "confirmations": 1,
    }  # fmt: skip
    return ChainSettings(
        **{"id": ETH, "kind": "evm", "rpc_url": "http://127.0.0.1:1", "chain_id": 31337, **limits, **changes}
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"evm": {"rollup": "arbitrum"}},
        {"evm": {"bump_percent": 9}},
        {"evm": {"in_flight_max": 0}},
        {"evm": {"fee_percentile": 100}},
        {"evm": {"nonsense": 1}},
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings(**changes)


def test_arbitrum_is_taken_where_gas_limits_leave_room() -> None:
    assert settings(evm={"rollup": "arbitrum"}, gas_limit_native=200_000).evm.rollup == "arbitrum"
