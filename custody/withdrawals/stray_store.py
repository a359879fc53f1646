"""SQL of strays: transactions that our vaults sent and that no attempt explains."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import ChainId
from custody.kernel.ids import VaultId
from custody.withdrawals.model import OwnTransaction, Stray
from custody.withdrawals.tables import strays
from custody.withdrawals.transitions import STRAYS


async def observe(uow: UnitOfWork, vault_id: VaultId, seen: OwnTransaction) -> bool:
    """Keep a transaction that no attempt explains. Returns whether it is new, or new again after a reorganisation."""
    facts: dict[str, Any] = {
        "state": STRAYS.initial,
        "height": seen.height,
        "succeeded": seen.succeeded,
        "fee_paid": seen.fee_atomic,
        "occurred_at": seen.occurred_at,
        "changed_at": func.clock_timestamp(),
    }
    rows = await uow.conn.execute(
        upsert(strays)
        .values(
            tenant_id=uow.tenant,
            chain=seen.chain,
            tx_hash=seen.tx_hash,
            vault_id=vault_id,
            sequence=seen.sequence,
            **facts,
        )
        .on_conflict_do_update(
            index_elements=["tenant_id", "chain", "tx_hash"],
            set_=facts,
            where=strays.c.state.in_(STRAYS.sources("observe")),
        )
        .returning(strays.c.tx_hash)
    )
    return rows.one_or_none() is not None


async def used_sequences(session: ReadSession, vault_id: VaultId, at_least: int) -> set[int]:
    """Sequences or nonces of a vault, from `at_least` on, that strays in blocks have used."""
    rows = await session.conn.execute(
        select(strays.c.sequence).where(
            strays.c.tenant_id == session.tenant,
            strays.c.vault_id == vault_id,
            strays.c.sequence >= at_least,
            strays.c.state.in_(("observed", "booked")),
        )
    )
    return set(rows.scalars())


async def load_final(uow: UnitOfWork, chain: ChainId, height: int) -> list[Stray]:
    """Strays in blocks up to this height that are not booked yet."""
    return await _load(uow, chain, "book", strays.c.height <= height)


async def load_above(uow: UnitOfWork, chain: ChainId, height: int) -> list[Stray]:
    """Strays in blocks above this height that are not booked yet: those that a reorganisation takes back."""
    return await _load(uow, chain, "orphan", strays.c.height > height)


async def find(uow: UnitOfWork, chain: ChainId, tx_hash: str) -> Stray | None:
    """The stray of this hash that an attempt may still claim."""
    found = await _load(uow, chain, "match", strays.c.tx_hash == tx_hash)
    return found[0] if found else None


async def change(uow: UnitOfWork, stray: Stray, event: str) -> None:
    """Make one legal move of a stray."""
    await uow.conn.execute(
        update(strays)
        .where(
            strays.c.tenant_id == uow.tenant,
            strays.c.chain == stray.chain,
            strays.c.tx_hash == stray.tx_hash,
            strays.c.state.in_(STRAYS.sources(event)),
        )
        .values(state=STRAYS.target_of(event), changed_at=func.clock_timestamp())
    )


async def _load(uow: UnitOfWork, chain: ChainId, event: str, *conditions: Any) -> list[Stray]:
    """Strays of a chain that `event` may happen to, oldest first."""
    rows = await uow.conn.execute(
        select(strays)
        .where(
            strays.c.tenant_id == uow.tenant,
            strays.c.chain == chain,
            strays.c.state.in_(STRAYS.sources(event)),
            *conditions,
        )
        .order_by(strays.c.height, strays.c.tx_hash)
    )
    return [_stray(row) for row in rows]


def _stray(row: Row[Any]) -> Stray:
    return Stray(
        chain=ChainId(row.chain),
        tx_hash=row.tx_hash,
        state=row.state,
        vault_id=VaultId(row.vault_id),
        height=row.height,
        succeeded=row.succeeded,
        fee_paid=row.fee_paid,
        sequence=row.sequence,
        occurred_at=row.occurred_at,
    )
