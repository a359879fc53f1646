"""The walk of a withdrawal: held, approved by a quorum, signed once, sent, seen on chain, settled. And its other ends."""

from __future__ import annotations

import pytest

from custody.db.session import Database
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.ids import TenantId
from custody.policy.model import Word
from custody.withdrawals import service as withdrawals
from tests.fakes.withdrawal_world import ETH, EVM, FUNDS, STELLAR, XLM, World
from tests.flows.told import actions_on, events_of


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


@pytest.mark.parametrize(("asset", "chain"), [(XLM, STELLAR), (ETH, EVM)])
async def test_a_withdrawal_is_paid_once(world: World, asset: AssetId, chain: ChainId) -> None:
    # Asking holds the amount: it is still the customer's, and cannot be spent twice.
    asked = await world.request(asset, 1000)
    assert asked.state == "awaiting_approval"
    assert (await world.money(asset))[:2] == (FUNDS, 1000)

    # One approval is not enough, and its author may not count twice.
    assert (await world.decide(asked, "alice")).state == "awaiting_approval"
    assert (await world.decide(asked, "alice")).state == "awaiting_approval"
    assert (await world.decide(asked, "bob")).state == "approved"

    # The worker reserves a sequence or nonce, has it signed, stores the bytes, sends them.
    assert await world.advance(asked) == "broadcasting"
    (attempt,) = (await world.view(asked)).attempts
    assert attempt.tx is not None
    assert attempt.state == "broadcast"

    # Running it again sends the same bytes at most, never others.
    await world.advance(asked)
    assert (await world.view(asked)).attempts[0].tx == attempt.tx

    # Only our own ingestion says that it is paid; then the hold is posted and the network's fee is booked.
    final = await world.ingest(chain)
    await world.ingest(chain, final=final)
    assert await world.state(asked) == "settled"
    wallet, held, vault, fees = await world.money(asset)
    assert (wallet, held) == (FUNDS - 1000, 0)
    assert fees > 0
    assert vault == FUNDS - 1000 - fees
    told = await events_of(world.db, world.tenant, asked.id)
    wanted = [
        "requested", "screening", "awaiting_approval", "approved", "signing", "broadcasting", "confirming", "settled",
    ]  # fmt: skip
    assert [name.removeprefix("withdrawal.") for name in told if name != "withdrawal.decided"] == wanted
    assert (await actions_on(world.db, world.tenant, asked.id))[0] == "withdrawal.request"


async def test_a_veto_releases_the_hold_and_no_key_is_touched(world: World) -> None:
    asked = await world.request(approve=["alice"])
    assert (await world.decide(asked, "carol", Word.REJECT)).state == "rejected"
    assert await world.advance(asked) == "rejected"
    assert (await world.money())[:2] == (FUNDS, 0)
    assert (await world.view(asked)).attempts == ()


async def test_an_unanswered_request_expires_and_releases_the_hold(world: World) -> None:
    asked = await world.request(approve=["alice"])
    world.clock.advance(world.settings.intent_valid_s + 1)
    async with world.db.unit_of_work(world.tenant) as uow:
        assert await withdrawals.expire_due(uow, world.clock.now()) == 1
    assert await world.state(asked) == "expired"
    assert (await world.money())[:2] == (FUNDS, 0)
