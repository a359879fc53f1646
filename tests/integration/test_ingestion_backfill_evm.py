"""Backfill on a chain that reorganises: old deposits are final at once, young ones wait, replaced blocks are never booked."""

from __future__ import annotations

import asyncio

import pytest

from custody.deposits.service import NO_CAUTION
from custody.kernel.ids import VaultId, derived_uuid
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from devnet.evm import Outsider
from ingestion.backfill import store
from ingestion.backfill.model import Backfill
from ingestion.backfill.run import fill, fill_chunk
from ingestion.effects import Tally
from ingestion.errors import InconsistentNode
from ingestion.loop import Loop
from ingestion.ports import ChainSource
from tests.fakes.key_maker import FakeKeyMaker
from tests.integration.ingestion_harness import Desk, catch_up
from tests.integration.test_ingestion_evm import (
    CHAIN,
    CONFIRMATIONS,
    ETH,
    desk,
    node,
    outsider,
    source,
    start,
)

__all__ = ["desk", "node", "outsider", "source"]

IMPORTED_REQUEST = derived_uuid("imported")
ACCOUNT = FakeKeyMaker.account_of(IMPORTED_REQUEST, CHAIN)

pytestmark = pytest.mark.stack


async def register(desk: Desk) -> Vault:
    """The account, which was paid before, becomes a vault."""
    vault = Vault(
        id=VaultId(derived_uuid("vault", "imported")),
        chain=CHAIN,
        purpose="omnibus",
        wallet_id=None,
        key_id=IMPORTED_REQUEST.hex,
        account=ACCOUNT,
    )
    async with desk.db.unit_of_work(desk.tenant) as uow:
        return await wallets.add_vault(uow, "test", vault)


async def open_backfill(desk: Desk, loop: Loop) -> Backfill:
    """The account's range, closed by the live loop."""
    await register(desk)
    await catch_up(loop)
    async with desk.db.read(None) as session:
        (found,) = await store.find_open(session, CHAIN)
    return found


async def run(desk: Desk, source: ChainSource, backfill: Backfill) -> Backfill:
    def ignore(_backfill: Backfill, _tally: Tally) -> None:
        """Nobody is told."""

    return await fill(
        desk.db, source, backfill.id, caution=NO_CAUTION, stop=asyncio.Event(), told=ignore, tries_max=1
    )


async def test_final_blocks_are_booked_at_once_and_young_ones_wait_for_their_confirmations(
    desk: Desk, source: ChainSource, outsider: Outsider
) -> None:
    loop = await start(desk, source)
    await outsider.send_ether(ACCOUNT, 7)
    await outsider.mine(30)
    await outsider.send_ether(ACCOUNT, 5)
    await catch_up(loop)
    backfill = await open_backfill(desk, loop)
    assert (await run(desk, source, backfill)).is_done
    assert [(each.transfer.amount, each.state) for each in await desk.deposits()] == [
        (7, "suspended"),
        (5, "observed"),
    ]
    assert await desk.suspended(ETH) == 7
    await outsider.mine(CONFIRMATIONS)
    await catch_up(loop)
    assert await desk.suspended(ETH) == 12
    before = await desk.deposits()
    await outsider.mine(1)
    await catch_up(loop)
    assert await desk.deposits() == before


async def test_a_chunk_of_replaced_blocks_is_not_booked_and_the_new_ones_are(
    desk: Desk, source: ChainSource, outsider: Outsider
) -> None:
    loop = await start(desk, source)
    snapshot = await outsider.call("evm_snapshot")
    await outsider.send_ether(ACCOUNT, 7)
    await outsider.mine(1)
    await catch_up(loop)
    backfill = await open_backfill(desk, loop)
    await outsider.call("evm_revert", snapshot)
    await outsider.call("evm_increaseTime", 100)
    await outsider.send_ether(ACCOUNT, 5)
    await outsider.mine(1)
    async with desk.db.unit_of_work(None) as uow:
        taken = await store.take_over(uow, backfill.id, "test/1")
    # The node has other blocks than our record: nothing is booked until the live loop has followed it.
    with pytest.raises(InconsistentNode):
        await fill_chunk(desk.db, source, taken, NO_CAUTION)
    assert await desk.deposits() == []
    await catch_up(loop)
    assert (await run(desk, source, backfill)).is_done
    await outsider.mine(CONFIRMATIONS)
    await catch_up(loop)
    assert [(each.transfer.amount, each.state) for each in await desk.deposits()] == [(5, "suspended")]
    assert await desk.suspended(ETH) == 5
