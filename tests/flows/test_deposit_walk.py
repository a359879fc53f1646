"""The walk of a deposit: a stranger's payment on a real (local) ledger becomes money in a customer's wallet, once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from custody.db.session import Database
from custody.kernel.assetid import ChainId, native
from custody.kernel.ids import TenantId
from devnet.stellar.network import LocalNetwork
from devnet.stellar.outsider import Outsider
from devnet.stellar.server import Served, serve_in_thread
from ingestion.stellar.sources import RpcLedgers
from tests.fakes.key_maker import FakeKeyMaker
from tests.flows.told import actions_on, events_of
from tests.integration.ingestion_harness import Desk, build_loop, catch_up, open_ledgers, take_fence

pytestmark = pytest.mark.usefixtures("told_as_promised")

CHAIN = ChainId("stellar:devnet")
XLM = native(CHAIN)


@pytest.fixture
def served() -> Iterator[Served]:
    with serve_in_thread(LocalNetwork()) as running:
        yield running


@pytest.fixture
async def source(served: Served, database: Database) -> AsyncIterator[RpcLedgers]:
    opened = open_ledgers(CHAIN, served.url, served.network.passphrase, database)
    yield opened
    await opened.aclose()


async def test_a_strangers_payment_becomes_a_customers_money_once(
    database: Database, tenant: TenantId, served: Served, source: RpcLedgers
) -> None:
    desk = Desk(db=database, tenant=tenant, chain=CHAIN, keys=FakeKeyMaker())
    await desk.list_asset(XLM, "XLM", 7)
    # A customer has a wallet; the wallet has a muxed address of the omnibus account.
    ada = await desk.open_wallet("ada")
    vault = await desk.open_omnibus()
    address = await desk.issue_address(ada)
    assert address.address.startswith("M")
    assert address.account == vault.account

    # Somebody pays to it on the chain.
    def pay() -> None:
        with Outsider(served.url, drive=True) as outsider:
            outsider.fund(vault.account)
            outsider.pay(outsider.new_account(), address.address, 500)

    await asyncio.to_thread(pay)

    # Ingestion takes the ledgers in: each ledger's movements and its cursor in one transaction.
    loop = build_loop(database, source, await take_fence(database, CHAIN))
    await catch_up(loop)
    (deposit,) = [each for each in await desk.deposits() if each.wallet_id == ada]
    assert (deposit.state, deposit.transfer.amount) == ("credited", 500)
    assert await events_of(database, tenant, deposit.id) == ["deposit.observed", "deposit.credited"]
    assert await actions_on(database, tenant, deposit.id) == ["deposit.observed", "deposit.credited"]

    # The ledger owes the customer what the vault holds for them.
    assert await desk.owed(ada, XLM) == 500
    assert await desk.held(vault, XLM) == 500 + await desk.suspended(XLM)

    # A worker that starts again from the chain's first ledger finds everything done.
    again = build_loop(database, source, await take_fence(database, CHAIN))
    await catch_up(again)
    assert await desk.owed(ada, XLM) == 500
    assert await events_of(database, tenant, deposit.id) == ["deposit.observed", "deposit.credited"]
