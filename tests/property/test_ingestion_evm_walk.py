"""The ledger equals the chain at every quiet point of random walks, and a walk notices when a guard is taken out.

`CUSTODY_EVM_WALKS` asks for more walks, with seeds from `CUSTODY_EVM_SEED` on, `CUSTODY_EVM_STEPS` for longer ones (`make walk`).
A walk that fails has printed what walks it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

import custody.deposits.service
import ingestion.effects
import ingestion.evm.encoding
import ingestion.evm.prove
import ingestion.evm.sources
from custody.db.session import Database, UnitOfWork
from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId, derived_uuid
from devnet.anvil import CHAIN_ID
from ingestion import cursor
from ingestion.loop import Loop
from ingestion.tables import ingestion_cursors
from tests.integration.evm_stage import CHAIN
from tests.property.evm_walk import (
    CONFIRMATIONS,
    World,
    build_world,
    settle_and_compare,
    walk,
)

WALKS = int(os.environ.get("CUSTODY_EVM_WALKS", "2"))
FIRST_SEED = int(os.environ.get("CUSTODY_EVM_SEED", "11"))
STEPS = int(os.environ.get("CUSTODY_EVM_STEPS", "18"))

pytestmark = pytest.mark.stack


@pytest.mark.parametrize("seed", range(FIRST_SEED, FIRST_SEED + WALKS))
async def test_the_ledger_equals_the_chain_at_every_quiet_point(
    database: Database, tenant: TenantId, app_dsn: str, tmp_path: Path, seed: int
) -> None:
    print(f"CUSTODY_EVM_SEED={seed} CUSTODY_EVM_WALKS=1 CUSTODY_EVM_STEPS={STEPS}")
    async with build_world(database, tenant, seed) as world:
        config = write_config(tmp_path, app_dsn, world)
        for _ in range(max(1, STEPS // 20)):
            await walk(world, min(STEPS, 20))
            await world.kill(config)
        await settle_and_compare(world)
        print(world.way, dict(world.done), dict(world.proxy.told))
        for what in ("mirrored", "died", "overtaken", "ingestion_forged_block", "kill"):
            assert world.done[what], f"a walk without {what} shows little"


NOTICED = (AssertionError, DBAPIError)
"""A comparison that fails, or a constraint of the database."""
Change = Callable[[pytest.MonkeyPatch], None]


def nothing_taken_back(patch: pytest.MonkeyPatch) -> None:
    """A reorganisation moves the cursor and leaves the deposits as they are."""

    async def take_back(*_: Any, **__: Any) -> int:
        return 0

    patch.setattr(ingestion.effects, "take_back", take_back)


def no_mirror(patch: pytest.MonkeyPatch) -> None:
    """A credit is called reversed, and the ledger keeps it."""

    async def mirror(*_: Any) -> None:
        return None

    patch.setattr(custody.deposits.service, "_mirror", mirror)


def another_deposit_in_each_block(patch: pytest.MonkeyPatch) -> None:
    """A transaction that comes back is taken for another."""
    sound = custody.deposits.service.id_of
    patch.setattr(
        custody.deposits.service,
        "id_of",
        lambda tenant, transfer: derived_uuid("mutant", sound(tenant, transfer), transfer.block_hash),
    )


def cursor_moved_first(patch: pytest.MonkeyPatch) -> None:
    """The block's effects are booked in a transaction after the cursor's."""

    async def book(self: Any, position: Any, run: Any) -> Any:
        async with self._db.unit_of_work(None) as uow:
            after = await cursor.advance(uow, self._chain, self._fence, position, *(each.ref for each in run))
        async with self._db.unit_of_work(None) as uow:
            for each in run:
                await ingestion.effects.observe_block(uow, self._chain, each)
        return after

    patch.setattr(Loop, "_book", book)


def no_fence(patch: pytest.MonkeyPatch) -> None:
    """Whoever comes writes, as long as the cursor is where it left it."""
    sound = cursor._swap

    async def swap(uow: UnitOfWork, chain: ChainId, _fence: int, *rest: Any, **named: Any) -> None:
        rows = await uow.conn.execute(
            select(ingestion_cursors.c.fence).where(ingestion_cursors.c.chain == chain)
        )
        await sound(uow, chain, rows.scalar_one(), *rest, **named)

    patch.setattr(cursor, "_swap", swap)


def receipts_believed(patch: pytest.MonkeyPatch) -> None:
    """Receipts are booked as the node says them."""
    patch.setattr(ingestion.evm.sources, "prove_receipts", lambda *_: [])


def blocks_believed(patch: pytest.MonkeyPatch) -> None:
    """Headers and transactions are booked as the node says them."""
    patch.setattr(ingestion.evm.sources, "prove_block", lambda *_: [])


def names_of_logs_believed(patch: pytest.MonkeyPatch) -> None:
    """The receipts root is all that is looked at."""
    patch.setattr(ingestion.evm.prove, "_prove_logs", lambda *_: None)


def spelling_believed(patch: pytest.MonkeyPatch) -> None:
    """The bytes are all that is looked at."""
    patch.setattr(ingestion.evm.encoding, "pack", bytes.fromhex)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A guard that is taken out, and the walk that meets what it guards against."""

    change: Change
    actions: tuple[str, ...]
    lies: frozenset[str] | None = None
    """Which are told; all others would stop what the one should show."""


MUTANTS = (
    Mutant(nothing_taken_back, ("deep",)),
    Mutant(no_mirror, ("deep",)),
    Mutant(another_deposit_in_each_block, ("deep", "resend")),
    Mutant(cursor_moved_first, ("die",)),
    Mutant(no_fence, ("overtake",)),
    Mutant(receipts_believed, ("lie",), frozenset({"more_tokens"})),
    Mutant(blocks_believed, ("lie",), frozenset({"more_value"})),
    Mutant(names_of_logs_believed, ("lie",), frozenset({"log_of_another"})),
    Mutant(spelling_believed, ("lie",), frozenset({"loud_topic"})),
)


async def act_and_compare(world: World, times: int) -> None:
    """A quiet point after every act."""
    for _ in range(times):
        await world.act()
        await settle_and_compare(world)


def _title(mutant: Mutant) -> str:
    return "-".join([mutant.change.__name__, *sorted(mutant.lies or ())])


@pytest.mark.parametrize("mutant", MUTANTS, ids=_title)
async def test_a_walk_notices_a_guard_that_was_taken_out(
    database: Database, tenant: TenantId, monkeypatch: pytest.MonkeyPatch, mutant: Mutant
) -> None:
    mutant.change(monkeypatch)
    async with build_world(database, tenant, FIRST_SEED) as world:
        world.actions, world.proxy.only = mutant.actions, mutant.lies
        with pytest.raises(NOTICED) as noticed:
            await act_and_compare(world, 20)
        print(_title(mutant), dict(world.done), repr(noticed.value)[:200])


def write_config(folder: Path, dsn: str, world: World) -> Path:
    """The product's configuration file, as an operator would write it."""
    written = folder / "custody.toml"
    written.write_text(
        f"""
environment = "development"
intent_valid_s = 60
[database]
url = "{dsn}"
[redis]
url = "redis://127.0.0.1:1/0"
[signer]
socket = "{folder}/signer.sock"
[api]
port = 18080
[[chains]]
id = "{CHAIN}"
kind = "evm"
rpc_url = "{world.proxy.url}"
chain_id = {CHAIN_ID}
confirmations = {CONFIRMATIONS}
inner_value = "{world.way}"
poll_interval_s = 0.05
gas_limit_native = 21000
gas_limit_erc20 = 100000
max_fee_per_gas_wei = 1000000000000
max_priority_fee_per_gas_wei = 100000000000
tx_valid_s = 600
""",
        encoding="utf-8",
    )
    return written
