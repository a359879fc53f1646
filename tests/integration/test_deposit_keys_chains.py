"""An address exists on every EVM chain; where it is not enabled, what arrives waits in suspense, once, and never vanishes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from custody.chains.evm.address import checksum
from custody.db.session import Database
from custody.deposits import cases, execution
from custody.deposits.model import DepositCase, Reason
from custody.holdings import service as holdings
from custody.kernel.assetid import ChainId, parse_asset_id
from custody.kernel.ids import TenantId, WalletId, new_uuid
from custody.wallets import keys as pool
from custody.wallets import service as wallets
from devnet.evm import Outsider
from ingestion.evm.worker import build_source
from ingestion.loop import Loop
from ingestion.ports import ChainSource
from tests.fakes.key_maker import FakeKeyMaker
from tests.integration.evm_stage import CHAIN, ETH, evm_settings, node, outsider
from tests.integration.ingestion_harness import Desk, build_loop, catch_up, decide_halt, take_fence

__all__ = ["node", "outsider"]

pytestmark = pytest.mark.stack
ELSEWHERE = ChainId("eip155:8453")
"""Another EVM chain, on which wallets get their address first."""
CONFIRMATIONS = 1


@pytest.fixture
async def desk(database: Database, tenant: TenantId) -> Desk:
    made = Desk(db=database, tenant=tenant, chain=CHAIN, keys=FakeKeyMaker())
    await made.list_asset(ETH, "ETH", 18)
    await made.fill_pool(batch_size=4)
    return made


@pytest.fixture
async def source(node: str, desk: Desk) -> AsyncIterator[ChainSource]:
    opened = build_source(evm_settings(node, confirmations=CONFIRMATIONS), desk.db)
    yield opened
    await opened.aclose()


async def start(desk: Desk, source: ChainSource) -> Loop:
    await source.verify_network()
    return build_loop(desk.db, source, await take_fence(desk.db, CHAIN), confirmations=CONFIRMATIONS)


async def enable(desk: Desk, wallet: WalletId, chain: ChainId) -> str:
    """The wallet's address, credited on this chain from now on."""
    issued = await execution.issue_address(desk.db, desk.keys, desk.principal, wallet, chain, new_uuid())
    return issued.address


async def open_cases(desk: Desk) -> list[DepositCase]:
    async with desk.db.read(desk.tenant) as session:
        assert await cases.differences(session) == {}
        assert await holdings.count_breaks(session, CHAIN) == 0
        return await cases.list_cases(session, states=("open",))


async def settle(outsider: Outsider, loop: Loop) -> None:
    await outsider.mine(CONFIRMATIONS)
    await catch_up(loop)


async def test_what_arrives_where_the_address_is_not_enabled_waits_for_a_person_and_is_credited_once(
    desk: Desk, source: ChainSource, outsider: Outsider
) -> None:
    loop = await start(desk, source)
    token = checksum(await outsider.deploy_token())
    usd = parse_asset_id(f"{CHAIN}/erc20:{token}")
    await desk.list_asset(usd, "TUSD", 6)
    ada = await desk.open_wallet("ada")
    address = await enable(desk, ada, ELSEWHERE)
    await outsider.send_ether(address, 10**18)
    await outsider.mint(token, address, 700)
    await settle(outsider, loop)
    assert [each.state for each in await desk.deposits()] == ["suspended", "suspended"]
    assert (await desk.suspended(ETH), await desk.suspended(usd)) == (10**18, 700)
    ether, tokens = await open_cases(desk)
    for case in (ether, tokens):
        assert (case.reason, case.named_wallet_id) == (Reason.CHAIN_NOT_ENABLED, ada)
    assert (await desk.owed(ada, ETH), await desk.owed(ada, usd)) == (0, 0)
    async with desk.db.read(desk.tenant) as session:
        (there,) = await wallets.list_vaults(session, CHAIN)
        assert (there.purpose, there.wallet_id, there.account) == ("deposit", None, address)
    # A person gives one of them to the wallet. Then the chain is enabled, which moves nothing by itself.
    async with desk.db.unit_of_work(desk.tenant) as uow:
        await cases.assign(uow, "operator", ether.id, ada, "the customer asked")
    assert await enable(desk, ada, CHAIN) == address
    await settle(outsider, loop)
    assert (await desk.owed(ada, ETH), await desk.owed(ada, usd)) == (10**18, 0)
    assert [case.id for case in await open_cases(desk)] == [tokens.id]
    # From now on it is credited by itself.
    await outsider.send_ether(address, 5)
    await settle(outsider, loop)
    assert await desk.owed(ada, ETH) == 10**18 + 5
    async with desk.db.unit_of_work(desk.tenant) as uow:
        await cases.assign(uow, "operator", tokens.id, ada)
    assert (await desk.owed(ada, usd), await desk.suspended(usd)) == (700, 0)
    assert await open_cases(desk) == []


async def test_an_address_enabled_between_arrival_and_finality_is_credited_once(
    desk: Desk, source: ChainSource, outsider: Outsider
) -> None:
    loop = await start(desk, source)
    ada = await desk.open_wallet("ada")
    address = await enable(desk, ada, ELSEWHERE)
    await outsider.send_ether(address, 7)
    await catch_up(loop)
    assert [each.state for each in await desk.deposits()] == ["observed"]
    await enable(desk, ada, CHAIN)
    await settle(outsider, loop)
    assert (await desk.owed(ada, ETH), await desk.suspended(ETH)) == (7, 0)
    assert await open_cases(desk) == []


async def test_a_reorganisation_takes_what_was_suspended_back(
    desk: Desk, source: ChainSource, outsider: Outsider
) -> None:
    loop = await start(desk, source)
    address = await enable(desk, await desk.open_wallet("ada"), ELSEWHERE)
    await outsider.send_ether(address, 7)
    await settle(outsider, loop)
    assert len(await open_cases(desk)) == 1
    await outsider.call("anvil_reorg", 2, [])
    await settle(outsider, loop)
    # It was final: a person has to look.
    assert [each.state for each in await desk.deposits()] == ["suspended"]
    await decide_halt(desk.db, CHAIN, follow=True)
    await settle(outsider, loop)
    assert [each.state for each in await desk.deposits()] == ["reversed"]
    assert await desk.suspended(ETH) == 0
    assert await open_cases(desk) == []


async def test_money_for_an_address_that_nobody_was_given_is_seen_and_its_later_holder_is_not_credited(
    desk: Desk, source: ChainSource, outsider: Outsider
) -> None:
    loop = await start(desk, source)
    async with desk.db.read(desk.tenant) as session:
        free = {key.account: key for key in await pool.list_keys(session, "", 10)}
    for account in free:
        await outsider.send_ether(account, 9)
    await settle(outsider, loop)
    found = await open_cases(desk)
    assert {(case.reason, case.named_wallet_id) for case in found} == {(Reason.UNATTRIBUTED, None)}
    assert len(found) == len(free)
    ada = await desk.open_wallet("ada")
    address = await enable(desk, ada, CHAIN)
    assert address in free
    await settle(outsider, loop)
    assert (await desk.owed(ada, ETH), await desk.suspended(ETH)) == (0, 9 * len(free))
    await outsider.send_ether(address, 1)
    await settle(outsider, loop)
    assert await desk.owed(ada, ETH) == 1
    assert len(await open_cases(desk)) == len(free)
