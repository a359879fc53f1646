"""An anchor with every real part: SoftHSM signer, Stellar network, ingestion, worker, and the commands as operators type them."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from stellar_sdk import HashMemo, Payment, TransactionEnvelope

from custody.assets import service as assets
from custody.chains.registry import build_clients
from custody.db.session import Database
from custody.deposits import execution as vaults
from custody.deposits import service as deposits
from custody.identity import service as identity
from custody.kernel.clock import SystemClock
from custody.kernel.ids import CustomerId, TenantId, derived_uuid, new_uuid
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.policy import service as policies
from custody.recon import service as recon
from custody.recon.service import Patience
from custody.seals import anchors
from custody.seals.model import AnchorView
from custody.signing.client import SignerClient
from custody.wallets import service as wallets
from custody.withdrawals import service as withdrawals
from rails.registry import build_rails
from tests.commands import custody
from tests.contract.port_benches import start_signer
from tests.fakes.signer_people import PASSPHRASE
from tests.fakes.withdrawal_world import STELLAR, make_decision
from tests.integration.signer_harness import SignerProcess
from tests.integration.test_withdrawals_processes import (
    DEPOSIT,
    WALLET,
    XLM,
    Site,
    deposit_xlm,
    make_settings,
    on_chain,
    running,
    stellar_network,
    to_toml,
    until,
)

pytestmark = pytest.mark.stack


@pytest.fixture
def signer_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignerProcess]:
    process = start_signer(tmp_path_factory.mktemp("signer"))
    process.hang_up()
    yield process
    process.stop()


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[tuple[str, AsyncExitStack]]:
    """The local Stellar network's address, and how to end it early."""
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(stellar_network(tmp_path)), stack


@pytest.fixture
async def site(
    database: Database,
    tenant: TenantId,
    app_dsn: str,
    tmp_path: Path,
    signer_process: SignerProcess,
    network: tuple[str, AsyncExitStack],
) -> Site:
    """A tenant with one Stellar vault that holds one deposit."""
    url, stack = network
    socket = signer_process.directory / "s.sock"
    settings = make_settings(app_dsn, socket, url, "http://127.0.0.1:1")
    settings = settings.model_copy(update={"chains": settings.chains[:1]})
    config = tmp_path / "custody.toml"
    config.write_text(to_toml(settings, app_dsn), encoding="utf-8")
    signer = SignerClient(str(socket), timeout_s=30)
    site = Site(db=database, tenant=tenant, settings=settings, config=config, signer=signer, vaults={})
    address = await open_books(site)
    await stack.enter_async_context(running("ingestion.main", config, "--chain", STELLAR))
    await asyncio.to_thread(deposit_xlm, url, site.vaults[STELLAR].account, address)
    await until(lambda: has_arrived(site))
    return site


async def open_books(site: Site) -> str:
    """Policy, asset, wallet and vault. Returns where to send deposits."""
    async with site.db.unit_of_work(None) as uow:
        await policies.adopt(uow, await site.signer.get_policy())
    async with site.db.unit_of_work(site.tenant) as uow:
        await assets.register(uow, XLM, "XLM", 7)
        customer = await wallets.create_customer(
            uow, "test", CustomerId(derived_uuid("customer")), name="Ada", external_ref="ada"
        )
        await wallets.create_wallet(uow, "test", WALLET, customer.id, "main")
    site.vaults[STELLAR] = await vaults.create_vault(
        site.db, site.signer, site.principal, STELLAR, new_uuid()
    )
    issued = await vaults.issue_address(site.db, site.signer, site.principal, WALLET, STELLAR, new_uuid())
    return issued.address


async def test_a_checkpoint_is_anchored_by_one_command_and_two_approvals(
    site: Site, network: tuple[str, AsyncExitStack]
) -> None:
    url, stack = network
    early = await audit(site, "anchor")
    assert (early.returncode, "not_sealed" in early.stderr) == (1, True)
    await done(site, "seal")
    asked = await done(site, "anchor")
    assert "awaiting_approval" in asked
    assert await done(site, "anchor", "--tenant", str(site.tenant), "--chain", STELLAR) == asked
    async with running("custody.worker", site.config):
        assert await decide(site, "alice") == "awaiting_approval"
        assert "carries its hash" not in await done(site, "verify")
        assert await decide(site, "bob") == "approved"
        await until(lambda: is_settled(site))
    view = await anchor_of(site)
    assert f"settled, transaction {view.tx_hash}, ledger {view.height}" in await done(site, "anchors")
    memo, payment = await asyncio.to_thread(look_up, url, view)
    assert memo == view.anchor.seal_hash
    assert (payment.destination.account_id, payment.asset.is_native()) == (view.account, True)
    assert f"ledger {view.height} carries its hash" in await done(site, "verify")
    await books_equal_chain(site)
    await stack.aclose()
    assert "NOT CHECKED: the node does not answer" in await done(site, "verify")


async def test_without_a_vault_or_with_an_unknown_chain_nothing_is_asked_for(site: Site) -> None:
    await done(site, "seal")
    unknown = await audit(site, "anchor", "--chain", "stellar:pubnet")
    assert (unknown.returncode, STELLAR in unknown.stderr) == (2, True)
    assert (await audit(site, "anchor", "--tenant", "99")).returncode == 2
    async with site.db.unit_of_work(None) as uow:
        bare = await identity.create_tenant(uow, "bare")
    without = await audit(site, "anchor", "--tenant", str(bare))
    assert (without.returncode, "not_sealed" in without.stderr) == (1, True)
    assert await done(site, "anchors") == ""


async def has_arrived(site: Site) -> bool:
    return await site.owed(XLM) == DEPOSIT


async def is_settled(site: Site) -> bool:
    return (await anchor_of(site)).state == "settled"


async def anchor_of(site: Site) -> AnchorView:
    async with site.db.read(site.tenant) as session:
        (view,) = await anchors.list_anchors(session)
    return view


async def decide(site: Site, name: str) -> str:
    view = await anchor_of(site)
    async with site.db.unit_of_work(site.tenant) as uow:
        intent = (await withdrawals.get(uow, view.anchor.withdrawal_id)).intent
        decided = await withdrawals.decide(uow, view.anchor.withdrawal_id, make_decision(intent, name))
    return decided.state


def look_up(url: str, view: AnchorView) -> tuple[bytes, Payment]:
    """What a stranger finds: the transaction by its hash, asked of the network itself."""
    call = {"jsonrpc": "2.0", "id": 1, "method": "getTransaction", "params": {"hash": view.tx_hash}}
    found = httpx.post(url, json=call).json()["result"]
    assert (found["status"], found["ledger"]) == ("SUCCESS", view.height)
    transaction = TransactionEnvelope.from_xdr(found["envelopeXdr"], PASSPHRASE).transaction
    assert isinstance(transaction.memo, HashMemo)
    (payment,) = transaction.operations
    assert isinstance(payment, Payment)
    return transaction.memo.memo_hash, payment


async def books_equal_chain(site: Site) -> None:
    """The fee left the vault, nothing arrived after what opened and funded it, and reconciliation finds no break."""
    account = postings.vault_account(site.vaults[STELLAR].id, XLM)
    held = await on_chain(site, site.vaults[STELLAR].account, XLM)
    assert await site.owed(XLM) == DEPOSIT
    assert await site.booked(XLM) == held
    async with site.db.read(site.tenant) as session:
        states = [each.state for each in await deposits.list_deposits(session)]
        trial = await ledger.trial_balance(session)
        booked = await ledger.balance(session, account)
    assert (states, set(trial.values()), booked.pending_out) == (["suspended", "credited"], {0}, 0)
    clients, rails = build_clients(site.settings), build_rails(site.settings.rails)
    try:
        report = await recon.run(
            site.db, site.tenant, clients, rails, clock=SystemClock(), patience=Patience(looks=20)
        )
    finally:
        await rails.aclose()
        await clients[STELLAR].aclose()
    assert [(row.books, row.outside) for row in report.rows] == [(held, held)]
    assert list(report.breaks) == []


async def audit(site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    """The `custody audit` command in a process of its own."""
    return await asyncio.to_thread(custody, site.config, "audit", *words)


async def done(site: Site, *words: str) -> str:
    ran = await audit(site, *words)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
