"""Tokens of Stellar contracts: listed by what the contract says, credited by what it tells, never by another's word."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from stellar_sdk import Keypair, StrKey, scval, xdr

from custody.assets.errors import DecimalsDiffer, TokenNotRead
from custody.assets.execution import verify_listing
from custody.chains.errors import RpcRefused, RpcUnreachable, TokenRefused
from custody.chains.jsonrpc import JsonRpc
from custody.chains.stellar.rpc import StellarRpc
from custody.db.session import Database
from custody.kernel.assetid import ChainId, MalformedAssetId, parse_asset_id, sep41
from custody.kernel.ids import TenantId
from custody.withdrawals.checks import check_destination, check_trustline
from custody.withdrawals.errors import NotATrustline, UnsupportedAsset
from custody.withdrawals.model import NO_MEMO
from ingestion import cursor, effects, settling
from ingestion.finality import Standing
from ingestion.stellar.movements import EventReader
from ingestion.stellar.read import LedgerReader
from ingestion.watch import build_watch
from tests.fakes.key_maker import FakeKeyMaker
from tests.fakes.rpc_node import RpcNode, run_node
from tests.fakes.stellar_town import Town
from tests.integration.ingestion_harness import OMNIBUS_REQUEST, Desk, take_fence
from tests.unit.test_ingestion_stellar_prove import address, events_in, i128, payment, token_event

CHAIN = ChainId("stellar:devnet")
CONTRACT = StrKey.encode_contract(b"\x77" * 32)
TOKEN = sep41(CHAIN, CONTRACT)


@pytest.fixture
async def node() -> AsyncIterator[RpcNode]:
    async with run_node() as running:
        yield running


@pytest.fixture
async def client(node: RpcNode) -> AsyncIterator[StellarRpc]:
    opened = StellarRpc(CHAIN, JsonRpc(node.url, timeout_s=2), "passphrase", [CONTRACT])
    yield opened
    await opened.aclose()


def simulated(value: xdr.SCVal) -> dict[str, object]:
    return {"latestLedger": 77, "results": [{"auth": [], "xdr": value.to_xdr()}]}


def test_a_token_has_one_spelling() -> None:
    assert TOKEN.text == f"stellar:devnet/sep41:{CONTRACT}"
    assert parse_asset_id(TOKEN.text) == TOKEN
    assert (TOKEN.contract, TOKEN.is_native) == (CONTRACT, False)
    issuer = StrKey.encode_ed25519_public_key(bytes(32))
    assert parse_asset_id(f"stellar:devnet/sep41:{issuer}").contract is None
    for wrong in (
        CONTRACT,
        f"SEP41:{CONTRACT}",
        f"sep41:{CONTRACT.lower()}",
        f"sep41:{CONTRACT}A",
        f"USDC:{CONTRACT}",
    ):
        with pytest.raises(MalformedAssetId):
            parse_asset_id(f"stellar:devnet/{wrong}")
    with pytest.raises(MalformedAssetId):
        parse_asset_id(f"eip155:1/sep41:{CONTRACT}")


async def test_decimals_are_those_that_the_contract_says(node: RpcNode, client: StellarRpc) -> None:
    node.result("simulateTransaction", simulated(scval.to_uint32(7)))
    assert await verify_listing({CHAIN: client}, TOKEN, 7)
    with pytest.raises(DecimalsDiffer):
        await verify_listing({CHAIN: client}, TOKEN, 6)


async def test_a_node_without_contracts_leaves_the_decimals_to_the_operator(
    node: RpcNode, client: StellarRpc
) -> None:
    node.error("simulateTransaction", "method not found", -32601)
    assert not await verify_listing({CHAIN: client}, TOKEN, 6)
    node.error("simulateTransaction", "busy", -32000)
    with pytest.raises(RpcRefused):
        await verify_listing({CHAIN: client}, TOKEN, 6)
    node.raw = b""
    with pytest.raises(RpcUnreachable):
        await verify_listing({CHAIN: client}, TOKEN, 6)


@pytest.mark.parametrize(
    "answer",
    [
        {"latestLedger": 77, "error": "HostError: Error(Storage, MissingValue)"},
        simulated(scval.to_string("seven")),
    ],
)
async def test_a_contract_that_is_no_token_is_not_listed(
    node: RpcNode, client: StellarRpc, answer: dict[str, object]
) -> None:
    node.result("simulateTransaction", answer)
    with pytest.raises(TokenRefused):
        await verify_listing({CHAIN: client}, TOKEN, 7)


async def test_a_token_that_nobody_reads_is_not_listed(node: RpcNode, client: StellarRpc) -> None:
    unread = sep41(CHAIN, StrKey.encode_contract(b"\x66" * 32))
    for clients in ({CHAIN: client}, {}):
        with pytest.raises(TokenNotRead):
            await verify_listing(clients, unread, 7)
    assert node.asked == []
    assert not await verify_listing({}, parse_asset_id("stellar:devnet/native"), 7)


async def test_the_contract_is_asked_for_a_balance(node: RpcNode, client: StellarRpc) -> None:
    holder = Keypair.random().public_key
    node.result("simulateTransaction", simulated(scval.to_int128(10**30)))
    found = await client.balance(holder, TOKEN, 5)
    assert (found.amount, found.height) == (10**30, 77)
    node.result("simulateTransaction", simulated(scval.to_int128(-1)))
    with pytest.raises(TokenRefused):
        await client.balance(holder, TOKEN, 5)


def test_no_withdrawal_and_no_trustline_of_a_token_is_begun() -> None:
    receiver = Keypair.random().public_key
    with pytest.raises(UnsupportedAsset):
        check_destination(TOKEN, receiver, NO_MEMO)
    with pytest.raises(NotATrustline):
        check_trustline(TOKEN, CHAIN, receiver)


@pytest.mark.parametrize("listed", [True, False])
async def test_a_deposit_of_a_listed_token_is_credited_by_its_tag(
    database: Database, tenant: TenantId, listed: bool
) -> None:
    desk = Desk(db=database, tenant=tenant, chain=CHAIN, keys=FakeKeyMaker())
    await desk.list_asset(parse_asset_id("stellar:devnet/native"), "XLM", 7)
    if listed:
        await desk.list_asset(TOKEN, "TOK", 18)
    ada = await desk.open_wallet("ada")
    vault = await desk.open_omnibus()
    to_ada = await desk.issue_address(ada)
    town = Town()
    payer, omnibus = town.settle("payer"), Keypair.from_raw_ed25519_seed(OMNIBUS_REQUEST.bytes * 2)
    assert omnibus.public_key == vault.account
    meta = payment(town, town.root, payer)
    tagged = scval.to_map(
        {
            scval.to_symbol("amount"): scval.to_int128(5 * 10**18),
            scval.to_symbol("to_muxed_id"): scval.to_uint64(to_ada.tag or 0),
        }
    )
    forged = xdr.SCVal(xdr.SCValType.SCV_STRING, str=xdr.SCString(CONTRACT.encode()))
    events_in(meta).extend(
        [
            token_event("transfer", [address(payer), address(omnibus)], tagged),
            token_event("transfer", [address(payer), address(omnibus)], i128(3)),
            # Another contract tells of the same token, and of this one's by name.
            token_event("transfer", [address(payer), address(omnibus)], i128(10**9), b"\x66" * 32),
            token_event("transfer", [address(payer), address(omnibus), forged], i128(10**9), b"\x66" * 32),
        ]
    )
    reader = LedgerReader(
        CHAIN, EventReader(town.network.passphrase, [CONTRACT]), build_watch(CHAIN, database), audit=True
    )
    assert meta.v2 is not None
    height = meta.v2.ledger_header.header.ledger_seq.uint32
    (facts,) = await reader.read([meta.to_xdr_bytes()], height)
    fence = await take_fence(database, CHAIN)
    async with database.unit_of_work(None) as uow:
        await cursor.advance(uow, CHAIN, fence, None, facts.ref)
        tally = await effects.observe_block(uow, CHAIN, facts)
    assert (tally.deposits, tally.unlisted) == ((2, 0) if listed else (0, 2))
    settled = await settling.settle(database, CHAIN, fence, facts.ref, Standing(reached=facts.ref.height))
    assert settled == settling.Settled(cases={"memo_missing": 1} if listed else {"unsupported_asset": 2})
    if listed:
        assert await desk.owed(ada, TOKEN) == 5 * 10**18
        assert await desk.suspended(TOKEN) == 3
        assert await desk.held(vault, TOKEN) == 5 * 10**18 + 3
