"""One dead provider stops no sending: every provider gets the transaction, and questions go to whoever answers."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from eth_account import Account

from custody.chains.errors import RpcUnreachable, WrongNetwork
from custody.chains.ports import ChainClient, Submission, SubmissionStatus
from custody.chains.registry import build_client
from devnet.anvil import CHAIN_ID
from devnet.evm import Outsider
from tests.fakes.rpc_node import RpcNode, run_node
from tests.integration.evm_stage import ETH, evm_settings, node

__all__ = ["node"]

PAYEE = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
SEND = "eth_sendRawTransaction"


def dead_url() -> str:
    """Where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def client_of(first: str, *others: str) -> ChainClient:
    return build_client(evm_settings(first, other_rpc_urls=others, confirmations=0))


@pytest.mark.stack
async def test_a_dead_first_provider_stops_neither_questions_nor_sending(node: str) -> None:
    client = client_of(dead_url(), node)
    account = Account.create()
    async with Outsider(node) as outsider:
        await outsider.call("anvil_setBalance", account.address, hex(10**18))
        nonce, quote = await client.next_sequence(account.address), await client.fees()
        signed = account.sign_transaction(
            {
                "chainId": CHAIN_ID,
                "nonce": nonce,
                "to": PAYEE,
                "value": 7,
                "gas": 21_000,
                "maxFeePerGas": quote.max_fee_per_gas_wei,
                "maxPriorityFeePerGas": quote.max_priority_fee_per_gas_wei,
            }
        )
        tx, tx_hash = bytes(signed.raw_transaction), "0x" + bytes(signed.hash).hex()
        for _ in range(2):
            # The second time it is known, and in a block.
            assert await client.submit(tx, tx_hash) == Submission(status=SubmissionStatus.ACCEPTED)
            await outsider.call("evm_mine")
        assert await client.mined_sequence(account.address) == 1
        assert (await client.balance(PAYEE, ETH, (await client.head()).height)).amount == 7
    await client.aclose()


@dataclass
class Pair:
    """A client of two nodes that say what a test wants."""

    first: RpcNode
    second: RpcNode
    client: ChainClient


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    async with run_node() as first, run_node() as second:
        for each in (first, second):
            each.result("eth_chainId", hex(CHAIN_ID))
            each.result("eth_getTransactionByHash", None)
        client = client_of(first.url, second.url)
        yield Pair(first, second, client)
        await client.aclose()


ACCEPTED, UNKNOWN = SubmissionStatus.ACCEPTED, SubmissionStatus.UNKNOWN
REFUSED, TRY_LATER = SubmissionStatus.REFUSED, SubmissionStatus.TRY_LATER
HANGS_UP = ""


@pytest.mark.parametrize(
    ("words", "status", "code"),
    [
        (("already known", "insufficient funds"), ACCEPTED, ""),
        (("insufficient funds", "already known"), ACCEPTED, ""),
        ((HANGS_UP, "already known"), ACCEPTED, ""),
        ((HANGS_UP, "insufficient funds"), UNKNOWN, "chain_rpc_unreachable"),
        ((HANGS_UP, "nonce too low"), UNKNOWN, "nonce_too_low"),
        (("txpool is full", "insufficient funds"), REFUSED, "insufficient_funds"),
        ((None, "insufficient funds"), REFUSED, "insufficient_funds"),
        ((None, "txpool is full"), TRY_LATER, "pool_full"),
        ((None, None), TRY_LATER, "chain_rpc_unreachable"),
    ],
)
async def test_what_several_answers_come_to(
    pair: Pair, words: tuple[str | None, str | None], status: SubmissionStatus, code: str
) -> None:
    urls = []
    for each, said in zip((pair.first, pair.second), words, strict=True):
        urls.append(dead_url() if said is None else each.url)
        if said == HANGS_UP:
            each.raw = b""
        else:
            each.error(SEND, said or "")
    client = client_of(*urls)
    assert await client.submit(b"tx", "0x00") == Submission(status=status, code=code)
    await client.aclose()
    for each, said in zip((pair.first, pair.second), words, strict=True):
        assert (SEND in each.asked) is bool(said)


async def test_who_is_slow_is_not_waited_for_once_another_has_it(pair: Pair) -> None:
    for each, delay_s in ((pair.first, 5), (pair.second, 0)):
        each.result(SEND, "0x00")
        each.delay_s = delay_s
    assert (await pair.client.submit(b"tx", "0x00")).status is ACCEPTED
    assert (SEND in pair.first.asked, SEND in pair.second.asked) == (False, True)


async def test_questions_go_to_the_first_that_answers_and_who_gave_none_rests(pair: Pair) -> None:
    for number, each in enumerate((pair.first, pair.second), 1):
        each.result("eth_getTransactionCount", hex(number))
    assert await pair.client.next_sequence(PAYEE) == 1
    pair.first.raw = b""
    assert await pair.client.next_sequence(PAYEE) == 2
    pair.first.raw = None
    asked = len(pair.first.asked)
    assert (await pair.client.next_sequence(PAYEE), len(pair.first.asked)) == (2, asked)
    # Nobody else is left: then who rests is asked too.
    pair.second.raw = b""
    assert await pair.client.next_sequence(PAYEE) == 1
    pair.first.raw = b""
    with pytest.raises(RpcUnreachable):
        await pair.client.next_sequence(PAYEE)


async def test_a_provider_of_another_network_is_not_believed(pair: Pair) -> None:
    pair.first.raw = b""
    pair.second.result("eth_chainId", "0x1")
    pair.second.result("eth_getTransactionCount", "0x9")
    with pytest.raises(WrongNetwork):
        await pair.client.next_sequence(PAYEE)
