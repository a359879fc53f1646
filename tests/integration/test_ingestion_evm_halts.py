"""A reorganisation deeper than finality on a real anvil: nothing is credited until a person has looked, then what was decided."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
from structlog.testing import capture_logs

from custody.audit import service as audit
from custody.chains.evm.rpc import EvmRpc
from custody.chains.jsonrpc import JsonRpc
from custody.db.session import Database
from custody.holdings import halts
from custody.holdings import service as holdings
from custody.holdings.errors import HaltDecided, UnknownHalt
from custody.holdings.model import Comparison, HoldingBreak
from custody.kernel.clock import SystemClock
from custody.kernel.ids import TenantId, WalletId, new_uuid
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.model import Transfer, TransferCode
from custody.recon import service as recon
from custody.wallets.model import DepositAddress
from devnet.anvil import CHAIN_ID
from devnet.evm import Outsider
from ingestion import overview
from ingestion.evm.worker import build_source
from ingestion.loop import Loop
from tests.fakes.key_maker import FakeKeyMaker
from tests.integration.evm_stage import CHAIN, ETH, Run, evm_settings, node, outsider, run
from tests.integration.ingestion_harness import Desk, build_loop, catch_up, decide_halt, take_fence
from tests.integration.test_recon_service import QUICK, StatedBank

__all__ = ["node", "outsider", "run"]

CONFIRMATIONS = 2

pytestmark = [pytest.mark.stack, pytest.mark.usefixtures("told_as_promised")]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A worker's loop, a customer with an address, and somebody who pays."""

    desk: Desk
    loop: Loop
    outsider: Outsider
    ada: WalletId
    ben: WalletId
    address: DepositAddress

    async def credit(self, wei: int) -> tuple[str, str]:
        """A payment that becomes final and is credited. Returns a snapshot of before, and its bytes."""
        snapshot = await self.outsider.call("evm_snapshot")
        mined = await self.outsider.send_ether(self.address.address, wei)
        raw = await self.outsider.call("eth_getRawTransactionByHash", mined.tx_hash)
        await self.outsider.mine(CONFIRMATIONS)
        await catch_up(self.loop)
        return snapshot, raw

    async def replace(self, snapshot: str, *, blocks: int = 5) -> None:
        """The chain goes another way from there."""
        await self.outsider.call("evm_revert", snapshot)
        await self.outsider.call("evm_increaseTime", 100)
        await self.outsider.mine(blocks)

    async def owed(self) -> tuple[int, int]:
        return await self.desk.owed(self.ada, ETH), await self.desk.owed(self.ben, ETH)

    async def spend(self, wei: int) -> None:
        """Ada's money goes to Ben."""
        sides = (postings.wallet_account(self.ada, ETH), postings.wallet_account(self.ben, ETH))
        async with self.desk.db.unit_of_work(self.desk.tenant) as uow:
            await ledger.open_missing(uow, sides)
            moved = Transfer(
                id=new_uuid(),
                debit=sides[0],
                credit=sides[1],
                amount=Amount(ETH, wei),
                code=TransferCode.WALLET_TRANSFER,
                reference=new_uuid(),
            )
            await ledger.post(uow, moved)

    async def breaks(self) -> list[HoldingBreak]:
        async with self.desk.db.read(self.desk.tenant) as session:
            return [each for _, each in await holdings.list_breaks(session)]

    async def compared(self) -> Comparison:
        async with self.desk.db.read(self.desk.tenant) as session:
            return (await holdings.list_comparisons(session, self.address.vault_id, ETH))[0]

    async def state(self) -> str:
        async with self.desk.db.read(None) as session:
            (newest, *_) = await halts.list_halts(session, CHAIN)
        return newest.state

    async def actions(self) -> list[str]:
        async with self.desk.db.read(self.desk.tenant) as session:
            return [
                each.action for each in await audit.page(session, 0, 1000) if each.action.startswith("chain.")
            ]


@pytest.fixture
async def stage(database: Database, tenant: TenantId, node: str, outsider: Outsider) -> AsyncIterator[Stage]:
    desk = Desk(db=database, tenant=tenant, chain=CHAIN, keys=FakeKeyMaker())
    await desk.list_asset(ETH, "ETH", 18)
    source = build_source(evm_settings(node, confirmations=CONFIRMATIONS), database)
    loop = build_loop(database, source, await take_fence(database, CHAIN), confirmations=CONFIRMATIONS)
    ada, ben = await desk.open_wallet("ada"), await desk.open_wallet("ben")
    yield Stage(
        desk=desk, loop=loop, outsider=outsider, ada=ada, ben=ben, address=await desk.issue_address(ada)
    )
    await source.aclose()


async def test_nothing_is_credited_until_a_person_follows_and_then_the_books_are_mirrored(
    stage: Stage, node: str
) -> None:
    await stage.credit(3)
    snapshot, raw = await stage.credit(7)
    assert await stage.owed() == (10, 0)
    assert (await stage.compared()).chain == 10
    await stage.replace(snapshot)
    final = await stage.desk.final_height()
    with capture_logs() as logs:
        assert not await stage.loop.step()
    assert [each["event"] for each in logs if each["log_level"] == "critical"] == ["ingestion.halted"]
    # Money that comes meanwhile is not even observed.
    async with Outsider(node, 1) as other:
        await other.send_ether(stage.address.address, 100)
    await stage.outsider.mine(CONFIRMATIONS)
    await catch_up(stage.loop)
    assert (await stage.owed(), await stage.state()) == ((10, 0), "halted")
    assert await stage.desk.final_height() == final
    assert stage.loop.status.ready(0.0) is False
    async with stage.desk.db.read(None) as session:
        seen = await overview.load(session, CHAIN)
    assert [each.code for each in overview.find_alarms(seen, lag_max=100)] == ["halted", "no_worker"]
    client = EvmRpc(CHAIN, JsonRpc(node), CHAIN_ID)
    report = await recon.run(
        stage.desk.db,
        stage.desk.tenant,
        {CHAIN: client},
        StatedBank(ids=()),
        clock=SystemClock(),
        patience=QUICK,
    )
    assert [found.owner for found in report.breaks if "halted" in found.detail] == [f"chain {CHAIN}"]
    await decide_halt(stage.desk.db, CHAIN, follow=True)
    await catch_up(stage.loop)
    assert (await stage.owed(), await stage.state()) == ((103, 0), "resumed")
    assert (await stage.loop.step(), stage.loop.status.halted) == (False, False)
    # The transaction returns: the same deposit, booked anew.
    await stage.outsider.call("eth_sendRawTransaction", raw)
    await stage.outsider.mine(CONFIRMATIONS)
    await catch_up(stage.loop)
    assert await stage.owed() == (110, 0)
    compared = await stage.compared()
    assert (compared.books, compared.opening, compared.difference) == (110, 0, 0)
    seen_now = await client.balance(stage.address.account, ETH, compared.height)
    assert seen_now.amount == compared.chain
    await client.aclose()
    assert await stage.breaks() == []
    assert await stage.actions() == ["chain.halted", "chain.follow_decided", "chain.resumed"]
    found = await stage.desk.deposits()
    assert sorted((each.transfer.amount, each.state, each.inclusion) for each in found) == [
        (3, "credited", 1),
        (7, "credited", 2),
        (100, "credited", 1),
    ]


async def test_our_branch_may_be_kept_and_a_fork_that_is_still_there_halts_again(stage: Stage) -> None:
    snapshot, _ = await stage.credit(7)
    await stage.replace(snapshot)
    await catch_up(stage.loop)
    await decide_halt(stage.desk.db, CHAIN, follow=False)
    await catch_up(stage.loop)
    async with stage.desk.db.read(None) as session:
        states = [each.state for each in await halts.list_halts(session, CHAIN)]
    assert (states, await stage.owed()) == (["halted", "kept"], (7, 0))
    async with stage.desk.db.unit_of_work(None) as uow:
        halt = await halts.find_open(uow, CHAIN)
        assert halt is not None
        with pytest.raises(UnknownHalt):
            await halts.decide(uow, [], "olga", new_uuid(), follow=True)
        await halts.decide(uow, [], "olga", halt.id, follow=True)
        await halts.decide(uow, [], "olga", halt.id, follow=True)
        with pytest.raises(HaltDecided):
            await halts.decide(uow, [], "olga", halt.id, follow=False)


async def test_a_fork_further_down_than_the_decision_is_another_decision(stage: Stage) -> None:
    deeper, _ = await stage.credit(3)
    snapshot, _ = await stage.credit(7)
    await stage.replace(snapshot)
    await catch_up(stage.loop)
    await decide_halt(stage.desk.db, CHAIN, follow=True)
    await stage.replace(deeper, blocks=12)
    await catch_up(stage.loop)
    async with stage.desk.db.read(None) as session:
        halt = await halts.find_open(session, CHAIN)
    assert halt is not None
    assert (halt.state, "further down" in halt.trouble, await stage.owed()) == ("halted", True, (10, 0))
    await decide_halt(stage.desk.db, CHAIN, follow=True)
    await catch_up(stage.loop)
    assert (await stage.state(), await stage.owed()) == ("resumed", (0, 0))
    assert (await stage.compared()).difference == 0


async def test_money_that_is_spent_halts_again_unless_its_credit_is_to_stand_marked_as_lost(
    stage: Stage,
) -> None:
    await stage.credit(3)
    snapshot, raw = await stage.credit(7)
    await stage.spend(8)
    await stage.replace(snapshot)
    await catch_up(stage.loop)
    await decide_halt(stage.desk.db, CHAIN, follow=True)
    await catch_up(stage.loop)
    async with stage.desk.db.read(None) as session:
        halt = await halts.find_open(session, CHAIN)
    assert halt is not None
    assert (halt.state, "reversed by its chain" in halt.trouble) == ("halted", True)
    await decide_halt(stage.desk.db, CHAIN, follow=True, marks_spent=True)
    await catch_up(stage.loop)
    assert (await stage.state(), await stage.owed()) == ("resumed", (2, 8))
    assert [(each.transfer.amount, each.state, each.lost) for each in await stage.desk.deposits()] == [
        (3, "credited", False),
        (7, "credited", True),
    ]
    assert [(each.state, each.opened.difference) for each in await stage.breaks()] == [("open", 7)]
    # Found again, it is what it was, and replaced again before it is final it asks a person again.
    once_more = await stage.outsider.call("evm_snapshot")
    await stage.outsider.call("eth_sendRawTransaction", raw)
    await catch_up(stage.loop)
    assert not any(each.lost for each in await stage.desk.deposits())
    await stage.replace(once_more, blocks=3)
    await catch_up(stage.loop)
    assert await stage.state() == "halted"
    await decide_halt(stage.desk.db, CHAIN, follow=True, marks_spent=True)
    await catch_up(stage.loop)
    await stage.outsider.call("eth_sendRawTransaction", raw)
    await stage.outsider.mine(CONFIRMATIONS)
    await catch_up(stage.loop)
    assert [(each.state, each.opened.difference) for each in await stage.breaks()] == [("closed", 7)]
    assert (await stage.owed(), any(each.lost for each in await stage.desk.deposits())) == ((2, 8), False)


async def test_the_command_shows_what_is_at_stake_and_takes_one_decision(stage: Stage, run: Run) -> None:
    snapshot, _ = await stage.credit(7)
    assert await run("halt", "--chain", CHAIN) == (0, f"{CHAIN} is not halted\n", "")
    refused = await run("resume", "--chain", CHAIN, "--follow", "--note", "why")
    assert (refused[0], refused[2]) == (2, f"{CHAIN} is not halted\n")
    await stage.replace(snapshot)
    await catch_up(stage.loop)
    code, told, _ = await run("halt", "--chain", CHAIN, "--json")
    shown = json.loads(told)
    (stakes,) = shown["at_stake"]
    assert (code, [each["state"] for each in shown["halts"]]) == (1, ["halted"])
    assert [(each["state"], each["atomic"]) for each in stakes["deposits"]] == [("credited", "7")]
    code, told, _ = await run("halt", "--chain", CHAIN)
    assert (code, "shared up to block" in told, "credited 7" in told) == (1, True, True)
    code, told, _ = await run("status", "--json")
    assert code == 1
    assert "halted" in [each["code"] for each in json.loads(told)["chains"][0]["alarms"]]
    assert (await run("resume", "--chain", CHAIN, "--keep", "--mark-spent", "--note", "x"))[0] == 2
    assert (await run("resume", "--chain", "eip155:5", "--keep", "--note", "x"))[0] == 2
    assert (await run("resume", "--chain", CHAIN, "--follow", "--note", "bad\nnote"))[0] == 2
    assert (await run("resume", "--chain", CHAIN, "--follow", "--note", "both nodes agree"))[0] == 0
    assert (await run("resume", "--chain", CHAIN, "--keep", "--note", "no"))[0] == 2
    await catch_up(stage.loop)
    assert (await stage.owed(), await stage.state()) == ((0, 0), "resumed")
    async with stage.desk.db.read(stage.desk.tenant) as session:
        decided = [
            each for each in await audit.page(session, 0, 1000) if each.action == "chain.follow_decided"
        ]
    assert [(each.actor.startswith("operator:uid-"), each.detail["note"]) for each in decided] == [
        (True, "both nodes agree")
    ]
