"""Ledgers booked end to end: from their bytes through the worker's loop into Postgres, with many vaults watched.

The ledgers are real ones, made to follow each other: heights, hashes and the names of transactions are new, all else is as it
was. They lie in a lake of one ledger an object, as the public ones do, and are read from it by the source that the worker has.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg
from stellar_sdk import Network

from bench.big_ledger import seal_ledger
from bench.cluster import BenchCluster
from custody.assets import service as assets
from custody.db.session import Database
from custody.identity import service as identity
from custody.kernel.assetid import AssetId, ChainId, native
from custody.kernel.clock import SystemClock
from custody.kernel.ids import TenantId
from custody.settings import LakeSettings
from devnet.stellar.lake import LakeWriter
from ingestion import cursor
from ingestion.finality import Terms
from ingestion.health import Status
from ingestion.loop import Loop, Pace
from ingestion.metrics import Metrics
from ingestion.reorg import FinalityRule
from ingestion.stellar.lake import LakeLedgers
from ingestion.stellar.lake_layout import Layout
from ingestion.stellar.movements import EventReader
from ingestion.stellar.read import LedgerReader
from ingestion.stellar.scan.ledger import scan_ledger
from ingestion.stellar.senders import envelope_hash
from ingestion.watch import build_watch

FIRST = 70_000_000
"""Height of the first ledger of the bench."""
LAYOUT = Layout(ledgers_per_batch=1, batches_per_partition=64_000)
NETWORK_ID = hashlib.sha256(Network.PUBLIC_NETWORK_PASSPHRASE.encode()).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Booked:
    """What it took to book so many ledgers."""

    ledgers: int
    worker_cpu_s: float
    server_cpu_s: float


def chain_ledgers(ledgers: Sequence[bytes], count: int) -> list[bytes]:
    """So many ledgers that follow each other, made of these in turn."""
    made: list[bytes] = []
    parent = bytes(32)
    for number in range(count):
        made.append(_follow(ledgers[number % len(ledgers)], FIRST + number, parent, number))
        parent = scan_ledger(made[-1]).hash
    return made


def book_ledgers(ledgers: list[bytes], ours: Sequence[str], watched: Sequence[str], chain: ChainId) -> Booked:
    """Book these in a new database in which `watched` accounts are vaults, `ours` among them."""
    cluster = BenchCluster()
    try:
        name = cluster.create("stellar_books", migrated=True)
        with tempfile.TemporaryDirectory() as scratch:
            return asyncio.run(_book(cluster, name, ledgers, [*ours, *watched], chain, scratch))
    finally:
        cluster.stop()


async def _book(
    cluster: BenchCluster, name: str, ledgers: list[bytes], vaults: list[str], chain: ChainId, scratch: str
) -> Booked:
    db = Database(cluster.dsn(name, "custody_app"))
    try:
        tenant = await _open_desk(db, native(chain))
        await _add_vaults(cluster, name, tenant, vaults, chain)
        events = EventReader(Network.PUBLIC_NETWORK_PASSPHRASE)
        lake = Path(scratch) / "lake"
        LakeWriter(lake, Network.PUBLIC_NETWORK_PASSPHRASE, LAYOUT).write(ledgers, FIRST)
        reader = LedgerReader(chain, events, build_watch(chain, db))
        source = LakeLedgers(LakeSettings(url=lake.as_uri()), reader)
        async with db.unit_of_work(None) as uow:
            fence = await cursor.take_over(uow, chain)
        loop = Loop(
            db=db,
            source=source,
            pace=Pace(
                terms=Terms(rule=FinalityRule(confirmations=0)), start_height=FIRST, poll_interval_s=1.0
            ),
            fence=fence,
            stop=asyncio.Event(),
            metrics=Metrics(chain, SystemClock()),
            status=Status(),
        )
        # The first batch builds patterns and prepares statements, which a worker does once.
        await loop.step()
        worker, server = time.process_time(), cluster.cpu_seconds()
        while await loop.step():
            pass
        worker, server = time.process_time() - worker, cluster.cpu_seconds() - server
        await source.aclose()
        if await _count_deposits(cluster, name) == 0:
            raise RuntimeError("nothing was booked: the figures would mean nothing")
        return Booked(ledgers=len(ledgers) - source.batch_max, worker_cpu_s=worker, server_cpu_s=server)
    finally:
        await db.close()


async def _open_desk(db: Database, asset: AssetId) -> TenantId:
    async with db.unit_of_work(None) as uow:
        await assets.register(uow, asset, "XLM", 7)
        return await identity.create_tenant(uow, "bench")


async def _add_vaults(
    cluster: BenchCluster, name: str, tenant: TenantId, accounts: list[str], chain: ChainId
) -> None:
    rows = ",".join(accounts)
    await cluster.execute(
        "INSERT INTO vaults (tenant_id, id, chain, purpose, key_id, account) "
        f"SELECT {tenant}, gen_random_uuid(), '{chain}', 'omnibus', md5(account), account "
        f"FROM unnest(string_to_array('{rows}', ',')) AS account",
        name,
    )
    await cluster.execute("VACUUM ANALYZE", name)


async def _count_deposits(cluster: BenchCluster, name: str) -> int:
    connection = await asyncpg.connect(cluster.dsn(name))
    try:
        return int(await connection.fetchval("SELECT count(*) FROM deposits"))
    finally:
        await connection.close()


def _follow(data: bytes, height: int, parent: bytes, salt: int) -> bytes:
    """The ledger at another height on another parent, its transactions under new names."""
    renamed = _rename(data, salt)
    spans = [each.result for each in scan_ledger(data).transactions]
    results = len(spans).to_bytes(4, "big") + b"".join(renamed[begin:end] for begin, end in spans)
    return seal_ledger(renamed, results, height, parent)


def _rename(data: bytes, salt: int) -> bytes:
    """Other sequence numbers (for fee bumps, other fees), so other hashes, in envelopes and results alike."""
    ledger = scan_ledger(data)
    renamed = bytearray(data)
    results = {each.hash: each.result[0] for each in ledger.transactions}
    for at, _ in ledger.envelopes:
        before = envelope_hash(data, at, NETWORK_ID)
        # The number that follows the source: a fee bump's fee, or behind a plain transaction's fee its sequence.
        source = 32 if data[at + 3] == 0 else 44 if data[at + 6] else 36
        number = at + 4 + source + (0 if data[at + 3] == 5 else 4)
        value = int.from_bytes(renamed[number : number + 8], "big") + salt
        renamed[number : number + 8] = value.to_bytes(8, "big")
        result = results[before]
        renamed[result : result + 32] = envelope_hash(bytes(renamed), at, NETWORK_ID)
    return bytes(renamed)
