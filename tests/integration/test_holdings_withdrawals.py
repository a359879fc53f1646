"""Our own payments and the comparison: in flight they are no difference, in a block they are booked by the time of comparing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from custody.db.session import Database
from custody.deposits import service as deposits
from custody.deposits.model import ObservedTransfer
from custody.holdings import service as holdings
from custody.holdings import stops
from custody.holdings.model import ChainState, HoldingBreak, HoldingState
from custody.kernel.ids import TenantId, WithdrawalId, derived_uuid
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.model import OpenAccount, Transfer, TransferCode
from custody.wallets import service as wallets
from custody.wallets.model import VaultRef
from custody.withdrawals import service as withdrawals
from custody.withdrawals.model import Attempt, Withdrawal
from ingestion import effects, settling
from ingestion.finality import Standing
from ingestion.model import BlockFacts, BlockRef, ChainTransaction, Departure, Movement
from ingestion.settling import Settled
from tests.fakes.withdrawal_world import ETH, FUNDS, STELLAR, USDC, VAULT, XLM, World
from tests.integration.ingestion_harness import take_fence

FEE = 100
AMOUNT = 1000
NOBODYS = {"memo_missing": 1}


class Ledgers:
    """A vault's lumens through ledgers that a test writes."""

    def __init__(self, world: World, fence: int, account: str, height: int) -> None:
        self._world = world
        self._fence = fence
        self.height = height
        self.account = account
        self.held = FUNDS

    async def close(
        self,
        *,
        arrived: int = 0,
        left: int = 0,
        sent: ChainTransaction | None = None,
        carrier: str = "aa" * 32,
    ) -> Settled:
        """One ledger that is final at once: what arrived, what left, and the transaction of ours in it."""
        self.height += 1
        before = self.held
        self.held += arrived - left - (sent.fee_atomic if sent else 0)
        ref = self._ref()
        state = HoldingState(account=self.account, asset=XLM, exists=True, before=before, amount=self.held)
        moved = Movement(
            tx_hash=carrier,
            ordinal=1,
            asset=XLM,
            source=self.account if left else "G",
            account=self.account,
            tag=None,
            memo="",
            amount=arrived,
        )
        gone = Departure(tx_hash=carrier, asset=XLM, account=self.account, amount=left)
        facts = BlockFacts(
            ref=ref,
            movements=(moved,) if arrived else (),
            departures=(gone,) if left else (),
            transactions=(sent,) if sent else (),
            state=ChainState(holdings=(state,)),
        )
        async with self._world.db.unit_of_work(None) as uow:
            await effects.observe_block(uow, STELLAR, facts)
        return await settling.settle(self._world.db, STELLAR, self._fence, ref, Standing(reached=ref.height))

    def transaction(self, attempt: Attempt, *, succeeded: bool = True, carrier: str = "") -> ChainTransaction:
        """The attempt's transaction in a block; in a fee bump of somebody else it pays nothing."""
        assert attempt.tx_hash is not None
        return ChainTransaction(
            tx_hash=attempt.tx_hash,
            carrier_hash=carrier or attempt.tx_hash,
            account=self.account,
            succeeded=succeeded,
            fee_atomic=0 if carrier else FEE,
            sequence=attempt.sequence,
        )

    async def close_empty(self) -> Settled:
        """A ledger that touches nothing of ours."""
        self.height += 1
        ref = self._ref()
        return await settling.settle(self._world.db, STELLAR, self._fence, ref, Standing(reached=ref.height))

    def _ref(self) -> BlockRef:
        return BlockRef(
            height=self.height,
            hash=f"{self.height:064x}",
            parent_hash=f"{self.height - 1:064x}",
            closed_at=datetime(2026, 1, 1, tzinfo=UTC),
        )

    async def breaks(self) -> list[HoldingBreak]:
        async with self._world.db.read(self._world.tenant) as session:
            return [found for _, found in await holdings.list_breaks(session)]


@pytest.fixture
async def world(database: Database, tenant: TenantId) -> World:
    return await World(db=database, tenant=tenant).open()


@pytest.fixture
async def ledgers(world: World) -> Ledgers:
    async with world.db.read(world.tenant) as session:
        vault = await wallets.get_vault(session, VAULT[STELLAR])
    fence = await take_fence(world.db, STELLAR)
    return Ledgers(world, fence, vault.account, world.chains[STELLAR].height)


async def sent(world: World) -> tuple[Withdrawal, Attempt]:
    """A withdrawal whose bytes are with the node."""
    asked = await world.request(XLM, AMOUNT, approve=["alice", "bob"])
    assert await world.advance(asked) == "broadcasting"
    (attempt,) = (await world.view(asked)).attempts
    return asked, attempt


async def test_a_payment_in_flight_is_no_difference_and_neither_is_the_block_that_holds_it(
    world: World, ledgers: Ledgers
) -> None:
    asked, attempt = await sent(world)
    assert await ledgers.close(arrived=7) == Settled(cases=NOBODYS)
    paid = ledgers.transaction(attempt)
    assert await ledgers.close(left=AMOUNT, sent=paid, carrier=paid.tx_hash) == Settled()
    assert await world.state(asked) == "settled"
    assert await ledgers.breaks() == []


async def test_a_payment_that_fails_on_chain_costs_its_fee_only(world: World, ledgers: Ledgers) -> None:
    asked, attempt = await sent(world)
    assert await ledgers.close(sent=ledgers.transaction(attempt, succeeded=False)) == Settled()
    assert await world.state(asked) == "failed"
    assert await ledgers.breaks() == []


async def test_a_fee_bump_by_somebody_else_is_booked_without_a_fee(world: World, ledgers: Ledgers) -> None:
    _, attempt = await sent(world)
    bump = "bb" * 32
    paid = ledgers.transaction(attempt, carrier=bump)
    assert await ledgers.close(left=AMOUNT, sent=paid, carrier=bump) == Settled()
    assert await ledgers.breaks() == []


async def test_a_payment_that_takes_more_than_its_withdrawal_is_named(world: World, ledgers: Ledgers) -> None:
    _, attempt = await sent(world)
    await ledgers.close(arrived=5, carrier="01" * 32)
    paid = ledgers.transaction(attempt)
    assert await ledgers.close(left=AMOUNT + 1, sent=paid, carrier=paid.tx_hash) == Settled(breaks=1)
    (found,) = await ledgers.breaks()
    assert (found.opened.difference, found.first_tx) == (1, attempt.tx_hash)
    assert found.first is not None
    named = (found.first.movement, found.first.chain, found.first.books)
    assert named == ("departure", -AMOUNT - 1, -AMOUNT)
    # Later blocks that are booked as they happened change nothing of who was first.
    assert await ledgers.close(arrived=9, carrier="02" * 32) == Settled(breaks=1, cases=NOBODYS)
    assert [each.first_tx for each in await ledgers.breaks()] == [attempt.tx_hash]


async def test_a_vault_that_pays_itself_changes_nothing(world: World, ledgers: Ledgers) -> None:
    await ledgers.close(arrived=5)
    assert await ledgers.close(arrived=3, left=3, carrier="03" * 32) == Settled()
    assert await ledgers.breaks() == []


async def test_a_deposit_that_is_read_late_explains_what_lay_there_before(
    world: World, ledgers: Ledgers
) -> None:
    ledgers.held = FUNDS + 7
    assert await ledgers.close(arrived=5) == Settled(cases=NOBODYS)
    late = ObservedTransfer(
        chain=STELLAR,
        height=ledgers.height - 1,
        block_hash="ff",
        tx_hash="04" * 32,
        ordinal=1,
        asset=XLM,
        source="G",
        account=ledgers.account,
        tag=None,
        amount=7,
        occurred_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    ref = VaultRef(tenant=world.tenant, vault_id=VAULT[STELLAR], account=ledgers.account)
    async with world.db.unit_of_work(world.tenant) as uow:
        await deposits.observe(uow, ref, late)
    assert await ledgers.close(arrived=1, carrier="05" * 32) == Settled(cases={"memo_missing": 2})
    async with world.db.read(world.tenant) as session:
        (kept,) = await holdings.list_holdings(session, [VAULT[STELLAR]])
    assert (kept.opening, kept.state.amount) == (0, FUNDS + 13)


async def book(world: World, amount: int) -> None:
    """A person corrects the books: into the vault, or out of it below zero, against suspense."""
    sides = (postings.vault_account(VAULT[STELLAR], XLM), postings.suspense_account(XLM))
    debit, credit = sides if amount > 0 else sides[::-1]
    async with world.db.unit_of_work(world.tenant) as uow:
        moved = Transfer(
            id=derived_uuid("correction", amount),
            debit=debit,
            credit=credit,
            amount=Amount(XLM, abs(amount)),
            code=TransferCode.DEPOSIT_SUSPENDED,
            reference=derived_uuid("person"),
        )
        await ledger.post(uow, OpenAccount(key=sides[1]), moved)


async def threshold(world: World, amount: int) -> int:
    async with world.db.unit_of_work(world.tenant) as uow:
        return (await stops.set_threshold(uow, "treasurer", XLM, amount)).version


async def stuck(world: World, asked: Withdrawal) -> str:
    return (await world.view(asked)).withdrawal.stuck_reason


async def test_a_booking_without_money_is_a_break_at_the_next_final_height(
    world: World, ledgers: Ledgers
) -> None:
    await ledgers.close(arrived=5)
    await book(world, 7)
    # A ledger that touches nothing of ours.
    ledgers.held = FUNDS + 5
    assert (await ledgers.close_empty()).breaks == 1
    (found,) = await ledgers.breaks()
    assert (found.opened.difference, found.difference, found.first) == (7, 7, None)
    await book(world, -7)
    assert (await ledgers.close_empty()).breaks == 0
    assert [(each.state, each.difference) for each in await ledgers.breaks()] == [("closed", 0)]
    async with world.db.read(world.tenant) as session:
        (newest, *_) = await holdings.list_comparisons(session, VAULT[STELLAR], XLM)
    assert newest.difference == 0


async def test_a_payment_waits_while_the_books_differ_and_goes_on_by_itself(
    world: World, ledgers: Ledgers
) -> None:
    await ledgers.close(arrived=50, carrier="0a" * 32)
    first = await world.request(XLM, AMOUNT, approve=["alice", "bob"])
    operation = await world.request(ETH, AMOUNT, approve=["alice", "bob"])
    await ledgers.close(left=9, carrier="0b" * 32)
    calls = len(world.signer.journal)
    assert await world.advance(first) == "approved"
    assert (await stuck(world, first), len(world.signer.journal)) == ("books_differ", calls)
    # Another vault and asset is not concerned, and a threshold of what differs lets it pass.
    assert await world.advance(operation) == "broadcasting"
    assert await threshold(world, 8) == 1
    assert await world.advance(first) == "approved"
    assert (await threshold(world, 9), await threshold(world, 9)) == (2, 2)
    assert await world.advance(first) == "broadcasting"
    assert await stuck(world, first) == ""
    # The break grows beyond it: the next one waits, until a person has booked what left.
    second = await world.request(XLM, AMOUNT, approve=["alice", "bob"])
    (attempt,) = (await world.view(first)).attempts
    paid = ledgers.transaction(attempt)
    await ledgers.close(left=AMOUNT + 1, sent=paid, carrier=paid.tx_hash)
    assert [each.difference for each in await ledgers.breaks()] == [10]
    assert await world.advance(second) == "approved"
    assert await stuck(world, second) == "books_differ"
    await book(world, -10)
    assert (await ledgers.close_empty()).breaks == 0
    node = world.chains[STELLAR]
    node.close_block()
    node.height = ledgers.height
    assert await world.advance(second) == "broadcasting"


async def test_a_stopped_payment_keeps_nobody_waiting_who_pays_another_asset(
    world: World, ledgers: Ledgers
) -> None:
    await ledgers.close(arrived=5, carrier="0a" * 32)
    first = await world.request(XLM, AMOUNT, approve=["alice", "bob"])
    async with world.db.unit_of_work(world.tenant) as uow:
        trust = await withdrawals.request_trustline(
            uow,
            world.principal,
            WithdrawalId(derived_uuid("trust")),
            VAULT[STELLAR],
            USDC,
            settings=world.settings,
            clock=world.clock,
        )
    for name in ("alice", "bob"):
        trust = await world.decide(trust, name)
    await ledgers.close(left=9, carrier="0b" * 32)
    assert await world.advance(first) == "approved"
    assert await world.advance(trust) == "broadcasting"


async def test_nothing_is_reserved_once_a_break_is_there(world: World, ledgers: Ledgers) -> None:
    """A break waits for whoever asked before it, and whoever asks after it sees it."""
    await ledgers.close(arrived=5)
    asked = await world.request(XLM, AMOUNT, approve=["alice", "bob"])
    async with world.db.unit_of_work(world.tenant) as uow:
        assert await stops.demand(uow, (VAULT[STELLAR], XLM)) is None
        closing = asyncio.create_task(ledgers.close(left=9, carrier="0b" * 32))
        done, _ = await asyncio.wait({closing}, timeout=0.3)
        assert not done
    assert (await closing).breaks == 1
    assert await world.advance(asked) == "approved"
