"""What a person should see of blocks, kept as rows: never changed, and the same when a block is read again.

A notice stops nothing; what must not be believed was not booked. Some are alarms until somebody has seen them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, and_, func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import ChainId
from custody.kernel.errors import NotFound
from custody.kernel.ids import derived_uuid
from ingestion.model import BlockRef, Notice
from ingestion.tables import ingestion_blocks, ingestion_notices, ingestion_notices_seen

ALARMS = ("token_decimals_changed", "token_upgraded")
"""Notices that call for a person: a listed token is not what it was when it was listed."""


class UnknownNotice(NotFound):
    """Nothing was noticed under this id."""

    code = "ingestion_unknown_notice"
    public = "No such notice."


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptNotice:
    """A notice with the block that it is of, and who has seen it."""

    id: UUID
    """Shown as `ntc_…`."""
    chain: ChainId
    """Where."""
    height: int
    """Block that it is of."""
    block_hash: str
    """That block's hash."""
    replaced: bool
    """Whether the chain has left that block."""
    notice: Notice
    """What it says."""
    noticed_at: datetime
    """When it was written."""
    seen_by: str
    """Who has seen it; empty while nobody has."""
    note: str
    """What that person wrote down."""


async def keep(
    uow: UnitOfWork, chain: ChainId, ref: BlockRef, notices: Collection[Notice]
) -> tuple[str, ...]:
    """Write what is noticed of a block, in the transaction that books it. Idempotent. Returns the codes of what is new."""
    if not notices:
        return ()
    rows = [
        {
            "id": derived_uuid("ingestion_notice", chain, ref.hash, each.code, each.account, each.asset),
            "chain": chain,
            "height": ref.height,
            "block_hash": ref.hash,
            "code": each.code,
            "account": each.account,
            "asset": each.asset,
            "reported": each.reported,
            "found": each.found,
        }
        for each in notices
    ]
    written = await uow.conn.execute(
        upsert(ingestion_notices).values(rows).on_conflict_do_nothing().returning(ingestion_notices.c.code)
    )
    return tuple(written.scalars())


async def see(uow: UnitOfWork, notice_id: UUID, seen_by: str, note: str) -> None:
    """Note that a person has seen a notice. The first who says so stays. Raises UnknownNotice."""
    rows = await uow.conn.execute(select(ingestion_notices.c.id).where(ingestion_notices.c.id == notice_id))
    if rows.first() is None:
        raise UnknownNotice
    await uow.conn.execute(
        upsert(ingestion_notices_seen)
        .values(notice_id=notice_id, seen_by=seen_by, note=note)
        .on_conflict_do_nothing()
    )


async def list_notices(
    session: ReadSession,
    chain: ChainId,
    *,
    codes: Collection[str] = (),
    unseen: bool = False,
    limit: int = 100,
) -> list[KeptNotice]:
    """A chain's notices, newest first; of some codes or of any, only those that nobody has seen or all."""
    rows, seen, blocks = ingestion_notices.c, ingestion_notices_seen.c, ingestion_blocks.c
    query = (
        select(
            ingestion_notices,
            seen.seen_by,
            seen.note,
            func.coalesce(~blocks.canonical, False).label("replaced"),
        )
        .outerjoin(ingestion_notices_seen, seen.notice_id == rows.id)
        .outerjoin(
            ingestion_blocks,
            and_(blocks.chain == rows.chain, blocks.height == rows.height, blocks.hash == rows.block_hash),
        )
        .where(rows.chain == chain)
    )
    if codes:
        query = query.where(rows.code.in_(codes))
    if unseen:
        query = query.where(seen.notice_id.is_(None))
    found = await session.conn.execute(query.order_by(rows.sequence.desc()).limit(limit))
    return [_kept(row) for row in found]


async def count_alarms(session: ReadSession, chain: ChainId) -> dict[str, int]:
    """How many alarms nobody has seen, by code."""
    rows, seen = ingestion_notices.c, ingestion_notices_seen.c
    found = await session.conn.execute(
        select(rows.code, func.count())
        .outerjoin(ingestion_notices_seen, seen.notice_id == rows.id)
        .where(rows.chain == chain, rows.code.in_(ALARMS), seen.notice_id.is_(None))
        .group_by(rows.code)
    )
    return {code: int(count) for code, count in found}


def _kept(row: Row[Any]) -> KeptNotice:
    return KeptNotice(
        id=row.id,
        chain=ChainId(row.chain),
        height=row.height,
        block_hash=row.block_hash,
        replaced=row.replaced,
        notice=Notice(
            code=row.code, account=row.account, asset=row.asset, reported=row.reported, found=row.found
        ),
        noticed_at=row.created_at,
        seen_by=row.seen_by or "",
        note=row.note or "",
    )
