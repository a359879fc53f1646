"""The fee's columns of a withdrawal."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from custody.db.session import ReadSession
from custody.tariffs.model import HeldFee
from custody.withdrawals.tables import withdrawals


async def is_quote_used(session: ReadSession, quote_id: UUID) -> bool:
    """Whether a withdrawal was agreed by this quote."""
    rows = await session.conn.execute(
        select(withdrawals.c.id).where(
            withdrawals.c.tenant_id == session.tenant, withdrawals.c.fee_quote_id == quote_id
        )
    )
    return rows.first() is not None


def fee_columns(fee: HeldFee | None) -> dict[str, object]:
    """A fee as columns of a new withdrawal."""
    if fee is None:
        return {}
    return {
        "fee_kind": fee.kind,
        "fee_tariff": fee.tariff_version,
        "fee_quote_id": fee.quote_id,
        "fee_held": fee.held,
        "fee_markup_bps": fee.markup_bps,
    }


def fee_of(row: Row[Any]) -> HeldFee | None:
    """The fee that a withdrawal's row shows."""
    if row.fee_kind is None:
        return None
    return HeldFee(
        kind=row.fee_kind,
        tariff_version=row.fee_tariff,
        quote_id=row.fee_quote_id,
        held=int(row.fee_held),
        markup_bps=row.fee_markup_bps,
        charged=None if row.fee_charged is None else int(row.fee_charged),
    )
