"""How many transactions of one key wait for their blocks at once, on a real anvil with a SoftHSM signer and our own ingestion.

All are asked for, signed and sent while no block comes; then the node is asked how many of them it would mine in a row. Then
blocks come, and each withdrawal must settle by the one transaction made for it. A part of the bench of withdrawals; alone:
`python -m bench.evm_flight [--count N]`, which writes build/bench/evm_in_flight.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from bench.cells import BUILD
from bench.cluster import BenchCluster
from bench.signer_stand import AUTOMATIC_VAULT, SignerStand, policy_document
from custody.assets import service as assets
from custody.chains.registry import build_client
from custody.db.session import Database
from custody.deposits import execution as deposits
from custody.identity import service as identity
from custody.identity.model import Principal
from custody.kernel.assetid import ChainId, native
from custody.kernel.clock import SystemClock
from custody.kernel.ids import CustomerId, PrincipalId, TenantId, WalletId, WithdrawalId, new_uuid
from custody.policy import service as policies
from custody.settings import Settings
from custody.signing.client import SignerClient
from custody.wallets import service as wallets
from custody.withdrawals import execution
from custody.withdrawals import service as withdrawals
from custody.withdrawals.model import RequestWithdrawal, Withdrawal
from custody.withdrawals.ports import Means
from devnet import anvil
from devnet.evm import Outsider
from devnet.ports import choose_port
from devnet.processes import answers
from ingestion import cursor
from ingestion.evm.worker import build_source
from ingestion.finality import terms_of
from ingestion.health import Status
from ingestion.loop import Loop, Pace
from ingestion.metrics import Metrics

ROOT = Path(__file__).parent.parent
CHAIN = ChainId(f"eip155:{anvil.CHAIN_ID}")
ETH = native(CHAIN)
RECEIVER = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
AMOUNT = 1000
FUNDS = 10**19
AT_ONCE = 16
GAS_LIMIT = 30_000_000
"""Of a block. A thousand transfers and more fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """What came of it."""

    asked: int
    """Withdrawals."""
    in_flight: int
    """Transactions of the one key that the node would have mined one after the other, before any block came."""
    settled: int
    """Withdrawals settled."""
    attempts: int
    """Transactions made: as many as withdrawals when none was replaced."""
    received: int
    """Withdrawals' worth that the receiver has by the chain's own word."""
    to_flight_s: float
    """From the first reservation until all were sent."""
    to_settled_s: float
    """From the first block until all were settled."""

    @property
    def whole(self) -> bool:
        """None lost, none replaced, each paid once."""
        return self.asked == self.in_flight == self.settled == self.attempts == self.received


async def fly(cluster: BenchCluster, folder: Path, count: int) -> Flight:
    """Have so many withdrawals of one vault under way at once."""
    db = Database(cluster.dsn("flight", "custody_app"), pool_size=AT_ONCE + 4)
    stand = SignerStand(folder)
    (folder / "policy.json").write_bytes(json.dumps(_for_omnibus(json.loads(policy_document()))).encode())
    await asyncio.to_thread(stand.start)
    try:
        async with _anvil(folder) as url, Outsider(url) as outsider:
            return await _fly(db, outsider, _settings(stand, url, count), count)
    finally:
        stand.stop()
        await db.close()


def _for_omnibus(policy: dict[str, object]) -> dict[str, object]:
    """The stand's automatic rules, for vaults as the product names them."""
    text = json.dumps(policy).replace(f'"{AUTOMATIC_VAULT}"', '"omnibus"')
    changed: dict[str, object] = json.loads(text)
    return changed


async def _fly(db: Database, outsider: Outsider, settings: Settings, count: int) -> Flight:
    chain = settings.chain(CHAIN)
    signer = SignerClient(str(settings.signer.socket), timeout_s=60, connections=AT_ONCE)
    client, source = build_client(chain), build_source(chain, db)
    means = Means(db=db, signer=signer, clients={CHAIN: client}, settings=settings, clock=SystemClock())
    async with db.unit_of_work(None) as uow:
        await policies.adopt(uow, await signer.get_policy())
        await assets.register(uow, ETH, "ETH", 18)
        tenant = await identity.create_tenant(uow, "bench")
        fence = await cursor.take_over(uow, CHAIN)
    loop = Loop(
        db=db,
        source=source,
        pace=Pace(terms=terms_of(chain), start_height=0, poll_interval_s=0.01),
        fence=fence,
        stop=asyncio.Event(),
        metrics=Metrics(CHAIN, SystemClock()),
        status=Status(),
    )
    wallet, account = await _open(db, signer, tenant)
    await outsider.send_ether(account, FUNDS)
    await outsider.call("evm_setAutomine", False)
    await _mine(outsider, loop, 3)
    made = [await _request(means, tenant, wallet) for _ in range(count)]
    before = await outsider.balance(RECEIVER)
    started = time.perf_counter()
    while await _states(db, tenant, made) != {"broadcasting"}:
        failures = await execution.advance_due(means, tenant, limit=count, at_once=AT_ONCE)
        if failures:
            raise failures[0].error
    to_flight = time.perf_counter() - started
    in_flight = await _nonce(outsider, account, "pending") - await _nonce(outsider, account, "latest")
    started = time.perf_counter()
    while await _states(db, tenant, made) != {"settled"}:
        await _mine(outsider, loop, 1)
    to_settled = time.perf_counter() - started
    async with db.read(tenant) as session:
        attempts = await withdrawals.list_attempts(session, [each.id for each in made])
    received = await outsider.balance(RECEIVER) - before
    await source.aclose()
    await client.aclose()
    return Flight(
        asked=count,
        in_flight=in_flight,
        settled=count,
        attempts=len(attempts),
        received=received // AMOUNT,
        to_flight_s=round(to_flight, 2),
        to_settled_s=round(to_settled, 2),
    )


async def _open(db: Database, signer: SignerClient, tenant: TenantId) -> tuple[WalletId, str]:
    """A treasury wallet and the omnibus vault whose address it is paid at."""
    async with db.unit_of_work(tenant) as uow:
        customer = await wallets.create_customer(
            uow, "bench", CustomerId(new_uuid()), name="Treasury", external_ref="t", kind="treasury"
        )
        wallet = await wallets.create_wallet(uow, "bench", WalletId(new_uuid()), customer.id, "main")
    vault = await deposits.create_vault(db, signer, _principal(tenant), CHAIN, new_uuid())
    await deposits.issue_address(db, signer, _principal(tenant), wallet.id, CHAIN, new_uuid())
    return wallet.id, vault.account


async def _request(means: Means, tenant: TenantId, wallet: WalletId) -> Withdrawal:
    wanted = RequestWithdrawal(
        id=WithdrawalId(new_uuid()), wallet_id=wallet, asset=ETH, destination=RECEIVER, amount=AMOUNT
    )
    async with means.db.unit_of_work(tenant) as uow:
        return await withdrawals.request(
            uow, _principal(tenant), wanted, settings=means.settings, clock=means.clock
        )


async def _states(db: Database, tenant: TenantId, made: list[Withdrawal]) -> set[str]:
    async with db.read(tenant) as session:
        found = await withdrawals.find_withdrawals(session, [each.id for each in made])
    return {each.state for each in found}


async def _mine(outsider: Outsider, loop: Loop, blocks: int) -> None:
    await outsider.mine(blocks)
    while await loop.step():
        pass


async def _nonce(outsider: Outsider, account: str, block: str) -> int:
    return int(await outsider.call("eth_getTransactionCount", account, block), 16)


def _principal(tenant: TenantId) -> Principal:
    scopes = frozenset({"operate", "write"})
    return Principal(tenant=tenant, id=PrincipalId(new_uuid()), subject="bench", scopes=scopes)


def _settings(stand: SignerStand, url: str, count: int) -> Settings:
    return Settings(
        environment="development",
        database={"url": "postgresql://nobody@127.0.0.1/none"},
        redis={"url": "redis://127.0.0.1:1/0"},
        signer={"socket": str(stand.socket)},
        api={"port": 1},
        intent_valid_s=3600,
        chains=[
            {
                "id": CHAIN,
                "kind": "evm",
                "rpc_url": url,
                "chain_id": anvil.CHAIN_ID,
                "confirmations": 1,
                "gas_limit_native": 21_000,
                "gas_limit_erc20": 90_000,
                "max_fee_per_gas_wei": 4 * 10**9,
                "max_priority_fee_per_gas_wei": 2 * 10**9,
                "tx_valid_s": 600,
                "evm": {"in_flight_max": count},
            }
        ],
    )


@asynccontextmanager
async def _anvil(folder: Path) -> AsyncIterator[str]:
    """A node of its own that mines when told."""
    port = choose_port("anvil", None, set(), lambda _: None)
    spec = anvil.anvil_spec(ROOT, folder, port, block_time_s=None)
    child = await asyncio.to_thread(
        subprocess.Popen,
        [*spec.argv, "--gas-limit", str(GAS_LIMIT)],
        env=dict(spec.env),
        cwd=spec.cwd,
        stdout=subprocess.DEVNULL,
    )
    try:
        while not await asyncio.to_thread(answers, spec.ready):
            if child.poll() is not None:
                raise RuntimeError("anvil did not start")
            await asyncio.sleep(0.05)
        yield anvil.url(port)
    finally:
        child.kill()
        child.wait()


def main() -> None:
    """Measure once, print, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=500)
    count = parser.parse_args().count
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    cluster = BenchCluster()
    try:
        cluster.create("flight", migrated=True)
        with tempfile.TemporaryDirectory(prefix="flight-") as home:
            flight = asyncio.run(fly(cluster, Path(home), count))
    finally:
        cluster.stop()
    for key, value in asdict(flight).items():
        print(f"{key:14} {value}")
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "evm_in_flight.json").write_text(json.dumps(asdict(flight), indent=2) + "\n", encoding="utf-8")
    if not flight.whole:
        raise SystemExit("some were lost, or replaced without reason")


if __name__ == "__main__":
    main()
