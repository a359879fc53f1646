"""What EVM accounts hold, on a real anvil: kept by block, compared with the books, and found where no block names the account."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest
from eth_account import Account
from sqlalchemy import text

from custody.db.session import Database
from custody.deposits import cases
from custody.deposits.model import DepositCase, DepositRule
from custody.deposits.service import NO_CAUTION
from custody.holdings import service as holdings
from custody.holdings.model import HoldingBreak, KeptHolding
from custody.kernel.assetid import AssetId
from custody.kernel.clock import SystemClock
from custody.kernel.ids import TenantId, WalletId
from custody.wallets import service as wallets
from custody.wallets.model import DepositAddress
from devnet.anvil import CHAIN_ID
from devnet.evm import Outsider
from ingestion import overview
from ingestion.errors import StateUnavailable
from ingestion.evm.sources import RpcBlocks
from ingestion.evm.worker import build_source
from ingestion.health import Status
from ingestion.loop import Loop
from ingestion.main import run_worker
from ingestion.metrics import Metrics
from ingestion.model import BlockFacts
from ingestion.survey import store as surveys
from ingestion.survey.run import Question, Surveyor
from tests.fakes.contracts import deploy, invoke
from tests.fakes.key_maker import FakeKeyMaker
from tests.integration.evm_stage import CHAIN, ETH, Run, evm_settings, node, outsider, run
from tests.integration.ingestion_harness import Desk, build_loop, catch_up, decide_halt, take_fence

__all__ = ["node", "outsider", "run"]

CONFIRMATIONS = 2

pytestmark = pytest.mark.stack


class Forgetful:
    """A node that keeps the state of its newest blocks only, before a real one."""

    def __init__(self, blocks: RpcBlocks) -> None:
        self._blocks = blocks
        self.chain = blocks.chain
        self.asked = 0
        self.kept: set[str] | None = None

    async def balances(self, block_hash: str, questions: Sequence[Question]) -> list[int | None]:
        self.asked += len(questions)
        if self.kept is not None and block_hash not in self.kept:
            raise StateUnavailable(block=block_hash)
        return await self._blocks.balances(block_hash, questions)

    async def fetch_naming(self, height: int, questions: Sequence[Question]) -> BlockFacts | None:
        return await self._blocks.fetch_naming(height, questions)


@dataclass(slots=True, kw_only=True)
class Stage:
    """A worker, its survey, a customer, and a contract that pays whom its storage names."""

    desk: Desk
    loop: Loop
    node: Forgetful
    source: RpcBlocks
    surveyor: Surveyor
    outsider: Outsider
    ada: WalletId
    address: DepositAddress
    payer: str

    async def pay_unseen(self, *amounts: int, blocks_between: int = 0) -> None:
        """The contract pays Ada's address out of its own storage, in blocks that do not name her."""
        for amount in amounts:
            await invoke(self.outsider, self.payer, "pay(uint256)", amount)
            if blocks_between:
                await self.outsider.mine(blocks_between)

    async def follow(self) -> None:
        """To the tip, and everything up to now final."""
        await self.outsider.mine(CONFIRMATIONS)
        await catch_up(self.loop)

    async def survey(self) -> int:
        """A whole pass. Returns how many holdings differed."""
        found = 0
        while True:
            surveyed = await self.surveyor.step()
            found += surveyed.found
            if surveyed.is_last or surveyed.height < 0:
                return found

    async def owed(self, asset: AssetId = ETH) -> int:
        return await self.desk.owed(self.ada, asset)

    async def breaks(self) -> list[tuple[str, int]]:
        return [(each.state, each.opened.difference) for each in await self.all_breaks()]

    async def all_breaks(self) -> list[HoldingBreak]:
        async with self.desk.db.read(self.desk.tenant) as session:
            return [each for _, each in await holdings.list_breaks(session)]

    async def kept(self, asset: AssetId = ETH) -> KeptHolding:
        async with self.desk.db.read(self.desk.tenant) as session:
            found = await holdings.list_holdings(session, [self.address.vault_id])
        (kept,) = [each for each in found if each.state.asset == asset]
        return kept

    async def cases(self) -> list[DepositCase]:
        async with self.desk.db.read(self.desk.tenant) as session:
            return await cases.list_cases(session)


@pytest.fixture
async def stage(database: Database, tenant: TenantId, node: str, outsider: Outsider) -> AsyncIterator[Stage]:
    desk = Desk(db=database, tenant=tenant, chain=CHAIN, keys=FakeKeyMaker())
    await desk.list_asset(ETH, "ETH", 18)
    source = build_source(evm_settings(node, confirmations=CONFIRMATIONS), database)
    fence = await take_fence(database, CHAIN)
    ada = await desk.open_wallet("ada")
    address = await desk.issue_address(ada)
    payer = await deploy(outsider, "Payer", value=10**6)
    await invoke(outsider, payer, "name(address)", address.address)
    forgetful = Forgetful(source)
    yield Stage(
        desk=desk,
        loop=build_loop(database, source, fence, confirmations=CONFIRMATIONS),
        node=forgetful,
        source=source,
        surveyor=Surveyor(database, forgetful, fence, questions=3, caution=NO_CAUTION),
        outsider=outsider,
        ada=ada,
        address=address,
        payer=payer,
    )
    await source.aclose()


async def test_what_blocks_leave_is_kept_with_the_nonce_and_equals_the_books(stage: Stage) -> None:
    await stage.outsider.send_ether(stage.address.address, 10**18)
    await stage.follow()
    kept = await stage.kept()
    assert (kept.state.before, kept.state.amount, kept.opening) == (0, 10**18, 0)
    async with stage.desk.db.read(stage.desk.tenant) as session:
        vault = await wallets.get_vault(session, stage.address.vault_id)
    stolen = Account.sign_transaction(
        {
            "chainId": CHAIN_ID,
            "nonce": 0,
            "to": "0x" + "12" * 20,
            "value": 5,
            "gas": 21_000,
            "gasPrice": 2 * 10**9,
        },
        bytes.fromhex(vault.key_id) * 2,  # as FakeKeyMaker makes keys
    )
    await stage.outsider.call("eth_sendRawTransaction", "0x" + bytes(stolen.raw_transaction).hex())
    await stage.follow()
    async with stage.desk.db.read(stage.desk.tenant) as session:
        found = await holdings.find_account(session, stage.address.vault_id, stage.address.account)
    assert found is not None
    height, account = found
    left = await stage.outsider.balance(stage.address.address)
    assert (account.sequence, account.spendable) == (1, left)
    assert (await stage.kept()).state.amount == left
    # Its fee is booked, what somebody sent with its key is not.
    assert await stage.breaks() == [("open", 5)]
    assert (await stage.all_breaks())[0].first_height == height


async def test_a_payment_that_no_block_names_is_found_in_its_block_and_credited_once(stage: Stage) -> None:
    await stage.pay_unseen(30, 0, 12, blocks_between=3)
    await stage.follow()
    assert (await stage.owed(), await stage.desk.deposits()) == (0, [])
    assert await stage.survey() == 1
    assert await stage.owed() == await stage.outsider.balance(stage.address.address) == 42
    found = [each.transfer for each in await stage.desk.deposits()]
    assert [(each.amount, each.source) for each in found] == [(30, ""), (12, "")]
    assert [each.tx_hash for each in found] == [
        f"balance:{each.block_hash}:{stage.address.account}" for each in found
    ]
    assert (await stage.survey(), await stage.breaks(), await stage.owed()) == (0, [], 42)
    # A later look at the same blocks brings nothing new.
    await stage.pay_unseen(1)
    await stage.outsider.send_ether(stage.address.address, 7)
    await stage.follow()
    assert await stage.breaks() == [("open", -1)]
    await stage.survey()
    assert (await stage.owed(), await stage.breaks()) == (50, [("closed", -1)])
    assert len(await stage.desk.deposits()) == 4
    assert (await stage.kept()).opening == 0


async def test_what_lay_there_before_all_history_is_opening(stage: Stage) -> None:
    """The stage's worker begins above what was paid."""
    await stage.pay_unseen(30)
    loop = build_loop(
        stage.desk.db,
        stage.source,
        await take_fence(stage.desk.db, CHAIN),
        confirmations=CONFIRMATIONS,
        start_height=4,
    )
    await stage.outsider.mine(CONFIRMATIONS + 3)
    async with stage.desk.db.unit_of_work(None) as uow:
        await uow.conn.execute(
            text("UPDATE ingestion_backfills SET first_height = 4, last_height = 3, next_height = 4")
        )
    await catch_up(loop)
    stage.surveyor = Surveyor(
        stage.desk.db, stage.node, await take_fence(stage.desk.db, CHAIN), questions=3, caution=NO_CAUTION
    )
    await stage.survey()
    kept = await stage.kept()
    assert (kept.state.amount, kept.opening, await stage.owed()) == (30, 30, 0)
    assert (await stage.breaks(), await stage.survey()) == ([], 0)


async def test_where_the_node_has_no_state_to_search_in_the_difference_is_a_break(stage: Stage) -> None:
    await stage.outsider.send_ether(stage.address.address, 5)
    await stage.pay_unseen(30, blocks_between=4)
    await stage.follow()
    final = await stage.desk.final_height()
    block = await stage.outsider.call("eth_getBlockByNumber", hex(final), False)
    stage.node.kept = {block["hash"]}
    await stage.survey()
    assert (await stage.owed(), await stage.breaks()) == (5, [("open", -30)])
    # A node with its whole state finds it later, and the break closes.
    stage.node.kept = None
    await stage.survey()
    assert (await stage.owed(), await stage.breaks()) == (35, [("closed", -30)])


@pytest.mark.parametrize("way", ["arrival", "opening"])
async def test_a_person_books_what_no_node_can_place_once(stage: Stage, run: Run, way: str) -> None:
    await stage.pay_unseen(30, blocks_between=4)
    await stage.follow()
    final = await stage.outsider.call("eth_getBlockByNumber", hex(await stage.desk.final_height()), False)
    stage.node.kept = {final["hash"]}
    await stage.survey()
    words = ("--chain", CHAIN, "--tenant", str(stage.desk.tenant))
    code, told, _ = await run("breaks", *words)
    shown = json.loads(told)
    assert (code, shown["difference"], shown["on_chain"]) == (1, "-30", "30")
    settle = ("settle-break", shown["id"], *words, "--as", way, "--note", "ticket 7421")
    assert (await run("settle-break", shown["id"], "--chain", CHAIN, "--tenant", "99", *settle[6:]))[0] == 2
    assert (await run("settle-break", "brk_" + "0" * 32, *settle[2:]))[0] == 2
    assert await run(*settle) == (0, f"30 booked as {way}\n", "")
    code, _, refused = await run(*settle)
    assert (code, "ingestion_break_not_open" in refused) == (2, True)
    assert await stage.breaks() == [("closed", -30)]
    assert (await stage.owed(), (await stage.kept()).opening) == ((30, 0) if way == "arrival" else (0, 30))
    # Whoever has the state now finds nothing more.
    stage.node.kept = None
    await stage.outsider.send_ether(stage.address.address, 1)
    await stage.follow()
    await stage.survey()
    assert await stage.breaks() == [("closed", -30)]
    assert await stage.owed() == (31 if way == "arrival" else 1)
    assert (await run("breaks", *words))[:2] == (0, "")


async def test_the_survey_goes_on_where_it_was_and_asks_no_more_than_it_may(stage: Stage) -> None:
    people = [await stage.desk.open_wallet(f"person {number}") for number in range(7)]
    for wallet in people:
        await stage.desk.issue_address(wallet)
    await stage.follow()
    accounts: list[str] = []
    numbers: list[tuple[int, bool]] = []
    for step in range(1, 4):
        surveyed = await stage.surveyor.step()
        async with stage.desk.db.read(None) as session:
            survey = await surveys.load(session, CHAIN)
        assert survey is not None
        accounts.append(survey.after)
        numbers.append((survey.number, survey.ended_at is not None))
        assert (surveyed.asked, surveyed.is_last) == ((3, False) if step < 3 else (2, True))
        stage.surveyor = Surveyor(
            stage.desk.db, stage.node, await take_fence(stage.desk.db, CHAIN), questions=3, caution=NO_CAUTION
        )
    assert accounts == [*sorted(accounts[:2]), ""]
    assert numbers == [(1, False), (1, False), (2, True)]


@pytest.mark.parametrize("rule", ["refuse", "mark"])
async def test_a_rebase_that_names_nobody_is_a_break_or_a_case_by_rule(stage: Stage, rule: str) -> None:
    token = await deploy(stage.outsider, "RebasingToken")
    asset = AssetId(CHAIN, f"erc20:{token}")
    await stage.desk.list_asset(asset, "RBT", 6)
    async with stage.desk.db.unit_of_work(stage.desk.tenant) as uow:
        await cases.set_rule(uow, "olga", asset, DepositRule(distrusted=rule))  # type: ignore[arg-type]
    await invoke(stage.outsider, token, "mint(address,uint256)", stage.address.address, 1_000)
    await stage.follow()
    assert await stage.owed(asset) == 1_000
    await invoke(stage.outsider, token, "rebase(uint256)", 110)
    await stage.follow()
    assert (await stage.survey(), await stage.owed(asset)) == (1, 1_000)
    assert (await stage.kept(asset)).state.amount == 1_100
    if rule == "refuse":
        assert (await stage.breaks(), await stage.cases()) == ([("open", -100)], [])
    else:
        (case,) = await stage.cases()
        assert (case.reason.value, case.state, case.amount) == ("distrusted", "open", 100)
        assert await stage.breaks() == []
        async with stage.desk.db.unit_of_work(stage.desk.tenant) as uow:
            await cases.assign(uow, "olga", case.id, stage.ada, "the token pays interest")
        assert await stage.owed(asset) == 1_100
    assert await stage.survey() == 0


async def test_a_worker_surveys_beside_its_loop(stage: Stage, node: str, run: Run) -> None:
    settings = evm_settings(node, confirmations=CONFIRMATIONS, poll_interval_s=0.05, survey_period_s=1)
    metrics, stop = Metrics(CHAIN, SystemClock()), asyncio.Event()
    working = asyncio.create_task(
        run_worker(stage.desk.db, stage.source, settings, stop=stop, metrics=metrics, status=Status())
    )
    await stage.pay_unseen(30)
    await stage.outsider.mine(CONFIRMATIONS)
    async with asyncio.timeout(60):
        # Another task books: the database has to be asked.
        while await stage.owed() != 30:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        # It counts after it has booked.
        while b'unseen_total{chain="eip155:31337"} 1.0' not in metrics.text():  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    stop.set()
    await working
    _, told, _ = await run("status", "--json")
    assert json.loads(told)["chains"][0]["survey"]["trouble"] is None


async def test_a_survey_that_stands_is_an_alarm_until_it_goes_on(stage: Stage) -> None:
    await stage.follow()
    stage.node.kept = set()
    with pytest.raises(StateUnavailable):
        await stage.surveyor.step()
    async with stage.desk.db.unit_of_work(None) as uow:
        await surveys.note_trouble(uow, CHAIN, "ingestion_state_unavailable")
    assert "survey_blind" in await alarms(stage)
    stage.node.kept = None
    await stage.survey()
    assert "survey_blind" not in await alarms(stage)


async def test_a_halted_chain_is_not_surveyed(stage: Stage) -> None:
    snapshot = await stage.outsider.call("evm_snapshot")
    await stage.pay_unseen(30)
    await stage.outsider.send_ether(stage.address.address, 5)
    await stage.follow()
    await stage.outsider.call("evm_revert", snapshot)
    await stage.outsider.mine(8)
    await catch_up(stage.loop)
    stage.node.asked = 0
    assert (await stage.survey(), stage.node.asked, await stage.owed()) == (0, 0, 5)
    await decide_halt(stage.desk.db, CHAIN, follow=True)
    await catch_up(stage.loop)
    await stage.survey()
    assert (await stage.owed(), [each for each, _ in await stage.breaks()]) == (0, ["closed"])


async def alarms(stage: Stage) -> list[str]:
    async with stage.desk.db.read(None) as session:
        seen = await overview.load(session, CHAIN)
    return [each.code for each in overview.find_alarms(seen, lag_max=100)]
