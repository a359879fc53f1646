"""The walk of money that names nobody: from a real (local) ledger into suspense, with a case, and out by a person's word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from stellar_sdk import (
    Asset,
    Claimant,
    CreateClaimableBalance,
    HashMemo,
    IdMemo,
    Keypair,
    ManageData,
    Payment,
    ReturnHashMemo,
    TextMemo,
)

from custody.chains.jsonrpc import JsonRpc
from custody.chains.stellar.rpc import StellarRpc
from custody.db.session import Database
from custody.deposits import cases, execution
from custody.deposits.execution import parse_address_memo
from custody.deposits.model import DepositCase, DepositRule
from custody.kernel.assetid import ChainId, native, parse_asset_id
from custody.kernel.ids import TenantId, WalletId, derived_uuid
from devnet.stellar.network import LocalNetwork
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served, serve_in_thread
from ingestion.stellar.sources import RpcLedgers
from tests.fakes.key_maker import FakeKeyMaker
from tests.flows.told import actions_on, events_of
from tests.integration.ingestion_harness import (
    OMNIBUS_REQUEST,
    Desk,
    build_loop,
    catch_up,
    open_ledgers,
    take_fence,
)

CHAIN = ChainId("stellar:devnet")
XLM = native(CHAIN)
FUNDED = 10_000 * 10**7
"""What the network's faucet gives: it names nobody."""


@pytest.fixture
def served() -> Iterator[Served]:
    with serve_in_thread(LocalNetwork()) as running:
        yield running


@pytest.fixture
async def source(served: Served, database: Database) -> AsyncIterator[RpcLedgers]:
    opened = open_ledgers(CHAIN, served.url, served.network.passphrase, database)
    yield opened
    await opened.aclose()


@pytest.fixture
async def desk(database: Database, tenant: TenantId) -> Desk:
    made = Desk(db=database, tenant=tenant, chain=CHAIN, keys=FakeKeyMaker())
    await made.list_asset(XLM, "XLM", 7)
    return made


async def register(desk: Desk, wallet_id: WalletId, memo_type: str, value: str) -> None:
    memo = parse_address_memo(CHAIN, memo_type, value)
    request_id = derived_uuid("memo", memo_type, value)
    await execution.issue_address(desk.db, desk.keys, desk.principal, wallet_id, CHAIN, request_id, memo)


async def unsettled(desk: Desk) -> dict[int, DepositCase]:
    """Cases by amount; suspense is what they say, or this raises."""
    async with desk.db.read(desk.tenant) as session:
        assert await cases.differences(session) == {}
        found = await cases.list_cases(session)
    return {case.amount: case for case in found}


async def test_every_kind_of_memo_finds_its_wallet_or_a_case(
    desk: Desk, source: RpcLedgers, served: Served
) -> None:
    ada, bob = await desk.open_wallet("ada"), await desk.open_wallet("bob")
    vault = await desk.open_omnibus()
    address = await desk.issue_address(ada)
    await register(desk, bob, "text", "ACME-žluť")
    await register(desk, bob, "hash", "ab" * 32)
    await register(desk, bob, "return", "cd" * 32)

    def pay() -> None:
        with Outsider(served.url, drive=True) as outsider:
            outsider.fund(vault.account)
            payer = outsider.new_account()
            outsider.pay(payer, address.address, 1)
            outsider.pay(payer, vault.account, 2, memo=IdMemo(address.tag))
            outsider.pay(payer, vault.account, 4, memo=TextMemo(str(address.tag)))
            outsider.pay(payer, vault.account, 10, memo=TextMemo("ACME-žluť"))
            outsider.pay(payer, vault.account, 20, memo=HashMemo("ab" * 32))
            # The chain does not tell a hash from a return memo (CAP-67): either finds a wallet registered by the other.
            outsider.pay(payer, vault.account, 40, memo=ReturnHashMemo("ab" * 32))
            outsider.pay(payer, vault.account, 80, memo=ReturnHashMemo("cd" * 32))
            # The muxed id counts, and the memo beside it does not: not even one that is registered.
            outsider.pay(payer, address.address, 8, memo=TextMemo("ACME-žluť"))
            # One memo covers all of a transaction's operations.
            twice = [Payment(vault.account, Asset.native(), amount) for amount in ("0.0000100", "0.0000200")]
            outsider.send(payer, twice, memo=TextMemo("ACME-žluť"))
            outsider.pay(payer, vault.account, 1001, memo=TextMemo(b"ACME-\xff"))
            outsider.pay(payer, vault.account, 1002, memo=IdMemo(999))
            outsider.pay(payer, vault.account, 1003)

    await asyncio.to_thread(pay)
    await catch_up(build_loop(desk.db, source, await take_fence(desk.db, CHAIN)))
    assert await desk.owed(ada, XLM) == 1 + 2 + 4 + 8
    assert await desk.owed(bob, XLM) == 10 + 20 + 40 + 80 + 100 + 200
    found = await unsettled(desk)
    assert {amount: case.reason.value for amount, case in found.items()} == {
        FUNDED: "memo_missing",
        1001: "unknown_memo",
        1002: "unknown_memo",
        1003: "memo_missing",
    }
    kept = {each.transfer.amount: each.transfer.memo for each in await desk.deposits()}
    assert kept[1001] == "bytes:" + b"ACME-\xff".hex()


async def test_a_vault_that_asks_for_memos_says_so_on_chain(desk: Desk, served: Served) -> None:
    vault = await desk.open_omnibus()
    client = StellarRpc(CHAIN, JsonRpc(served.url), served.network.passphrase)
    key = Keypair.from_raw_ed25519_seed(OMNIBUS_REQUEST.bytes * 2)

    def write(name: str, value: str | None) -> None:
        with Outsider(served.url, drive=True) as outsider:
            outsider.send(key, [ManageData(name, value)])

    def fund() -> None:
        with Outsider(served.url, drive=True) as outsider:
            outsider.fund(vault.account)

    told = [await client.requires_memo(vault.account)]
    await asyncio.to_thread(fund)
    for name, value in (
        ("config.memo_required", "0"), ("config.memo_required", "1"), ("other", "1"), ("config.memo_required", None),
    ):  # fmt: skip
        await asyncio.to_thread(write, name, value)
        told.append(await client.requires_memo(vault.account))
    await client.aclose()
    assert told == [False, False, True, True, False]


async def test_a_person_names_the_wallet_and_the_money_is_there(
    database: Database, tenant: TenantId, desk: Desk, source: RpcLedgers, served: Served
) -> None:
    ada = await desk.open_wallet("ada")
    vault = await desk.open_omnibus()

    def pay() -> None:
        with Outsider(served.url, drive=True) as outsider:
            outsider.fund(vault.account)
            outsider.pay(outsider.new_account(), vault.account, 700, memo=TextMemo("for Ada"))

    await asyncio.to_thread(pay)
    loop = build_loop(database, source, await take_fence(database, CHAIN))
    await catch_up(loop)
    case = (await unsettled(desk))[700]
    assert await desk.suspended(XLM) == FUNDED + 700
    async with database.unit_of_work(tenant) as uow:
        await cases.assign(uow, "olga", case.id, ada, "ticket 7")
    assert (await unsettled(desk))[700].state == "assigned"
    assert (await desk.owed(ada, XLM), await desk.suspended(XLM)) == (700, FUNDED)
    assert await desk.held(vault, XLM) == FUNDED + 700
    assert await events_of(database, tenant, case.id) == ["case.opened", "case.assigned"]
    assert await actions_on(database, tenant, case.id) == ["case.open", "case.assign"]
    told = await events_of(database, tenant, case.deposit_id)
    assert told == ["deposit.observed", "deposit.suspended", "deposit.credited"]

    # Ingestion that begins anew finds everything done.
    await catch_up(build_loop(database, source, await take_fence(database, CHAIN)))
    assert (await desk.owed(ada, XLM), await desk.suspended(XLM)) == (700, FUNDED)


async def test_rules_spam_and_unlisted_assets_stop_nobody(
    desk: Desk, source: RpcLedgers, served: Served
) -> None:
    ada = await desk.open_wallet("ada")
    vault = await desk.open_omnibus()
    address = await desk.issue_address(ada)
    async with desk.db.unit_of_work(desk.tenant) as uow:
        await cases.set_rule(uow, "olga", XLM, DepositRule(minimum=1000, dust=10))
    key = Keypair.from_raw_ed25519_seed(OMNIBUS_REQUEST.bytes * 2)

    def pay() -> str:
        with Outsider(served.url, drive=True) as outsider:
            outsider.fund(vault.account)
            payer = outsider.new_account()
            outsider.pay(payer, address.address, 999)
            outsider.pay(payer, address.address, 1000)
            outsider.pay(payer, vault.account, 1, memo=TextMemo("claim at http://evil"))
            issued = outsider.issue_asset("USDC")
            outsider.trust(key, issued.asset)
            outsider.pay(issued.issuer, address.address, 5000, asset=issued.asset)
            # Claimable balances name whomever their maker likes: nothing arrives until somebody claims.
            claimants = [Claimant(vault.account)]
            outsider.send(issued.issuer, [CreateClaimableBalance(issued.asset, "7", claimants)])
            outsider.send(payer, [CreateClaimableBalance(Asset.native(), "7", claimants)])
            return issued.issuer.public_key

    usdc = parse_asset_id(f"stellar:devnet/USDC:{await asyncio.to_thread(pay)}")
    loop = build_loop(desk.db, source, await take_fence(desk.db, CHAIN))
    await catch_up(loop)
    assert (await desk.owed(ada, XLM), await desk.owed(ada, usdc)) == (1000, 0)
    found = await unsettled(desk)
    assert {amount: (case.reason.value, case.state) for amount, case in found.items()} == {
        FUNDED: ("memo_missing", "open"),
        999: ("below_minimum", "open"),
        1: ("dust", "ignored"),
        5000: ("unsupported_asset", "open"),
    }
    assert (found[999].named_wallet_id, found[5000].named_wallet_id) == (ada, ada)
    counted = loop._metrics.text().decode()
    assert 'deposit_cases_total{chain="stellar:devnet",reason="dust"} 1.0' in counted

    await desk.list_asset(usdc, "USDC", 7)
    served.network.close()
    await catch_up(loop)
    assert await desk.owed(ada, usdc) == 5000
    assert (await unsettled(desk))[5000].state == "listed"
