"""Tokens that lie, through the worker's loop on a real anvil: what did not arrive is not credited, and somebody is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from custody.chains.evm.address import checksum
from custody.db.session import Database
from custody.deposits import cases
from custody.deposits.model import DepositCase, DepositRule, Reason
from custody.holdings import service as holdings
from custody.kernel.assetid import AssetId
from custody.kernel.ids import TenantId
from custody.wallets import service as wallets
from devnet.evm import Outsider
from ingestion import notices
from tests.fakes.contracts import call_data, deploy, invoke
from tests.fakes.key_maker import FakeKeyMaker
from tests.integration.evm_stage import CHAIN, Run, node, outsider, run
from tests.integration.ingestion_harness import Desk, catch_up
from tests.integration.test_ingestion_evm_movements import customers, settle, start

__all__ = ["node", "outsider", "run"]

pytestmark = pytest.mark.stack


@pytest.fixture
async def desk(database: Database, tenant: TenantId) -> Desk:
    """A tenant with a pool."""
    made = Desk(db=database, tenant=tenant, chain=CHAIN, keys=FakeKeyMaker())
    await made.open_omnibus()
    return made


PAY = "transfer(address,uint256)"
CASES: list[tuple[str, str, tuple[Any, ...], int, list[str]]] = [
    ("Token", PAY, (500,), 500, []),
    ("Token", PAY, (0,), 0, []),
    ("SilentToken", PAY, (500,), 500, []),
    ("ReentrantToken", PAY, (500,), 500, []),
    ("FalseToken", PAY, (500,), 500, []),
    ("FalseToken", PAY, (5_000,), 0, []),
    ("FeeToken", PAY, (500,), 0, ["token_fee_on_transfer"]),
    ("RebasingToken", "transferAndRebase(address,uint256,uint256)", (500, 150), 0, ["token_rebasing"]),
    ("RebasingToken", "transferAndRebase(address,uint256,uint256)", (500, 50), 0, ["token_fee_on_transfer"]),
    ("RebasingToken", PAY, (500,), 500, []),
]
"""Contract, call, its arguments after the receiver, what is credited, what is told. The sender holds 1,000."""


@pytest.mark.parametrize(
    ("name", "call", "args", "credited", "told"),
    CASES,
    ids=[f"{case[0]} {case[1].partition('(')[0]} {case[2]}" for case in CASES],
)
async def test_a_token_is_credited_when_the_balance_agrees_with_the_event(
    desk: Desk,
    node: str,
    outsider: Outsider,
    name: str,
    call: str,
    args: tuple[Any, ...],
    credited: int,
    told: list[str],
) -> None:
    loop, source = await start(desk, node)
    ada, at_ada = (await customers(desk))["ada"]
    token = await deploy(outsider, name)
    asset = AssetId(CHAIN, f"erc20:{token}")
    await desk.list_asset(asset, "TKN", 6)
    await invoke(outsider, token, "mint(address,uint256)", await outsider.address(), 1_000)
    await invoke(outsider, token, call, at_ada, *args)
    with capture_logs() as logs:
        await settle(loop, outsider)
    assert await desk.owed(ada, asset) == credited
    assert _told(logs) == told
    if not told:
        assert await outsider.token_balance(token, at_ada) == credited
    await source.aclose()


@pytest.mark.parametrize("back", [False, True], ids=["one event", "two events that cancel out"])
async def test_an_event_that_moved_nothing_credits_nobody(
    desk: Desk, node: str, outsider: Outsider, back: bool
) -> None:
    loop, source = await start(desk, node)
    ada, at_ada = (await customers(desk))["ada"]
    token = await deploy(outsider, "LiarToken")
    asset = AssetId(CHAIN, f"erc20:{token}")
    await desk.list_asset(asset, "LIE", 6)
    me, stranger = checksum(await outsider.address()), "0x" + "12" * 20
    await outsider.call("evm_setAutomine", False)
    pretend = "pretend(address,address,uint256)"
    sides = [(stranger, at_ada)] + ([(at_ada, stranger)] if back else [])
    for source_of, to in sides:
        await _queue(outsider, me, token, pretend, source_of, to, 700)
    await outsider.mine()
    await outsider.call("evm_setAutomine", True)
    with capture_logs() as logs:
        await settle(loop, outsider)
    assert await desk.owed(ada, asset) == 0
    assert await desk.deposits() == []
    assert _told(logs) == ["token_departed" if back else "token_event_only"]
    await source.aclose()


async def test_a_contract_that_tells_no_balance_credits_nobody(
    desk: Desk, node: str, outsider: Outsider
) -> None:
    """A proxy that lost its code answers nothing; its old events are believed no longer."""
    loop, source = await start(desk, node)
    ada, at_ada = (await customers(desk))["ada"]
    proxy = await deploy(outsider, "UpgradeableProxy", await deploy(outsider, "LiarToken"))
    asset = AssetId(CHAIN, f"erc20:{proxy}")
    await desk.list_asset(asset, "PRX", 6)
    await catch_up(loop)
    me = checksum(await outsider.address())
    await outsider.call("evm_setAutomine", False)
    await _queue(outsider, me, proxy, "pretend(address,address,uint256)", me, at_ada, 7)
    await _queue(outsider, me, proxy, "upgradeSilently(address)", "0x" + "12" * 20)
    await outsider.mine()
    await outsider.call("evm_setAutomine", True)
    with capture_logs() as logs:
        await settle(loop, outsider)
    assert await desk.owed(ada, asset) == 0
    assert _told(logs) == ["token_unreadable", "token_upgraded"]
    await source.aclose()


async def test_an_upgrade_and_other_decimals_of_a_listed_token_raise_an_alarm(
    desk: Desk, node: str, outsider: Outsider
) -> None:
    loop, source = await start(desk, node)
    ada, at_ada = (await customers(desk))["ada"]
    first, second = await deploy(outsider, "Token"), await deploy(outsider, "Token")
    listed = await deploy(outsider, "UpgradeableProxy", first)
    unlisted = await deploy(outsider, "UpgradeableProxy", first)
    asset = AssetId(CHAIN, f"erc20:{listed}")
    await desk.list_asset(asset, "PRX", 8)
    with capture_logs() as logs:
        await invoke(outsider, unlisted, "upgradeTo(address)", second)
        await invoke(outsider, listed, "upgradeTo(address)", second)
        await settle(loop, outsider)
    # The first is the proxy's own beginning, in a block that was read after it was listed.
    assert _told(logs) == ["token_upgraded", "token_upgraded"]
    with capture_logs() as logs:
        await invoke(outsider, listed, "mint(address,uint256)", at_ada, 30)
        await settle(loop, outsider)
    assert _told(logs) == ["token_decimals_changed"]
    assert await desk.owed(ada, asset) == 30
    await source.aclose()


async def test_notices_are_rows_and_an_alarm_lasts_until_somebody_has_seen_it(
    desk: Desk, node: str, outsider: Outsider, run: Run
) -> None:
    loop, source = await start(desk, node)
    _, at_ada = (await customers(desk))["ada"]
    first, second = await deploy(outsider, "Token"), await deploy(outsider, "Token")
    proxy = await deploy(outsider, "UpgradeableProxy", first)
    await desk.list_asset(AssetId(CHAIN, f"erc20:{proxy}"), "PRX", 6)
    fee = await deploy(outsider, "FeeToken")
    await desk.list_asset(AssetId(CHAIN, f"erc20:{fee}"), "FEE", 6)
    await catch_up(loop)
    await invoke(outsider, proxy, "upgradeTo(address)", second)
    await invoke(outsider, fee, "mint(address,uint256)", await outsider.address(), 1_000)
    snapshot = await outsider.call("evm_snapshot")
    await invoke(outsider, fee, PAY, at_ada, 500)
    await catch_up(loop)
    code, told, _ = await run("notices", "--chain", CHAIN, "--json")
    rows = [json.loads(line) for line in told.splitlines()]
    assert (code, [each["code"] for each in rows]) == (
        0,
        ["token_fee_on_transfer", "token_upgraded", "token_upgraded"],
    )
    assert (rows[0]["account"], rows[0]["reported"], rows[0]["found"]) == (at_ada, "500", "495")
    _, told, _ = await run("status", "--json")
    assert "token_upgraded" in [each["code"] for each in json.loads(told)["chains"][0]["alarms"]]
    for each in rows[1:]:
        assert (await run("seen", each["id"], "--chain", CHAIN, "--note", "meant so"))[0] == 0
    assert (await run("seen", "ntc_" + "0" * 32, "--chain", CHAIN))[0] == 2
    _, told, _ = await run("status", "--json")
    assert "token_upgraded" not in [each["code"] for each in json.loads(told)["chains"][0]["alarms"]]
    assert "token_fee_on_transfer" in (await run("notices", "--chain", CHAIN))[1]
    # Read again they are the same; of a block that the chain has left they stay, and say so.
    await outsider.call("evm_revert", snapshot)
    await outsider.mine(6)
    await catch_up(loop)
    _, told, _ = await run("notices", "--chain", CHAIN, "--all", "--json")
    found = [json.loads(line) for line in told.splitlines()]
    assert [(each["code"], each["replaced"], each["note"]) for each in found] == [
        ("token_fee_on_transfer", True, ""),
        ("token_upgraded", False, "meant so"),
        ("token_upgraded", False, "meant so"),
    ]
    await source.aclose()


async def test_what_a_fee_token_really_brought_is_a_case_where_the_rule_marks_it(
    desk: Desk, node: str, outsider: Outsider
) -> None:
    loop, source = await start(desk, node)
    ada, at_ada = (await customers(desk))["ada"]
    token = await deploy(outsider, "FeeToken")
    asset = AssetId(CHAIN, f"erc20:{token}")
    await desk.list_asset(asset, "FEE", 6)
    async with desk.db.unit_of_work(desk.tenant) as uow:
        await cases.set_rule(uow, "olga", asset, DepositRule(distrusted="mark"))
    await catch_up(loop)
    await invoke(outsider, token, "mint(address,uint256)", await outsider.address(), 1_000)
    paid = await invoke(outsider, token, PAY, at_ada, 500)
    await settle(loop, outsider)
    (case,) = await _cases(desk)
    (deposit,) = await desk.deposits()
    assert (case.reason, case.state, case.amount) == (Reason.DISTRUSTED, "open", 495)
    assert (deposit.state, deposit.transfer.tx_hash) == ("suspended", paid.tx_hash)
    assert deposit.transfer.source == checksum(await outsider.address())
    assert (await desk.owed(ada, asset), await desk.suspended(asset)) == (0, 495)
    async with desk.db.unit_of_work(desk.tenant) as uow:
        assert await holdings.count_breaks(uow, CHAIN) == 0
        await cases.assign(uow, "olga", case.id, ada, "a fee of the token's own")
    assert (await desk.owed(ada, asset), await outsider.token_balance(token, at_ada)) == (495, 495)
    await source.aclose()


async def test_refused_tokens_are_a_break_because_the_chain_holds_them(
    desk: Desk, node: str, outsider: Outsider
) -> None:
    loop, source = await start(desk, node)
    _, at_ada = (await customers(desk))["ada"]
    token = await deploy(outsider, "FeeToken")
    asset = AssetId(CHAIN, f"erc20:{token}")
    await desk.list_asset(asset, "FEE", 6)
    await invoke(outsider, token, "mint(address,uint256)", await outsider.address(), 1_000)
    await invoke(outsider, token, PAY, at_ada, 500)
    await settle(loop, outsider)
    async with desk.db.read(desk.tenant) as session:
        found = [each for _, each in await holdings.list_breaks(session)]
    assert [(each.state, each.opened.asset, each.opened.difference) for each in found] == [
        ("open", asset, -495)
    ]
    assert await _cases(desk) == []
    await source.aclose()


async def test_look_alikes_and_poisoned_addresses_stay_unlisted_and_unknown(
    desk: Desk, node: str, outsider: Outsider
) -> None:
    """Who sends nothing, or a token of the same name, from an address that looks like a known one, becomes known by neither."""
    loop, source = await start(desk, node)
    ada, at_ada = (await customers(desk))["ada"]
    real, alike = await deploy(outsider, "Token"), await deploy(outsider, "Token")
    asset = AssetId(CHAIN, f"erc20:{real}")
    await desk.list_asset(asset, "TKN", 6)
    me = checksum(await outsider.address())
    for token in (real, alike):
        await invoke(outsider, token, "mint(address,uint256)", me, 1_000)
        # Anybody may move nothing in anybody's name.
        await invoke(outsider, token, "transferFrom(address,address,uint256)", at_ada, me, 0)
        await invoke(outsider, token, PAY, at_ada, 0)
    await invoke(outsider, alike, PAY, at_ada, 700)
    await settle(loop, outsider)
    (case,) = await _cases(desk)
    assert (case.state, case.reason, case.asset) == (
        "ignored",
        Reason.UNSUPPORTED_ASSET,
        AssetId(CHAIN, f"erc20:{alike}"),
    )
    assert [each.state for each in await desk.deposits()] == ["unlisted"]
    assert await desk.owed(ada, asset) == 0
    async with desk.db.read(desk.tenant) as session:
        vaults = [each.id for each in await wallets.list_vaults(session)]
        kept = await holdings.list_holdings(session, vaults)
        assert await notices.list_notices(session, CHAIN) == []
    assert all(each.state.asset.is_native for each in kept)
    assert [each.state.amount for each in kept] == [0] * len(kept)
    await source.aclose()


async def _cases(desk: Desk) -> list[DepositCase]:
    async with desk.db.read(desk.tenant) as session:
        return await cases.list_cases(session)


async def _queue(outsider: Outsider, sender: str, to: str, signature: str, *args: Any) -> None:
    """Send without waiting: several transactions shall be in one block. Gas is given, because estimates would not fit."""
    data = call_data(signature, *args)
    await outsider.call("eth_sendTransaction", {"from": sender, "to": to, "data": data, "gas": hex(200_000)})


def _told(logs: list[Any]) -> list[str]:
    return [
        str(each["event"]).removeprefix("ingestion.")
        for each in logs
        if str(each["event"]).startswith(
            ("ingestion.token_", "ingestion.unattributed", "ingestion.unexplained")
        )
    ]
