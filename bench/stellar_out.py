"""Withdrawals on a local Stellar network that closes each second, through channels: how much of their capacity is used.

`python -m bench.stellar_out [CHANNELS [LEDGERS]]`. All parts are real and processes of their own: Postgres, a signer on a SoftHSM
token with rules that ask nobody, the network, ingestion, one worker. A backlog waits, then ledgers are counted: each channel can
pay once per ledger, so `stellar_vs_capacity` is settled withdrawals over channels times ledgers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import asyncpg

from bench.cluster import BenchCluster
from bench.signer_stand import PASSPHRASE, STELLAR_CHAIN, SignerStand, policy_document
from custody.assets import service as assets
from custody.db.session import Database
from custody.deposits import execution as deposits
from custody.identity import service as identity
from custody.identity.model import Principal
from custody.kernel.assetid import ChainId, native
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
from custody.settings import CONFIG_VARIABLE, Settings
from custody.signing.client import SignerClient
from custody.wallets import service as wallets
from custody.withdrawals import service as withdrawals
from custody.withdrawals.model import RequestWithdrawal
from devnet.stellar.outsider import UNITS, Outsider

CHAIN = ChainId(STELLAR_CHAIN)
XLM = native(CHAIN)
WALLET = WalletId(derived_uuid("bench wallet"))
CHANNELS, LEDGERS = 5, 30
DEPOSIT = 5000 * UNITS
AMOUNT = 1000
FEE_MAX = 10_000
PATIENCE_S = 120
ROOT = Path(__file__).parent.parent


def measure(channels: int = CHANNELS, ledgers: int = LEDGERS) -> dict[str, float]:
    """Run it and return the figures."""
    cluster = BenchCluster()
    try:
        name = cluster.create("stellar_out", migrated=True)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            stand = SignerStand(folder)
            (folder / "policy.json").write_bytes(_policy())
            stand.start()
            try:
                return asyncio.run(_measure(cluster, name, folder, stand, channels, ledgers))
            finally:
                stand.stop()
    finally:
        cluster.stop()


def _policy() -> bytes:
    """The bench's policy, with all kinds that payments through channels need, asking nobody."""
    document = json.loads(policy_document())
    rule = next(
        each for each in document["allow"] if each["kind"] == "stellar_payment" and not each["approvals"]
    )
    kinds = ("stellar_channel_payment", "stellar_create_account", "stellar_payment", "stellar_fee_bump")
    document["allow"] += [
        rule | {"id": f"bench-{kind}", "vault": "*", "kind": kind, "amount_max": str(10**9)} for kind in kinds
    ]
    return json.dumps(document).encode()


async def _measure(
    cluster: BenchCluster, name: str, folder: Path, stand: SignerStand, channels: int, ledgers: int
) -> dict[str, float]:
    db = Database(cluster.dsn(name, "custody_app"))
    with _network() as url:
        settings, config = _configure(folder, cluster.dsn(name, "custody_app"), stand.socket, url, channels)
        signer = SignerClient(str(stand.socket), timeout_s=30)
        tenant, account, address = await _open_books(db, signer)
        with _process("ingestion.main", config, "--chain", CHAIN):
            stranger = await asyncio.to_thread(_fund, url, account, address)
            await _until(lambda: _is_owed(db, tenant, DEPOSIT))
            with _process("custody.worker", config):
                await _until(lambda: _are_open(cluster, name, channels))
                principal = _principal(tenant)
                for _ in range(channels * (ledgers + 10)):
                    await _request(db, principal, settings, stranger)
                first = await _height(cluster, name)
                started = time.perf_counter()
                await _until(lambda: _passed(cluster, name, first + ledgers), ledgers + PATIENCE_S)
                seconds = time.perf_counter() - started
                settled, left = await _count(cluster, name, first, first + ledgers)
    await db.close()
    if left == 0:
        raise RuntimeError("the backlog was too small: the figures would mean nothing")
    return {
        "channels": channels,
        "ledgers": ledgers,
        "settled": settled,
        "per_second": settled / seconds,
        "stellar_vs_capacity": settled / (channels * ledgers),
    }


async def _open_books(db: Database, signer: SignerClient) -> tuple[TenantId, str, str]:
    """A tenant with a wallet. Returns it, the omnibus account, and where to send the wallet's money."""
    async with db.unit_of_work(None) as uow:
        await policies.adopt(uow, await signer.get_policy())
        await assets.register(uow, XLM, "XLM", 7)
        tenant = await identity.create_tenant(uow, "bench")
    async with db.unit_of_work(tenant) as uow:
        customer = await wallets.create_customer(
            uow, "bench", CustomerId(new_uuid()), name="Bench", external_ref="bench"
        )
        await wallets.create_wallet(uow, "bench", WALLET, customer.id, "main")
    principal = _principal(tenant)
    vault = await deposits.create_vault(db, signer, principal, CHAIN, new_uuid())
    address = await deposits.issue_address(db, signer, principal, WALLET, CHAIN, new_uuid())
    return tenant, vault.account, address.address


def _principal(tenant: TenantId) -> Principal:
    return Principal(
        tenant=tenant,
        id=PrincipalId(derived_uuid("bench principal")),
        subject="bench",
        scopes=frozenset({"write", "operate"}),
    )


def _fund(url: str, account: str, address: str) -> str:
    """Money for omnibus vault and wallet; returns an account that can be paid."""
    with Outsider(url) as outsider:
        outsider.fund(account)
        outsider.pay(outsider.new_account(), address, DEPOSIT)
        return outsider.new_account().public_key


async def _request(db: Database, principal: Principal, settings: Settings, stranger: str) -> None:
    wanted = RequestWithdrawal(
        id=WithdrawalId(new_uuid()), wallet_id=WALLET, asset=XLM, destination=stranger, amount=AMOUNT
    )
    async with db.unit_of_work(principal.tenant) as uow:
        await withdrawals.request(uow, principal, wanted, settings=settings, clock=SystemClock())


async def _is_owed(db: Database, tenant: TenantId, amount: int) -> bool:
    async with db.read(tenant) as session:
        return (await ledger.balance(session, postings.wallet_account(WALLET, XLM))).posted == amount


async def _ask(cluster: BenchCluster, name: str, sql: str, *values: object) -> int:
    connection = await asyncpg.connect(cluster.dsn(name))
    try:
        return int(await connection.fetchval(sql, *values) or 0)
    finally:
        await connection.close()


async def _are_open(cluster: BenchCluster, name: str, channels: int) -> bool:
    return await _ask(cluster, name, "SELECT count(*) FROM stellar_channels") == channels


async def _height(cluster: BenchCluster, name: str) -> int:
    return await _ask(cluster, name, "SELECT max(height) FROM withdrawal_chain_heights")


async def _passed(cluster: BenchCluster, name: str, height: int) -> bool:
    return await _height(cluster, name) >= height


async def _count(cluster: BenchCluster, name: str, above: int, until: int) -> tuple[int, int]:
    """Payments settled in these ledgers, and how many have not begun."""
    settled = await _ask(
        cluster,
        name,
        "SELECT count(*) FROM withdrawal_attempts a JOIN withdrawals w ON w.id = a.withdrawal_id "
        "WHERE w.kind = 'payment' AND w.state = 'settled' AND a.height > $1 AND a.height <= $2",
        above,
        until,
    )
    left = await _ask(cluster, name, "SELECT count(*) FROM withdrawals WHERE state = 'approved'")
    return settled, left


async def _until(check: Callable[[], Awaitable[bool]], patience_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(patience_s):
        while True:
            if await check():
                return
            await asyncio.sleep(0.1)


def _configure(folder: Path, dsn: str, socket: Path, url: str, channels: int) -> tuple[Settings, Path]:
    """The settings of the processes, and the file that they read."""
    chain = {
        "id": CHAIN,
        "kind": "stellar",
        "rpc_url": url,
        "network_passphrase": PASSPHRASE,
        "confirmations": 0,
        "poll_interval_s": 0.05,
        "max_fee_stroops": FEE_MAX,
        "tx_valid_s": 120,
        "tx_valid_ledgers": 60,
        "channels": channels,
        "channel_balance_stroops": 5 * UNITS,
    }
    values = {"environment": "development", "intent_valid_s": 3600, "sweep_interval_s": 0.05}
    sections: dict[str, dict[str, object]] = {
        "database": {"url": dsn, "pool_size": 12},
        "redis": {"url": "redis://127.0.0.1:1/0"},
        "signer": {"socket": str(socket)},
        "api": {"port": 18_080},
    }
    parts = [_table(values), *(f"[{name}]\n{_table(rows)}" for name, rows in sections.items())]
    config = folder / "custody.toml"
    config.write_text("\n".join([*parts, f"[[chains]]\n{_table(chain)}"]) + "\n")
    return Settings(**values, **sections, chains=(chain,)), config  # type: ignore[arg-type]  # pydantic checks each value


def _table(rows: dict[str, object]) -> str:
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in rows.items())


@contextlib.contextmanager
def _process(module: str, config: Path, *options: str) -> Iterator[None]:
    """A process of the product; its log lies beside its configuration."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), CONFIG_VARIABLE: str(config)}
    with (config.parent / f"{module}.log").open("ab") as log:
        child = subprocess.Popen([sys.executable, "-m", module, *options], env=env, stdout=log, stderr=log)
        try:
            yield
            if child.poll() is not None:
                raise RuntimeError((config.parent / f"{module}.log").read_text()[-2000:])
        finally:
            child.terminate()
            child.wait(timeout=60)


@contextlib.contextmanager
def _network() -> Iterator[str]:
    """A Stellar network that closes a ledger each second. Yields its address."""
    command = [sys.executable, "-m", "devnet.stellar.main", "--port", "0", "--close-every", "1"]
    child = subprocess.Popen(
        [*command, "--passphrase", PASSPHRASE], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        if child.stdout is None:
            raise RuntimeError("the network says nothing")
        yield child.stdout.readline().split("stellar devnet at ")[1].split(",")[0]
    finally:
        child.terminate()
        child.wait(timeout=60)


if __name__ == "__main__":
    print(json.dumps(measure(*map(int, sys.argv[1:3])), indent=2))
