"""An EVM worker that dies before any statement, also while a reorganisation is taken back, books everything once."""

from __future__ import annotations

from collections import Counter

import pytest

from custody.chains.evm.address import checksum
from custody.db.session import Database
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import TenantId
from devnet.evm import Outsider
from ingestion.evm.worker import build_source
from ingestion.loop import Loop
from tests.fakes.contracts import call_data, deploy
from tests.fakes.key_maker import FakeKeyMaker
from tests.integration.crash_harness import die_before_every_statement, rows
from tests.integration.evm_stage import CHAIN, ETH, evm_settings, node, outsider
from tests.integration.ingestion_harness import Desk, build_loop, catch_up, take_fence

__all__ = ["node", "outsider"]

CONFIRMATIONS = 2

pytestmark = pytest.mark.stack


async def test_dying_before_any_statement_books_each_payment_once_and_takes_each_back_once(
    database: Database, tenant: TenantId, node: str, outsider: Outsider
) -> None:
    desk = Desk(db=database, tenant=tenant, chain=CHAIN, keys=FakeKeyMaker())
    await desk.list_asset(ETH, "ETH", 18)
    token, payer = checksum(await outsider.deploy_token()), await deploy(outsider, "Payer")
    usd = parse_asset_id(f"{CHAIN}/erc20:{token}")
    await desk.list_asset(usd, "TUSD", 6)
    ada = await desk.open_wallet("ada")
    to = (await desk.issue_address(ada)).address
    source = build_source(evm_settings(node, confirmations=CONFIRMATIONS), desk.db)

    def loop_of(fence: int) -> Loop:
        return build_loop(desk.db, source, fence, confirmations=CONFIRMATIONS)

    async def pay() -> None:
        """One block with ether, ether by a contract, and tokens; and the blocks that make it final."""
        sender = await outsider.address()
        await outsider.call("evm_setAutomine", False)
        for payment in (
            {"to": to, "value": "0x7"},
            {"to": payer, "value": "0x6", "data": call_data("split(address[])", [to, to])},
            {"to": token, "data": call_data("mint(address,uint256)", to, 500)},
        ):
            await outsider.call("eth_sendTransaction", {"from": sender, "gas": hex(300_000), **payment})
        await outsider.mine()
        await outsider.call("evm_setAutomine", True)
        await outsider.mine(CONFIRMATIONS)

    await catch_up(loop_of(await take_fence(desk.db, CHAIN)))
    await pay()
    assert await die_before_every_statement(desk, loop_of) > 100
    assert (await desk.owed(ada, ETH), await desk.owed(ada, usd)) == (13, 500)
    booked = await rows(desk.db, desk.tenant)
    assert (len(booked["deposits"]), len(booked["ledger_transfers"])) == (3, 3)

    await outsider.call("anvil_reorg", CONFIRMATIONS + 1, [])
    await pay()
    assert await die_before_every_statement(desk, loop_of) > 100
    after = await rows(desk.db, desk.tenant)
    await catch_up(loop_of(await take_fence(desk.db, CHAIN)))
    assert await rows(desk.db, desk.tenant) == after
    assert (await desk.owed(ada, ETH), await desk.owed(ada, usd)) == (13, 500)
    # Three were credited, taken back by mirrors, and three came on the new branch: none is gone.
    assert Counter(row[1] for row in after["deposits"]) == {"credited": 3, "reversed": 3}
    assert len(after["ledger_transfers"]) == 9
    assert set(booked["ledger_transfers"]) < set(after["ledger_transfers"])
    assert set(booked["audit_entries"]) < set(after["audit_entries"])
    await source.aclose()
