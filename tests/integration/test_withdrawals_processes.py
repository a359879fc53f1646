"""Withdrawals with every real part: SoftHSM signer, Stellar network, anvil, ingestion, and a worker that is killed at random.

The one thing asserted is the end: each withdrawal is on chain exactly once, and the books say what the chains say.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from custody.assets import service as assets
from custody.chains.registry import build_client
from custody.db.session import Database
from custody.deposits import execution as deposits
from custody.identity.model import Principal
from custody.kernel.assetid import AssetId, ChainId, native
from custody.kernel.clock import SystemClock
from custody.kernel.ids import (
    CustomerId,
    PrincipalId,
    TenantId,
    WalletId,
    WithdrawalId,
    derived_uuid,
    new_uuid,
)
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.policy import service as policies
from custody.settings import Settings
from custody.signing.client import SignerClient
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from custody.withdrawals import service as withdrawals
from custody.withdrawals.model import RequestWithdrawal, Withdrawal
from devnet import anvil
from devnet.evm import Outsider as EvmOutsider
from devnet.ports import choose_port
from devnet.processes import answers
from devnet.stellar.outsider import Outsider as StellarOutsider
from tests.contract.port_benches import start_signer
from tests.fakes.signer_people import PASSPHRASE
from tests.fakes.withdrawal_world import EVM, OUTSIDE, STELLAR, make_decision
from tests.integration.signer_harness import SignerProcess

pytestmark = pytest.mark.stack

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120
DEPOSIT = 10**9
AMOUNT = 1000
PAID = 5
"""Withdrawals per chain while the worker is killed."""
WALLET = WalletId(derived_uuid("wallet"))
XLM, ETH = native(STELLAR), native(EVM)


@dataclass(kw_only=True)
class Site:
    """A tenant on real parts."""

    db: Database
    tenant: TenantId
    settings: Settings
    config: Path
    signer: SignerClient
    vaults: dict[ChainId, Vault]

    @property
    def principal(self) -> Principal:
        return Principal(
            tenant=self.tenant,
            id=PrincipalId(derived_uuid("principal")),
            subject="maker",
            scopes=frozenset({"operate"}),
        )

    async def request(self, asset: AssetId, approvers: Sequence[str] = ("alice", "bob")) -> Withdrawal:
        command = RequestWithdrawal(
            id=WithdrawalId(new_uuid()),
            wallet_id=WALLET,
            asset=asset,
            destination=OUTSIDE[asset.chain],
            amount=AMOUNT,
        )
        async with self.db.unit_of_work(self.tenant) as uow:
            made = await withdrawals.request(
                uow, self.principal, command, settings=self.settings, clock=SystemClock()
            )
        for name in approvers:
            async with self.db.unit_of_work(self.tenant) as uow:
                made = await withdrawals.decide(uow, made.id, make_decision(made.intent, name))
        return made

    async def states(self, made: Sequence[Withdrawal]) -> set[str]:
        async with self.db.read(self.tenant) as session:
            return {(await withdrawals.get(session, each.id)).state for each in made}

    async def owed(self, asset: AssetId) -> int:
        async with self.db.read(self.tenant) as session:
            return (await ledger.balance(session, postings.wallet_account(WALLET, asset))).posted

    async def booked(self, asset: AssetId) -> int:
        account = postings.vault_account(self.vaults[asset.chain].id, asset)
        async with self.db.read(self.tenant) as session:
            assert not any((await ledger.trial_balance(session)).values())
            return (await ledger.balance(session, account)).posted


@pytest.fixture(scope="module")
def signer_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SignerProcess]:
    process = start_signer(tmp_path_factory.mktemp("signer"))
    process.hang_up()
    yield process
    process.stop()


@pytest.fixture
async def site(
    database: Database, tenant: TenantId, app_dsn: str, tmp_path: Path, signer_process: SignerProcess
) -> AsyncIterator[Site]:
    socket = signer_process.directory / "s.sock"
    async with AsyncExitStack() as stack:
        stellar_url = await stack.enter_async_context(stellar_network(tmp_path))
        evm_url = await stack.enter_async_context(evm_network(tmp_path))
        settings = make_settings(app_dsn, socket, stellar_url, evm_url)
        config = tmp_path / "custody.toml"
        config.write_text(to_toml(settings, app_dsn), encoding="utf-8")
        site = Site(
            db=database,
            tenant=tenant,
            settings=settings,
            config=config,
            signer=SignerClient(str(socket), timeout_s=30),
            vaults={},
        )
        addresses = await open_books(site)
        for chain in (STELLAR, EVM):
            await stack.enter_async_context(running("ingestion.main", config, "--chain", chain))
        await asyncio.to_thread(deposit_xlm, stellar_url, site.vaults[STELLAR].account, addresses[STELLAR])
        async with EvmOutsider(evm_url) as outsider:
            await outsider.send_ether(addresses[EVM], 10**18)
        await until(lambda: has_arrived(site))
        yield site


async def test_killed_worker_never_pays_twice_and_books_equal_chains(site: Site):
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    owed = {asset: await site.owed(asset) for asset in (XLM, ETH)}
    outside = {asset: await on_chain(site, OUTSIDE[asset.chain], asset) for asset in (XLM, ETH)}
    made = [await site.request(asset) for asset in (XLM, ETH) * PAID]
    for _ in range(6):
        async with running("custody.worker", site.config) as worker:
            await asyncio.sleep(dice.uniform(0.7, 2.0))
            worker.send_signal(signal.SIGKILL)
    async with running("custody.worker", site.config) as worker:
        made += [await site.request(asset) for asset in (XLM, ETH)]
        await until(lambda: has_come_to(site, made, {"settled"}))
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 30) == 0
    for asset in (XLM, ETH):
        assert await site.owed(asset) == owed[asset] - (PAID + 1) * AMOUNT
        assert await on_chain(site, OUTSIDE[asset.chain], asset) == outside[asset] + (PAID + 1) * AMOUNT
        await until(lambda asset=asset: equals_chain(site, asset))


async def test_worker_without_signer_and_redis_stays_up_and_ends_with_zero(
    app_dsn: str, tmp_path: Path, tenant: TenantId
):
    config = tmp_path / "custody.toml"
    settings = make_settings(app_dsn, tmp_path / "none.sock", "http://127.0.0.1:1", "http://127.0.0.1:1")
    config.write_text(to_toml(settings, app_dsn), encoding="utf-8")
    said = tmp_path / "custody.worker.log"

    async def misses_both() -> bool:
        text = said.read_text("utf-8")
        return "redis.lost" in text and "worker.round_failed" in text

    async with running("custody.worker", config) as worker:
        await until(misses_both)
        assert worker.poll() is None
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 30) == 0


async def has_arrived(site: Site) -> bool:
    return await site.owed(XLM) == DEPOSIT and await site.owed(ETH) == 10**18


async def has_come_to(site: Site, made: Sequence[Withdrawal], states: set[str]) -> bool:
    return await site.states(made) == states


async def equals_chain(site: Site, asset: AssetId) -> bool:
    account = site.vaults[asset.chain].account
    return await site.booked(asset) == await on_chain(site, account, asset)


async def on_chain(site: Site, account: str, asset: AssetId) -> int:
    client = build_client(site.settings.chain(asset.chain))
    try:
        return (await client.balance(account, asset, None)).amount
    finally:
        await client.aclose()


async def open_books(site: Site) -> dict[ChainId, str]:
    """Assets, a treasury wallet, a vault per chain with a key from the HSM. Returns where to send deposits."""
    async with site.db.unit_of_work(None) as uow:
        await policies.adopt(uow, await site.signer.get_policy())
    async with site.db.unit_of_work(site.tenant) as uow:
        await assets.register(uow, XLM, "XLM", 7)
        await assets.register(uow, ETH, "ETH", 18)
        customer = await wallets.create_customer(
            uow,
            "test",
            CustomerId(derived_uuid("customer")),
            name="Treasury",
            external_ref="t",
            kind="treasury",
        )
        await wallets.create_wallet(uow, "test", WALLET, customer.id, "main")
    found = {}
    for chain in (STELLAR, EVM):
        site.vaults[chain] = await deposits.create_vault(
            site.db, site.signer, site.principal, chain, new_uuid()
        )
        address = await deposits.issue_address(
            site.db, site.signer, site.principal, WALLET, chain, new_uuid()
        )
        found[chain] = address.address
    return found


def deposit_xlm(url: str, vault: str, address: str) -> None:
    with StellarOutsider(url) as outsider:
        outsider.fund(vault)
        outsider.fund(OUTSIDE[STELLAR])
        outsider.pay(outsider.new_account(), address, DEPOSIT)


async def until(check) -> None:
    """Wait for it; fails when it takes too long."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if await check():
                return
            await asyncio.sleep(0.2)


@asynccontextmanager
async def running(module: str, config: Path, *options: str) -> AsyncIterator[subprocess.Popen[bytes]]:
    """A process of the product; killed at the end if it still runs."""
    log = (config.parent / f"{module}.log").open("ab")
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "CUSTODY_CONFIG": str(config)}
    child = await asyncio.to_thread(
        subprocess.Popen,
        [sys.executable, "-m", module, *options],
        cwd=config.parent,
        env=env,
        stdout=log,
        stderr=log,
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()
        log.close()


@asynccontextmanager
async def stellar_network(folder: Path) -> AsyncIterator[str]:
    state = folder / "stellar"
    command = [sys.executable, "-m", "devnet.stellar.main", "--port", "0", "--close-every", "0.5"]
    child = await asyncio.to_thread(
        subprocess.Popen,
        [*command, "--state-dir", str(state), "--passphrase", PASSPHRASE],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert child.stdout is not None
        line = await asyncio.to_thread(child.stdout.readline)
        yield line.split("stellar devnet at ")[1].split(",")[0]
    finally:
        child.kill()
        child.communicate()


@asynccontextmanager
async def evm_network(folder: Path) -> AsyncIterator[str]:
    port = choose_port("anvil", None, set(), lambda _: None)
    spec = anvil.anvil_spec(ROOT, folder, port)
    child = await asyncio.to_thread(
        subprocess.Popen, spec.argv, env=dict(spec.env), cwd=spec.cwd, stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + 60
        while not await asyncio.to_thread(answers, spec.ready):
            assert time.monotonic() < deadline, "anvil did not start"
            await asyncio.sleep(0.05)
        yield anvil.url(port)
    finally:
        child.kill()
        child.wait()


def make_settings(dsn: str, socket: Path, stellar_url: str, evm_url: str) -> Settings:
    return Settings(
        environment="development",
        database={"url": dsn, "pool_size": 5},
        redis={"url": "redis://127.0.0.1:1/0"},
        signer={"socket": str(socket)},
        api={"port": 18_080},
        intent_valid_s=3600,
        sweep_interval_s=0.2,
        chains=[
            {
                "id": STELLAR,
                "kind": "stellar",
                "rpc_url": stellar_url,
                "network_passphrase": PASSPHRASE,
                "confirmations": 0,
                "poll_interval_s": 0.2,
                "max_fee_stroops": 10_000,
                "tx_valid_s": 120,
                "tx_valid_ledgers": 200,
            },
            {
                "id": EVM,
                "kind": "evm",
                "rpc_url": evm_url,
                "chain_id": anvil.CHAIN_ID,
                "confirmations": 1,
                "poll_interval_s": 0.2,
                "gas_limit_native": 21_000,
                "gas_limit_erc20": 90_000,
                "max_fee_per_gas_wei": 10**11,
                "max_priority_fee_per_gas_wei": 10**10,
                "tx_valid_s": 120,
            },
        ],
    )


def to_toml(settings: Settings, dsn: str) -> str:
    """The file that the processes read: the same settings."""

    def table(values: dict[str, object]) -> str:
        return "\n".join(
            f"{key} = {value}" if isinstance(value, int | float) else f'{key} = "{value}"'
            for key, value in values.items()
        )

    parts = [
        table({"environment": "development", "intent_valid_s": 3600, "sweep_interval_s": 0.2}),
        f'[database]\nurl = "{dsn}"\npool_size = 5',
        '[redis]\nurl = "redis://127.0.0.1:1/0"',
        f'[signer]\nsocket = "{settings.signer.socket}"',
        "[api]\nport = 18080",
    ]
    parts += ["[[chains]]\n" + table(chain.model_dump(exclude_defaults=True)) for chain in settings.chains]
    return "\n".join(parts) + "\n"
