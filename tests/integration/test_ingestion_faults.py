"""Lies and losses: a ledger that does not add up, a database that goes away, several tenants, money that leaves unasked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import asyncpg
import pytest
from stellar_sdk import Asset, AuthorizationFlag, Clawback, Keypair, Payment

from custody.chains.errors import RpcRefused
from custody.chains.ports import Head
from custody.deposits import execution
from custody.kernel.assetid import ChainId, parse_asset_id
from custody.kernel.ids import TenantId, derived_uuid
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served
from ingestion import cursor
from ingestion.errors import HistoryLost, UnprovedTransaction
from ingestion.model import BlockFacts, Discrepancy
from ingestion.stellar.sources import RpcLedgers
from tests.integration.ingestion_harness import (
    OMNIBUS_REQUEST,
    Desk,
    build_loop,
    catch_up,
    take_fence,
)
from tests.integration.stellar_stage import CHAIN, XLM, desk, outsider, served, source

__all__ = ["desk", "outsider", "served", "source"]


pytestmark = pytest.mark.stack


def payment(address: str) -> Payment:
    """One XLM."""
    return Payment(address, Asset.native(), "1")


class LyingSource:
    """The network's ledgers, with a discrepancy for one account in every transaction that pays us."""

    def __init__(self, honest: RpcLedgers, account: str) -> None:
        self._honest = honest
        self._account = account

    @property
    def chain(self) -> ChainId:
        return self._honest.chain

    @property
    def reorganises(self) -> bool:
        return False

    @property
    def batch_max(self) -> int:
        return self._honest.batch_max

    async def verify_network(self) -> None:
        await self._honest.verify_network()

    async def head(self) -> Head:
        return await self._honest.head()

    async def oldest(self) -> int:
        return await self._honest.oldest()

    async def fetch(self, first: int, last: int) -> list[BlockFacts]:
        return [self._lie(facts) for facts in await self._honest.fetch(first, last)]

    async def hashes(self, heights: Sequence[int]) -> dict[int, str]:
        return await self._honest.hashes(heights)

    async def aclose(self) -> None:
        await self._honest.aclose()

    def _lie(self, facts: BlockFacts) -> BlockFacts:
        wrong = [
            Discrepancy(tx_hash=each.tx_hash, account=self._account, asset="native", reported=1, changed=2)
            for each in facts.movements
        ]
        return replace(facts, discrepancies=tuple(wrong))


async def test_a_transaction_that_does_not_add_up_for_us_books_nothing_and_one_of_others_does_no_harm(
    desk: Desk, source: RpcLedgers, outsider: Outsider
) -> None:
    ada = await desk.open_wallet("ada")
    vault = await desk.open_omnibus()
    address = await desk.issue_address(ada)
    await asyncio.to_thread(outsider.fund, vault.account)
    payer = await asyncio.to_thread(outsider.new_account)
    await asyncio.to_thread(outsider.pay, payer, address.address, 5)
    lying = build_loop(desk.db, LyingSource(source, vault.account), await take_fence(desk.db, CHAIN))
    with pytest.raises(UnprovedTransaction):
        await catch_up(lying)
    async with desk.db.read(None) as session:
        booked = await cursor.load(session, CHAIN)
    assert booked is not None
    # Up to the ledger before the first that pays us.
    assert booked.height == 2
    assert await desk.deposits() == []
    fence = await take_fence(desk.db, CHAIN)
    await catch_up(build_loop(desk.db, LyingSource(source, payer.public_key), fence))
    assert await desk.owed(ada, XLM) == 5


async def test_a_database_that_ends_every_connection_is_come_back_to(
    desk: Desk, source: RpcLedgers, served: Served, admin_dsn: str
) -> None:
    stop = asyncio.Event()
    loop = build_loop(desk.db, source, await take_fence(desk.db, CHAIN), stop=stop)
    running = asyncio.create_task(loop.run())
    admin = await asyncpg.connect(admin_dsn)
    for _ in range(5):
        await admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        served.network.close()
        await asyncio.sleep(0.05)
    await admin.close()
    async with asyncio.timeout(60):
        # The database has to be asked: nothing on this side could set an event.
        while await desk.final_height() < served.network.latest.sequence:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    stop.set()
    async with asyncio.timeout(10):
        await running


async def test_one_ledger_may_bring_money_to_several_tenants_and_each_sees_its_own(
    desk: Desk, source: RpcLedgers, outsider: Outsider, served: Served, other_tenant: TenantId
) -> None:
    rival = replace(desk, tenant=other_tenant)
    vault = await desk.open_omnibus()
    theirs = await execution.create_vault(
        rival.db, rival.keys, rival.principal, CHAIN, derived_uuid("rival's vault")
    )
    ada = await desk.open_wallet("ada")
    eve = await rival.open_wallet("eve")
    to_ada = await desk.issue_address(ada)
    to_eve = await rival.issue_address(eve, derived_uuid("eve's address"))

    def pay() -> None:
        outsider.fund(vault.account)
        outsider.fund(theirs.account)
        first, second = outsider.new_account(), outsider.new_account()
        for envelope in (
            outsider.build(first, [payment(to_ada.address)]),
            outsider.build(second, [payment(to_eve.address)]),
        ):
            served.network.submit(envelope.to_xdr())
        served.network.close()

    await asyncio.to_thread(pay)
    await catch_up(build_loop(desk.db, source, await take_fence(desk.db, CHAIN)))
    assert (await desk.owed(ada, XLM), await rival.owed(eve, XLM)) == (10**7, 10**7)
    heights = {each.transfer.height for each in [*await desk.deposits(), *await rival.deposits()]}
    assert served.network.latest.sequence in heights
    assert {each.wallet_id for each in await desk.deposits()} == {ada, None}
    assert {each.wallet_id for each in await rival.deposits()} == {eve, None}


async def test_money_that_an_issuer_takes_back_is_told_and_not_booked(
    desk: Desk, source: RpcLedgers, outsider: Outsider, capsys: pytest.CaptureFixture[str]
) -> None:
    vault = await desk.open_omnibus()
    key = Keypair.from_raw_ed25519_seed(OMNIBUS_REQUEST.bytes * 2)

    def play() -> str:
        outsider.fund(vault.account)
        issued = outsider.issue_asset("USDC", flags=AuthorizationFlag(10))
        outsider.trust(key, issued.asset)
        outsider.pay(issued.issuer, vault.account, 90, asset=issued.asset)
        outsider.send(issued.issuer, [Clawback(issued.asset, vault.account, "0.0000030")])
        return issued.issuer.public_key

    issuer = await asyncio.to_thread(play)
    usdc = parse_asset_id(f"stellar:devnet/USDC:{issuer}")
    await desk.list_asset(usdc, "USDC", 7)
    await catch_up(build_loop(desk.db, source, await take_fence(desk.db, CHAIN)))
    assert await desk.held(vault, usdc) == 90
    assert "ingestion.unexplained_departure" in capsys.readouterr().out


async def test_a_ledger_that_the_node_no_longer_has_is_named(
    desk: Desk, source: RpcLedgers, served: Served
) -> None:
    oldest = await source.oldest()
    assert oldest == served.network.oldest.sequence
    assert (await source.hashes([oldest]))[oldest] == served.network.oldest.hash.hex()
    with pytest.raises(HistoryLost):
        await source.fetch(oldest - 1, oldest)
    with pytest.raises(RpcRefused):
        await source.fetch(oldest + 1000, oldest + 1001)


async def test_customers_move_money_while_a_block_is_booked_and_nobody_waits_for_ever(
    desk: Desk, source: RpcLedgers, outsider: Outsider, served: Served
) -> None:
    ada, bob = await desk.open_wallet("ada"), await desk.open_wallet("bob")
    vault = await desk.open_omnibus()
    to_ada, to_bob = await desk.issue_address(ada), await desk.issue_address(bob)
    await asyncio.to_thread(outsider.fund, vault.account)
    payer = await asyncio.to_thread(outsider.new_account)
    for _ in range(3):
        operations = [payment(address.address) for address in (to_ada, to_bob) for _ in range(5)]
        await asyncio.to_thread(outsider.send, payer, operations)
    loop = build_loop(desk.db, source, await take_fence(desk.db, CHAIN))

    async def shuffle(number: int) -> None:
        source_id, destination_id = (ada, bob) if number % 2 else (bob, ada)
        async with desk.db.unit_of_work(desk.tenant) as uow:
            commands = postings.wallet_transfer(
                transfer_id=derived_uuid("shuffle", number),
                source_wallet_id=source_id,
                destination_wallet_id=destination_id,
                amount=Amount(XLM, 1),
            )
            await ledger.submit(uow, [commands])

    async with asyncio.timeout(60):
        await asyncio.gather(catch_up(loop), *(shuffle(number) for number in range(60)))
    assert await desk.owed(ada, XLM) + await desk.owed(bob, XLM) == 30 * 10**7
    async with desk.db.read(desk.tenant) as session:
        assert set((await ledger.trial_balance(session)).values()) == {0}
