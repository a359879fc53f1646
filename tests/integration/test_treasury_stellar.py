"""Stellar vaults get the lines of listed assets and stay above their reserve by themselves, each request made once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from custody.assets import service as assets
from custody.db.session import Database
from custody.deposits import execution as deposits
from custody.holdings import service as holdings
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId, WithdrawalId, derived_uuid
from custody.settings import TreasurySettings
from custody.treasury import execution as treasury
from custody.treasury import service
from custody.treasury.model import Target
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from custody.withdrawals import service as withdrawals
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served, serve_in_thread
from tests.fakes.withdrawal_world import make_decision
from tests.integration.channel_stage import CHAIN, WALLET, Stage, StageClock, make_network, open_stage

pytestmark = pytest.mark.usefixtures("told_as_promised")

RESERVE, MARGIN, BASE_FEE = 10_000_000, 5_000_000, 100


@pytest.fixture
def clock() -> StageClock:
    return StageClock()


@pytest.fixture
def served(clock: StageClock) -> Iterator[Served]:
    with serve_in_thread(make_network(clock)) as running:
        yield running


@pytest.fixture
def outsider(served: Served) -> Iterator[Outsider]:
    with Outsider(served.url, drive=True) as client:
        yield client


@pytest.fixture
async def stage(
    database: Database,
    tenant: TenantId,
    served: Served,
    outsider: Outsider,
    tmp_path: Path,
    clock: StageClock,
) -> AsyncIterator[Stage]:
    opened = await open_stage(database, tenant, served, outsider, tmp_path, clock)
    chosen = TreasurySettings(trustlines=True, reserve_margin_stroops=MARGIN)
    settings = opened.means.settings.model_copy(update={"treasury": chosen})
    opened.means = replace(opened.means, settings=settings)
    yield opened
    await opened.aclose()


async def tend(stage: Stage) -> list[WithdrawalId]:
    """One round; a second one at once asks for nothing."""
    asked = await treasury.tend(stage.means, stage.signer, stage.tenant)
    assert await treasury.tend(stage.means, stage.signer, stage.tenant) == []
    return asked


async def approve(stage: Stage, withdrawal_id: WithdrawalId) -> None:
    async with stage.db.unit_of_work(stage.tenant) as uow:
        made = await withdrawals.get(uow, withdrawal_id)
        for name in ("alice", "bob"):
            await withdrawals.decide(uow, made.id, make_decision(made.intent, name))
    await stage.settle_all()


async def test_a_new_vault_is_opened_gets_its_line_and_is_kept_above_its_reserve(stage: Stage) -> None:
    warm: Vault = await deposits.create_vault(
        stage.db, stage.signer, stage.principal, CHAIN, derived_uuid("warm"), "warm"
    )
    issued = stage.outsider.issue_asset("USDC")
    asset = parse_asset_id(f"{CHAIN}/USDC:{issued.issuer.public_key}")
    async with stage.db.unit_of_work(None) as uow:
        await assets.register(uow, asset, "USDC", 7)

    # The account of the warm vault comes first; the omnibus vault can have its line at once.
    opening, line = [await stage.get(each) for each in await tend(stage)]
    assert (opening.kind, opening.into_id, opening.amount) == ("refill", warm.id, RESERVE + 2 * MARGIN)
    assert (line.kind, line.vault_id, line.state) == ("change_trust", stage.omnibus.id, "awaiting_approval")
    await approve(stage, line.id)
    assert await stage.booked(warm.id) == RESERVE + 2 * MARGIN

    (line_of_warm,) = [await stage.get(each) for each in await tend(stage)]
    assert (line_of_warm.kind, line_of_warm.vault_id) == ("change_trust", warm.id)
    await approve(stage, line_of_warm.id)

    # The line has raised what must stay by half a lumen, and its fee was paid: the margin is filled up again, once.
    (refill,) = [await stage.get(each) for each in await tend(stage)]
    assert (refill.into_id, refill.amount) == (warm.id, RESERVE // 2 + BASE_FEE)
    await stage.settle_all()
    assert await tend(stage) == []
    async with stage.db.read(stage.tenant) as session:
        kept = await holdings.list_holdings(session, [stage.omnibus.id, warm.id])
    assert {each.vault_id for each in kept if each.state.asset == asset and each.state.exists} == {
        stage.omnibus.id,
        warm.id,
    }
    await stage.demand_books_equal_chain()

    # What the hot vault has too much of goes to the warm one, now that it has the line.
    async with stage.db.unit_of_work(stage.tenant) as uow:
        levels = Target(purpose="omnibus", asset=asset, low=10, target=200, high=300)
        await service.set_target(uow, "operator", levels)
        address = (await wallets.list_addresses(uow, WALLET))[0].address
    stage.outsider.pay(issued.issuer, address, 500, asset=issued.asset)
    await stage.close()
    (out,) = [await stage.get(each) for each in await tend(stage)]
    assert (out.kind, out.into_id, out.amount, out.state) == ("refill", warm.id, 300, "awaiting_approval")
    await approve(stage, out.id)
    async with stage.db.read(stage.tenant) as session:
        found = {
            each.vault.purpose: each.posted
            for each in await service.standings(session)
            if each.asset == asset
        }
    assert found == {"omnibus": 200, "warm": 300}
    assert await tend(stage) == []
    await stage.demand_books_equal_chain()


async def test_a_line_that_people_refuse_is_asked_for_again_after_a_while(stage: Stage) -> None:
    issued = stage.outsider.issue_asset("USDC")
    async with stage.db.unit_of_work(None) as uow:
        await assets.register(uow, parse_asset_id(f"{CHAIN}/USDC:{issued.issuer.public_key}"), "USDC", 7)
    (line,) = await tend(stage)
    async with stage.db.unit_of_work(stage.tenant) as uow:
        await withdrawals.cancel(uow, stage.principal, line)
    assert await tend(stage) == []
    stage.clock.ahead_s += 61
    (again,) = await tend(stage)
    assert again != line
