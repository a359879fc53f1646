"""Reconciliation over real books and the bank's own process: equal, different, or not proved."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import asyncpg
import pytest
from rich.console import Console
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from cli.recon import print_table, show_all
from custody.assets import service as assets
from custody.banking.model import BankStatement, EntryKind, StatementEntry
from custody.db.session import Database
from custody.deposits import service as deposits
from custody.kernel.assetid import AssetId, parse_asset_id
from custody.kernel.clock import SystemClock
from custody.kernel.ids import TenantId, VaultId, new_uuid
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.payouts import service as payouts
from custody.payouts.model import RailEvent
from custody.receipts import service as receipts
from custody.recon import service as recon
from custody.recon.model import BreakKind, ReconReport
from custody.recon.service import Patience
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from devnet.bank.ibans import NORMAL, RETURNED
from rails import intake
from rails.base import RailUnavailable
from rails.registry import RailRegistry
from rails.sandbox.adapter import SandboxRail
from rails.worker import Worker
from tests.fakes.bank_process import SECRET, BankProcess, CallbackListener, free_port
from tests.fakes.fiat import EUR, NOW, Fiat, make_fiat
from tests.fakes.recorded_chain import RecordedChain

pytestmark = pytest.mark.usefixtures("told_as_promised")

ETH = parse_asset_id("eip155:31337/native")
XLM = parse_asset_id("stellar:devnet/native")
QUICK = Patience(looks=3, pause_s=0)


@dataclass(slots=True)
class StatedBank:
    """Statements as the test writes them."""

    entries: tuple[StatementEntry, ...] = ()
    asset: AssetId = EUR
    reachable: bool = True
    ids: tuple[str, ...] = ("sandbox",)

    async def statement(self, rail_id: str, iban: str, first: date, last: date) -> BankStatement:
        if not self.reachable:
            raise RailUnavailable
        closing = sum(entry.amount for entry in self.entries)
        return BankStatement(iban=iban, asset=self.asset, opening=0, closing=closing, entries=self.entries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """A tenant with one vault per chain, and the two chains."""

    fiat: Fiat
    vaults: dict[AssetId, VaultId]
    chains: dict[AssetId, RecordedChain]

    async def book(self, asset: AssetId, atomic: int, height: int) -> None:
        """A final deposit of this height, and the height itself, in one transaction."""
        vault_id = self.vaults[asset]
        async with self.fiat.database.unit_of_work(self.fiat.tenant) as uow:
            if atomic:
                commands = postings.deposit_credited(
                    deposit_id=new_uuid(),
                    vault_id=vault_id,
                    wallet_id=self.fiat.wallet_id,
                    amount=Amount(asset, atomic),
                )
                await ledger.post(uow, *commands)
            await deposits.record_heights(
                uow, asset.chain, height_final=height, height_ingested=height, ingested_at=NOW
            )

    async def run(self, bank: StatedBank | RailRegistry, patience: Patience = QUICK) -> ReconReport:
        """One run."""
        clients = {chain.chain: chain for chain in self.chains.values()}
        return await recon.run(
            self.fiat.database, self.fiat.tenant, clients, bank, clock=SystemClock(), patience=patience
        )


@pytest.fixture
async def books(database: Database, tenant: TenantId) -> Books:
    fiat = await make_fiat(database, tenant)
    vaults: dict[AssetId, VaultId] = {}
    async with database.unit_of_work(tenant) as uow:
        for asset, code, decimals, account in ((ETH, "ETH", 18, "0xvault"), (XLM, "XLM", 7, "Gvault")):
            await assets.register(uow, asset, code, decimals)
            vault = Vault(
                id=VaultId(new_uuid()),
                chain=asset.chain,
                purpose="omnibus",
                wallet_id=None,
                key_id="ab" * 16,
                account=account,
            )
            vaults[asset] = (await wallets.add_vault(uow, "test", vault)).id
    made = Books(
        fiat=fiat,
        vaults=vaults,
        chains={
            ETH: RecordedChain(chain=ETH.chain, history=True),
            XLM: RecordedChain(chain=XLM.chain, history=False),
        },
    )
    for asset in (ETH, XLM):
        await made.book(asset, 0, 1)
    return made


def kinds(report: ReconReport) -> list[tuple[BreakKind, str]]:
    return [(found.kind, found.asset.text) for found in report.breaks]


async def test_empty_books_equal_an_empty_world(books: Books) -> None:
    report = await books.run(StatedBank())
    assert report.breaks == ()
    assert [(row.books, row.outside) for row in report.rows] == [(0, 0)] * 3


async def test_books_are_compared_at_their_own_height_where_the_node_remembers(books: Books) -> None:
    chain = books.chains[ETH]
    for height, held in ((5, 10**18), (9, 3 * 10**18)):
        chain.height = height
        chain.hold(ETH, held)
    await books.book(ETH, 10**18, 7)
    report = await books.run(StatedBank())
    row = next(row for row in report.rows if row.holding.asset == ETH)
    assert (row.books, row.outside, row.at) == (10**18, 10**18, "height 7, from the node")
    assert report.breaks == ()
    assert chain.asked == 1


async def test_money_on_chain_that_nobody_booked_is_a_break(books: Books) -> None:
    books.chains[ETH].hold(ETH, 5)
    report = await books.run(StatedBank())
    assert kinds(report) == [(BreakKind.BALANCE_DIFFERS, ETH.text)]
    assert (report.breaks[0].books, report.breaks[0].outside) == (0, 5)
    assert books.chains[ETH].asked == QUICK.looks


async def test_money_in_the_books_that_is_not_on_chain_is_a_break(books: Books) -> None:
    await books.book(ETH, 7, 2)
    (found,) = (await books.run(StatedBank())).breaks
    assert (found.kind, found.books, found.outside) == (BreakKind.BALANCE_DIFFERS, 7, 0)


async def test_without_history_two_equal_readings_around_the_height_are_proof(books: Books) -> None:
    chain = books.chains[XLM]
    chain.hold(XLM, 50)
    await books.book(XLM, 50, 1)
    looks = iter([3, 5, 9])

    def close_ledgers(now: RecordedChain) -> None:
        now.height = next(looks, now.height)

    chain.before_answer = close_ledgers
    report = await books.run(StatedBank(), Patience(looks=1, pause_s=0))
    assert kinds(report) == [(BreakKind.NOT_COMPARABLE, XLM.text)]
    looks = iter([3, 5, 9])
    chain.height = 1
    chain.before_answer = None
    report = await books.run(StatedBank())
    assert report.breaks == ()


async def test_ingestion_that_catches_up_while_we_look_proves_it(books: Books) -> None:
    chain = books.chains[XLM]
    chain.hold(XLM, 50)
    chain.height = 4
    reads = 0

    class Following(StatedBank):
        """Each look at the bank, ingestion follows and the chain closes another ledger."""

        async def statement(self, rail_id: str, iban: str, first: date, last: date) -> BankStatement:
            nonlocal reads
            reads += 1
            await books.book(XLM, 50 if reads == 1 else 0, 3 + 2 * reads)
            chain.height = 4 + 2 * reads
            # A line that no books have keeps the bank open, so that it is asked at every look.
            line = StatementEntry(
                kind=EntryKind.INCOMING, external_ref="x", reference="", amount=1, balance=1, booked_at=NOW
            )
            return BankStatement(iban=iban, asset=EUR, opening=0, closing=1, entries=(line,))

    report = await books.run(Following())
    row = next(row for row in report.rows if row.holding.asset == XLM)
    assert (row.books, row.outside) == (50, 50)


async def test_a_chain_that_does_not_answer_proves_nothing(books: Books) -> None:
    books.chains[ETH].reachable = False
    (found,) = (await books.run(StatedBank())).breaks
    assert (found.kind, found.detail) == (BreakKind.NOT_COMPARABLE, "chain_rpc_unreachable")


async def test_a_bank_that_does_not_answer_or_answers_in_another_currency_proves_nothing(
    books: Books,
) -> None:
    for bank, detail in (
        (StatedBank(reachable=False), "rail_unavailable"),
        (StatedBank(ids=()), "the rail is not configured"),
        (StatedBank(asset=parse_asset_id("fiat/USD")), "the statement is in another currency"),
    ):
        (found,) = (await books.run(bank)).breaks
        assert (found.kind, found.detail) == (BreakKind.NOT_COMPARABLE, detail)


async def test_a_line_that_only_one_side_has_is_a_break_even_when_balances_agree(books: Books) -> None:
    await books.fiat.fund(500)
    line = StatementEntry(
        kind=EntryKind.INCOMING, external_ref="inc_bank", reference="", amount=500, balance=500, booked_at=NOW
    )
    report = await books.run(StatedBank(entries=(line,)))
    assert {(found.kind, found.books, found.outside) for found in report.breaks} == {
        (BreakKind.UNBOOKED_ENTRY, 0, 500),
        (BreakKind.MISSING_ENTRY, 500, 0),
    }


async def test_a_settled_payout_that_the_bank_does_not_show_is_a_break(books: Books) -> None:
    receipt = await books.fiat.fund(500)
    payout = await books.fiat.request(200)
    async with books.fiat.database.unit_of_work(books.fiat.tenant) as uow:
        await payouts.claim(uow, ("sandbox",), NOW, NOW - NOW)
    async with books.fiat.database.unit_of_work(books.fiat.tenant) as uow:
        await payouts.observe(uow, books.fiat.news(payout, RailEvent.SETTLED), NOW)
    line = StatementEntry(
        kind=EntryKind.INCOMING,
        external_ref=receipt.external_ref,
        reference="",
        amount=500,
        balance=500,
        booked_at=NOW,
    )
    report = await books.run(StatedBank(entries=(line,)))
    assert kinds(report) == [(BreakKind.BALANCE_DIFFERS, EUR.text), (BreakKind.MISSING_ENTRY, EUR.text)]
    assert report.breaks[1].books == -200


async def test_broken_books_show_in_the_trial_balance(books: Books, admin_dsn: str) -> None:
    await books.fiat.fund(500)
    superuser = await asyncpg.connect(admin_dsn)
    await superuser.execute("SET session_replication_role = replica")
    columns = await superuser.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'ledger_accounts'"
    )
    assert {"credits_posted"} <= {row["column_name"] for row in columns}
    await superuser.execute(
        "UPDATE ledger_accounts SET credits_posted = credits_posted + 1 WHERE kind = 'wallet'"
    )
    await superuser.close()
    report = await books.run(StatedBank())
    assert (BreakKind.TRIAL_BALANCE, EUR.text) in kinds(report)


async def test_a_run_and_its_breaks_are_kept_for_ever_and_told(books: Books) -> None:
    books.chains[ETH].hold(ETH, 5)
    report = await books.run(StatedBank())
    async with books.fiat.database.read(books.fiat.tenant) as session:
        run = (await session.conn.execute(text("SELECT * FROM recon_runs"))).one()
        kept = (await session.conn.execute(text("SELECT * FROM recon_breaks"))).all()
        told = (
            await session.conn.execute(text("SELECT data FROM outbox WHERE type = 'recon.break_found'"))
        ).all()
    assert (run.id, run.breaks) == (report.run_id, 1)
    assert [(row.kind, row.books, row.outside) for row in kept] == [("balance_differs", 0, 5)]
    assert [row.data["asset"] for row in told] == [ETH.text]
    for sql in ("UPDATE recon_breaks SET detail = ''", "DELETE FROM recon_runs"):
        with pytest.raises(DBAPIError):
            async with books.fiat.database.unit_of_work(books.fiat.tenant) as uow:
                await uow.conn.execute(text(sql))


async def test_json_and_table_show_rows_breaks_and_trial_balance(books: Books) -> None:
    books.chains[ETH].hold(ETH, 5 * 10**17)
    await books.fiat.fund(500)
    report = await books.run(StatedBank())
    shown = json.loads(json.dumps(show_all([report])))
    assert set(shown) == {"breaks", "rows", "trial_balance"}
    assert shown["trial_balance"] == {"fiat/EUR": "0"}
    assert [row["outside"] for row in shown["rows"] if row["asset"] == ETH.text] == [str(5 * 10**17)]
    async with books.fiat.database.read(None) as session:
        listed = {asset.id: asset for asset in await assets.list_assets(session)}
    console = Console(record=True, width=200)
    print_table([report], listed, console)
    printed = console.export_text()
    assert "BREAK balance_differs" in printed
    assert "0.500000000000000000" in printed
    assert "3 breaks" in printed


@pytest.fixture
async def listener() -> AsyncIterator[CallbackListener]:
    started = CallbackListener(free_port())
    await started.start()
    yield started
    await started.stop()


async def test_after_payouts_returns_and_arrivals_books_equal_the_real_banks_statement(
    books: Books, listener: CallbackListener, tmp_path: Path
) -> None:
    bank = BankProcess(tmp_path, listener.url)
    await bank.start()
    rail = SandboxRail("sandbox", base_url=bank.url, callback_secret=SECRET, timeout_s=2)
    rails = RailRegistry({"sandbox": rail})
    fiat, clock = books.fiat, SystemClock()
    worker = Worker(db=fiat.database, rails=rails, clock=clock, lease=NOW - NOW)
    try:
        async with fiat.database.unit_of_work(fiat.tenant) as uow:
            reference = await receipts.reference_for(uow, fiat.wallet_id)
        await bank.pay_in(10_000, reference)
        await bank.pay_in(300, "who am I")
        await listener.wait_for(2)
        assert len((await books.run(rails)).breaks) == 3
        await take_all(fiat, rail, listener)
        for ending in (NORMAL, RETURNED):
            await fiat.request(2_500, ending)
        assert await worker.send_ready(fiat.tenant) == 2
        await listener.wait_for(5)
        await take_all(fiat, rail, listener)
        report = await books.run(rails)
    finally:
        await rails.aclose()
        await bank.kill()
    assert report.breaks == ()
    (row,) = (row for row in report.rows if row.holding.asset == EUR)
    assert (row.books, row.outside) == (7_800, 7_800)
    assert report.started_at <= datetime.now(UTC)


async def take_all(fiat: Fiat, rail: SandboxRail, listener: CallbackListener) -> None:
    """Everything delivered so far, as the API takes it in; repeating it changes nothing."""
    for headers, body in list(listener.received):
        await intake.apply(fiat.database, SystemClock(), rail.parse_callback(headers, body))
