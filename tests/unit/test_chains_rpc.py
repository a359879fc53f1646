"""What nodes say and what we make of it: an outcome is done, refused or unknown, and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from stellar_sdk import Account, Asset, Keypair, TransactionBuilder, TransactionEnvelope, xdr

from custody.chains.errors import RpcRefused, RpcUnreachable, RpcUnreadable, WrongNetwork
from custody.chains.evm.rpc import EvmRpc
from custody.chains.jsonrpc import JsonRpc
from custody.chains.ports import Submission, SubmissionStatus
from custody.chains.stellar.lookup import AbsentTransaction, StellarTransaction
from custody.chains.stellar.rpc import StellarRpc
from custody.kernel.assetid import ChainId, parse_asset_id
from tests.fakes.rpc_node import RpcNode, run_node

ACCEPTED, TRY_LATER = SubmissionStatus.ACCEPTED, SubmissionStatus.TRY_LATER
REFUSED, UNKNOWN = SubmissionStatus.REFUSED, SubmissionStatus.UNKNOWN
CHAIN = ChainId("stellar:devnet")
ETH = ChainId("eip155:31337")


@pytest.fixture
async def node() -> AsyncIterator[RpcNode]:
    """A node that says what it is told to."""
    async with run_node() as running:
        yield running


@pytest.fixture
async def stellar(node: RpcNode) -> AsyncIterator[StellarRpc]:
    """A client of that node."""
    client = StellarRpc(CHAIN, JsonRpc(node.url, timeout_s=2), "passphrase")
    yield client
    await client.aclose()


@pytest.fixture
async def evm(node: RpcNode) -> AsyncIterator[EvmRpc]:
    """A client of that node."""
    client = EvmRpc(ETH, JsonRpc(node.url, timeout_s=2), 31337)
    yield client
    await client.aclose()


def envelope(*, memo: bytes | None = None) -> TransactionEnvelope:
    sender = Keypair.from_raw_ed25519_seed(bytes([1]) * 32)
    builder = TransactionBuilder(Account(sender.public_key, 4), "passphrase", base_fee=100)
    builder.append_payment_op(sender.public_key, Asset.native(), "0.0000001").add_time_bounds(0, 0)
    built = (builder if memo is None else builder.add_hash_memo(memo)).build()
    built.sign(sender)
    return built


@pytest.mark.parametrize("memo", [None, bytes(range(32))], ids=["none", "hash"])
@pytest.mark.parametrize(("status", "succeeded"), [("SUCCESS", True), ("FAILED", False)])
async def test_a_transaction_is_read_from_its_envelope(
    stellar: StellarRpc, node: RpcNode, memo: bytes | None, status: str, succeeded: bool
) -> None:
    sent = envelope(memo=memo)
    node.result("getTransaction", {"status": status, "ledger": 7, "envelopeXdr": sent.to_xdr()})
    source = sent.transaction.source.account_id
    assert await stellar.find_transaction(sent.hash_hex()) == StellarTransaction(
        height=7, succeeded=succeeded, source=source, memo_hash=memo
    )


async def test_a_transaction_that_is_absent_names_the_ledgers_that_were_searched(
    stellar: StellarRpc, node: RpcNode
) -> None:
    node.result("getTransaction", {"status": "NOT_FOUND", "oldestLedger": 3, "latestLedger": 9})
    assert await stellar.find_transaction("ab" * 32) == AbsentTransaction(oldest=3, newest=9)


@pytest.mark.parametrize(
    "answer",
    [
        {"status": "SUCCESS", "ledger": 7, "envelopeXdr": envelope(memo=bytes(32)).to_xdr()},
        {"status": "SUCCESS", "ledger": 7, "envelopeXdr": "AAAA"},
        {"status": "SUCCESS", "ledger": "7", "envelopeXdr": envelope().to_xdr()},
        {"status": "PENDING"},
        {"status": "NOT_FOUND"},
        {},
    ],
)
async def test_another_transaction_or_none_at_all_is_unreadable(
    stellar: StellarRpc, node: RpcNode, answer: dict[str, Any]
) -> None:
    node.result("getTransaction", answer)
    with pytest.raises(RpcUnreadable):
        await stellar.find_transaction(envelope().hash_hex())


def result_xdr(code: xdr.TransactionResultCode) -> str:
    result = xdr.TransactionResultResult(code=code)
    if code in (xdr.TransactionResultCode.txSUCCESS, xdr.TransactionResultCode.txFAILED):
        result = xdr.TransactionResultResult(code=code, results=[])
    return xdr.TransactionResult(
        fee_charged=xdr.Int64(100), result=result, ext=xdr.TransactionResultExt(v=0)
    ).to_xdr()


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ({"status": "PENDING"}, Submission(status=ACCEPTED)),
        ({"status": "DUPLICATE"}, Submission(status=ACCEPTED)),
        ({"status": "TRY_AGAIN_LATER"}, Submission(status=TRY_LATER)),
        (
            {"status": "ERROR", "errorResultXdr": result_xdr(xdr.TransactionResultCode.txBAD_AUTH)},
            Submission(status=REFUSED, code="txBAD_AUTH"),
        ),
        (
            {"status": "ERROR", "errorResultXdr": result_xdr(xdr.TransactionResultCode.txINSUFFICIENT_FEE)},
            Submission(status=TRY_LATER, code="txINSUFFICIENT_FEE"),
        ),
        (
            # A used sequence may have been used by this very transaction.
            {"status": "ERROR", "errorResultXdr": result_xdr(xdr.TransactionResultCode.txBAD_SEQ)},
            Submission(status=UNKNOWN, code="txBAD_SEQ"),
        ),
        ({"status": "ERROR", "errorResultXdr": "AAAA"}, Submission(status=UNKNOWN, code="undecoded_result")),
        ({"status": "ERROR"}, Submission(status=UNKNOWN, code="undecoded_result")),
        ({"status": "SOMETHING"}, Submission(status=UNKNOWN, code="unknown_status")),
        ({"status": "PENDING", "hash": "ff"}, Submission(status=UNKNOWN, code="other_hash")),
        ({}, Submission(status=UNKNOWN, code="unknown_status")),
        ([], Submission(status=UNKNOWN, code="chain_rpc_unreadable")),
    ],
)
async def test_a_stellar_submission_ends_in_one_of_four_ways(
    node: RpcNode, stellar: StellarRpc, answer: Any, expected: Submission
) -> None:
    node.result("sendTransaction", answer)
    assert await stellar.submit(b"tx", "00") == expected


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"", RpcUnreachable),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy", RpcUnreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", RpcUnreadable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", RpcUnreadable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnull", RpcUnreadable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nshort", RpcUnreachable),
    ],
)
async def test_an_answer_that_is_none_leaves_a_submission_unknown_and_a_question_unanswered(
    node: RpcNode, stellar: StellarRpc, evm: EvmRpc, raw: bytes, error: type[Exception]
) -> None:
    node.raw = raw
    assert (await stellar.submit(b"tx", "00")).status is UNKNOWN
    assert (await evm.submit(b"tx", "0x00")).status is UNKNOWN
    with pytest.raises(error):
        await evm.head()


async def test_a_node_that_does_not_listen_leaves_a_submission_unknown() -> None:
    client = StellarRpc(CHAIN, JsonRpc("http://127.0.0.1:9", timeout_s=1), "passphrase")
    assert (await client.submit(b"tx", "00")).status is UNKNOWN
    with pytest.raises(RpcUnreachable):
        await client.head()
    await client.aclose()


async def test_another_network_is_refused(node: RpcNode, stellar: StellarRpc, evm: EvmRpc) -> None:
    node.result("getNetwork", {"passphrase": "another"})
    node.result("eth_chainId", "0x1")
    with pytest.raises(WrongNetwork):
        await stellar.verify_network()
    with pytest.raises(WrongNetwork):
        await evm.verify_network()


def account_entry(account: str, balance: int, sequence: int) -> str:
    return xdr.LedgerEntryData(
        type=xdr.LedgerEntryType.ACCOUNT,
        account=xdr.AccountEntry(
            account_id=Keypair.from_public_key(account).xdr_account_id(),
            balance=xdr.Int64(balance),
            seq_num=xdr.SequenceNumber(xdr.Int64(sequence)),
            num_sub_entries=xdr.Uint32(0),
            inflation_dest=None,
            flags=xdr.Uint32(0),
            home_domain=xdr.String32(b""),
            thresholds=xdr.Thresholds(b"\x01\x00\x00\x00"),
            signers=[],
            ext=xdr.AccountEntryExt(v=0),
        ),
    ).to_xdr()


@pytest.mark.parametrize(
    ("asked", "modified", "height"),
    [(None, 50, 100), (100, 50, 100), (70, 50, 70), (50, 50, 50), (49, 50, 100), (101, 50, 100)],
)
async def test_an_entry_unchanged_since_a_height_tells_the_balance_at_that_height(
    node: RpcNode, stellar: StellarRpc, asked: int | None, modified: int, height: int
) -> None:
    account = Keypair.random().public_key
    entry = {"xdr": account_entry(account, 7, 41), "lastModifiedLedgerSeq": modified}
    node.result("getLedgerEntries", {"entries": [entry], "latestLedger": 100})
    seen = await stellar.balance(account, parse_asset_id("stellar:devnet/native"), asked)
    assert (seen.amount, seen.height) == (7, height)
    assert await stellar.next_sequence(account) == 42


async def test_an_account_that_does_not_exist_holds_nothing(node: RpcNode, stellar: StellarRpc) -> None:
    account = Keypair.random().public_key
    node.result("getLedgerEntries", {"entries": [], "latestLedger": 100})
    seen = await stellar.balance(account, parse_asset_id("stellar:devnet/native"), 90)
    assert (seen.amount, seen.height) == (0, 100)
    with pytest.raises(RpcUnreadable):
        await stellar.next_sequence(account)


async def test_fees_are_quoted_above_the_least_that_the_network_takes(
    node: RpcNode, stellar: StellarRpc
) -> None:
    node.result("getFeeStats", {"inclusionFee": {"p90": "1"}})
    assert (await stellar.fees()).fee_stroops == 100


@pytest.mark.parametrize("value", ["31", 31, "0x", None, "0xzz", True])
async def test_a_number_in_the_wrong_shape_is_unreadable(node: RpcNode, evm: EvmRpc, value: Any) -> None:
    node.result("eth_getTransactionCount", value)
    with pytest.raises(RpcUnreadable):
        await evm.next_sequence("0x" + "12" * 20)


async def test_a_batch_answers_in_the_order_of_its_questions(node: RpcNode) -> None:
    rpc = JsonRpc(node.url)
    node.answers["echo"] = lambda params: {"result": params}
    assert await rpc.call_all([("echo", [n]) for n in range(5)]) == [[0], [1], [2], [3], [4]]
    node.error("fails", "no")
    with pytest.raises(RpcRefused):
        await rpc.call_all([("echo", []), ("fails", [])])
    assert await rpc.call_all([]) == []
    await rpc.aclose()
