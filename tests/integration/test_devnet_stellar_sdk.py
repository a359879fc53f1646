"""stellar-sdk's RPC clients and plain JSON-RPC work against the development network as against a public server."""

import base64
import hashlib
from collections.abc import AsyncGenerator, Iterator

import httpx
import pytest
from stellar_sdk import (
    Account,
    Asset,
    IdMemo,
    Keypair,
    MuxedAccount,
    Payment,
    SorobanServer,
    SorobanServerAsync,
    TextMemo,
    TransactionBuilder,
    xdr,
)
from stellar_sdk.client.base_async_client import BaseAsyncClient
from stellar_sdk.client.response import Response as SdkResponse
from stellar_sdk.exceptions import AccountNotFoundException, SorobanRpcErrorResponse
from stellar_sdk.soroban_rpc import GetTransactionStatus, SendTransactionStatus

from devnet.stellar.network import LocalNetwork
from devnet.stellar.outsider import Outsider, OutsiderFailed
from devnet.stellar.server import Served, serve_in_thread

HELD_STROOPS = 100_000_000_000


@pytest.fixture
def served() -> Iterator[Served]:
    with serve_in_thread(LocalNetwork()) as running:
        yield running


@pytest.fixture
def outsider(served: Served) -> Iterator[Outsider]:
    with Outsider(served.url, drive=True) as client:
        yield client


def call(served: Served, method: str, **params: object) -> dict:
    body = {"jsonrpc": "2.0", "id": "x", "method": method, "params": params}
    return httpx.post(served.url, json=body).json()


def payment_of(served: Served, source: Keypair, account: Account) -> TransactionBuilder:
    target = served.network.friendbot.public_key
    return TransactionBuilder(account, served.network.passphrase, base_fee=100).append_payment_op(
        target, Asset.native(), "1"
    )


def test_sdk_walks_a_payment_from_account_to_transaction(served: Served, outsider: Outsider) -> None:
    keypair, server = outsider.new_account(), SorobanServer(served.url)
    assert server.get_health().status == "healthy"
    assert server.get_network().passphrase == served.network.passphrase
    assert server.get_fee_stats().inclusion_fee.p50 == 100
    assert "development network" in server.get_version_info().version
    envelope = payment_of(served, keypair, server.load_account(keypair.public_key)).set_timeout(60).build()
    envelope.sign(keypair)
    sent = server.send_transaction(envelope)
    assert sent.status is SendTransactionStatus.PENDING
    assert server.send_transaction(envelope).status is SendTransactionStatus.DUPLICATE
    assert server.get_transaction(sent.hash).status is GetTransactionStatus.NOT_FOUND
    served.network.close()
    found = server.get_transaction(sent.hash)
    assert found.status is GetTransactionStatus.SUCCESS
    assert xdr.TransactionEnvelope.from_xdr(found.envelope_xdr).to_xdr() == envelope.to_xdr()
    assert xdr.TransactionMeta.from_xdr(found.result_meta_xdr).v == 4
    assert len(found.events.contract_events_xdr[0]) == 1
    assert found.ledger == server.get_latest_ledger().sequence


def test_sdk_pages_through_ledgers_that_chain(served: Served) -> None:
    for _ in range(7):
        served.network.close()
    server = SorobanServer(served.url)
    page = server.get_ledgers(start_ledger=2, limit=3)
    ledgers = list(page.ledgers)
    while int(page.cursor) < page.latest_ledger:
        page = server.get_ledgers(cursor=page.cursor, limit=3)
        ledgers += page.ledgers
    assert [info.sequence for info in ledgers] == list(range(2, 10))
    parent = None
    for info in ledgers:
        entry = xdr.LedgerHeaderHistoryEntry.from_xdr(info.header_xdr)
        meta = xdr.LedgerCloseMeta.from_xdr(info.metadata_xdr)
        assert meta.v2.ledger_header.to_xdr() == info.header_xdr
        assert hashlib.sha256(entry.header.to_xdr_bytes()).hexdigest() == info.hash
        assert parent is None or entry.header.previous_ledger_hash.hash.hex() == parent
        parent = info.hash


def test_sdk_reads_transactions_by_page(served: Served, outsider: Outsider) -> None:
    for _ in range(3):
        outsider.new_account()
    server = SorobanServer(served.url)
    first = server.get_transactions(start_ledger=2, limit=2)
    rest = server.get_transactions(cursor=first.cursor, limit=200)
    assert [t.ledger for t in [*first.transactions, *rest.transactions]] == [2, 3, 4, 5]


def test_sdk_names_a_missing_account(served: Served) -> None:
    with pytest.raises(AccountNotFoundException):
        SorobanServer(served.url).load_account(Keypair.random().public_key)


class HttpxClient(BaseAsyncClient):
    """The SDK's asynchronous transport over httpx, because its own needs another HTTP library."""

    def __init__(self) -> None:
        self._http = httpx.AsyncClient()

    async def get(self, url: str, params: dict[str, str] | None = None) -> SdkResponse:
        return self._shape(await self._http.get(url, params=params))

    async def post(
        self, url: str, data: dict[str, str] | None = None, json_data: dict | None = None
    ) -> SdkResponse:
        return self._shape(await self._http.post(url, data=data, json=json_data))

    async def stream(self, url: str, params: dict[str, str] | None = None) -> AsyncGenerator[dict]:
        raise LookupError(f"RPC has no streams: {url} {params}")
        yield {}

    async def close(self) -> None:
        await self._http.aclose()

    @staticmethod
    def _shape(response: httpx.Response) -> SdkResponse:
        return SdkResponse(response.status_code, response.text, dict(response.headers), str(response.url))


async def test_async_sdk_walks_the_same_way(served: Served) -> None:
    keypair = Keypair.random()
    served.network.fund(keypair.public_key)
    served.network.close()
    async with SorobanServerAsync(served.url, HttpxClient()) as server:
        account = await server.load_account(keypair.public_key)
        envelope = payment_of(served, keypair, account).set_timeout(60).build()
        envelope.sign(keypair)
        sent = await server.send_transaction(envelope)
        served.network.close()
        assert (await server.get_transaction(sent.hash)).status is GetTransactionStatus.SUCCESS
        assert (await server.get_ledgers(start_ledger=2)).latest_ledger == 4
        assert (await server.get_health()).oldest_ledger == 2
        assert (await server.get_fee_stats()).latest_ledger == 4


def test_error_result_tells_the_code(served: Served, outsider: Outsider) -> None:
    keypair = outsider.new_account()
    envelope = payment_of(served, keypair, Account(keypair.public_key, 1)).set_timeout(60).build()
    envelope.sign(keypair)
    sent = SorobanServer(served.url).send_transaction(envelope)
    assert sent.status is SendTransactionStatus.ERROR
    assert xdr.TransactionResult.from_xdr(sent.error_result_xdr).result.code.name == "txBAD_SEQ"


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("simulateTransaction", {}, -32601),
        ("sendTransaction", {"transaction": "AAAA"}, -32602),
        ("getTransaction", {"hash": "zz"}, -32602),
        ("getLedgers", {"startLedger": 1}, -32600),
        ("getLedgers", {"startLedger": 99}, -32600),
        ("getLedgers", {"pagination": {"cursor": "2"}}, -32602),
        ("getLedgers", {"startLedger": 2, "pagination": {"limit": 201}}, -32600),
        ("getLedgerEntries", {"keys": ["AAAA"]}, -32602),
        ("getLedgerEntries", {"keys": []}, -32602),
    ],
)
def test_bad_requests_get_the_codes_of_the_real_server(
    served: Served, method: str, params: dict, code: int
) -> None:
    assert call(served, method, **params)["error"]["code"] == code


def test_every_response_says_that_this_is_a_development_network(served: Served) -> None:
    for response in (httpx.get(f"{served.url}/devnet/state"), httpx.post(served.url, content=b"{")):
        assert "development network" in response.headers["x-stellar-network"]
    assert "development network" in call(served, "getNetwork")["result"]["notice"]


def test_friendbot_funds_once(served: Served) -> None:
    address = Keypair.random().public_key
    first = httpx.get(f"{served.url}/friendbot", params={"addr": address})
    assert first.json()["successful"]
    assert served.network.balance(address) == HELD_STROOPS
    assert call(served, "getTransaction", hash=first.json()["hash"])["result"]["status"] == "SUCCESS"
    assert httpx.post(f"{served.url}/friendbot", data={"addr": address}).status_code == 400
    assert httpx.get(f"{served.url}/friendbot", params={"addr": "M1"}).status_code == 400


def test_outsider_issues_and_pays_with_memo_and_muxed_address(outsider: Outsider) -> None:
    holder = outsider.new_account()
    usd = outsider.issue_asset("USDC")
    outsider.trust(holder, usd.asset)
    outsider.pay(usd.issuer, holder.public_key, 15, asset=usd.asset, memo=TextMemo("salary"))
    muxed = MuxedAccount(holder.public_key, 7).account_muxed
    sent = outsider.pay(usd.issuer, muxed, 27, asset=usd.asset)
    assert outsider.balance(holder.public_key, usd.asset) == 42
    assert sent.ledger > 2
    born = Keypair.random()
    outsider.create_account(holder, born.public_key, 20_000_001, memo=IdMemo(9))
    assert outsider.balance(born.public_key) == 20_000_001
    with pytest.raises(OutsiderFailed, match="txFAILED PAYMENT_NO_TRUST"):
        outsider.pay(holder, born.public_key, 1, asset=usd.asset)


def test_lost_reply_leaves_the_transaction_in_the_queue(served: Served, outsider: Outsider) -> None:
    keypair = outsider.new_account()
    envelope = outsider.build(keypair, [Payment(keypair.public_key, Asset.native(), "1")])
    httpx.post(f"{served.url}/devnet/misbehave", json={"lose_reply_next": 1})
    body = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "sendTransaction",
        "params": {"transaction": envelope.to_xdr()},
    }
    assert httpx.post(served.url, json=body).status_code == 504
    assert httpx.post(served.url, json=body).json()["result"]["status"] == "DUPLICATE"


def test_outsider_gets_its_payment_through_all_faults_exactly_once(
    served: Served, outsider: Outsider
) -> None:
    payer, payee = outsider.new_account(), outsider.new_account()
    envelope = outsider.build(payer, [Payment(payee.public_key, Asset.native(), "1")])
    faults = {
        "outage_next": 2,
        "drop_next": 1,
        "lose_reply_next": 1,
        "try_again_later_next": 1,
        "delay_next": 1,
    }
    httpx.post(f"{served.url}/devnet/misbehave", json=faults)
    outsider.submit(envelope)
    assert outsider.balance(payee.public_key) == HELD_STROOPS + 10_000_000
    assert outsider.balance(payer.public_key) == HELD_STROOPS - 10_000_100


def test_outage_by_count_and_until_cleared(served: Served) -> None:
    ask = {"jsonrpc": "2.0", "id": 1, "method": "getHealth"}
    control = f"{served.url}/devnet/misbehave"
    httpx.post(control, json={"outage_next": 2})
    assert [httpx.post(served.url, json=ask).status_code for _ in range(3)] == [503, 503, 200]
    httpx.post(control, json={"outage": True})
    assert httpx.post(served.url, json=ask).status_code == 503
    httpx.post(control, json={"clear": True})
    assert httpx.post(served.url, json=ask).status_code == 200


@pytest.mark.parametrize("wrong", [{"explode": 1}, {"drop_next": -1}, {"drop_next": True}, {"outage": 1}, []])
def test_unknown_faults_are_refused(served: Served, wrong: object) -> None:
    assert httpx.post(f"{served.url}/devnet/misbehave", json=wrong).status_code == 400


def test_wrong_parent_is_served_over_rpc(served: Served) -> None:
    httpx.post(f"{served.url}/devnet/close")
    httpx.post(f"{served.url}/devnet/misbehave", json={"wrong_parent_next": 1})
    lied, told = (call(served, "getLedgers", startLedger=2)["result"]["ledgers"] for _ in range(2))
    assert lied[0] == told[0]
    meta = xdr.LedgerCloseMeta.from_xdr_bytes(base64.b64decode(lied[1]["metadataXdr"]))
    assert meta.v2.ledger_header.header.previous_ledger_hash.hash.hex() != told[0]["hash"]


def test_sdk_reports_rpc_errors(served: Served) -> None:
    with pytest.raises(SorobanRpcErrorResponse):
        SorobanServer(served.url).get_ledgers(start_ledger=500)
