"""SQL of proofs of liabilities."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import insert, select, text

from custody.db.session import ReadSession, UnitOfWork
from custody.seals.tables import ledger_liabilities as liabilities

# Wallet balances as the sealed transfers make them, not as the accounts say: what is proved follows from what is signed.
_BALANCES = text(
    """
SELECT s.id AS asset, a.owner, sum(m.amount) AS balance
  FROM (SELECT t.credit_account AS account, t.posted AS amount FROM ledger_transfers t
          JOIN ledger_batches b ON b.tenant_id = t.tenant_id AND b.id = t.batch_id
         WHERE t.tenant_id = :tenant AND b.xid < CAST(CAST(:to_xid AS text) AS xid8)
        UNION ALL
        SELECT t.debit_account, -t.posted FROM ledger_transfers t
          JOIN ledger_batches b ON b.tenant_id = t.tenant_id AND b.id = t.batch_id
         WHERE t.tenant_id = :tenant AND b.xid < CAST(CAST(:to_xid AS text) AS xid8)) AS m
  JOIN ledger_accounts a ON a.tenant_id = :tenant AND a.id = m.account AND a.kind = 'wallet'
  JOIN assets s ON s.number = a.asset_id
 GROUP BY s.id, a.owner HAVING sum(m.amount) <> 0
 ORDER BY s.id, a.owner
"""
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LiabilityRow:
    """What was published about one asset at one checkpoint, and the secret behind it."""

    asset: str
    """The asset's id."""
    total: int
    """Sum of what is owed, in atomic units."""
    root: bytes
    """Hash of the tree's root."""
    secret: bytes
    """Salts and cuts follow from it."""


async def load_wallet_balances(session: ReadSession, to_xid: int) -> dict[str, dict[UUID, int]]:
    """Balances of all wallets by asset, from the transfers of the transactions below a number."""
    rows = await session.conn.execute(_BALANCES, {"tenant": session.tenant, "to_xid": str(to_xid)})
    found: dict[str, dict[UUID, int]] = {}
    for row in rows:
        found.setdefault(row.asset, {})[row.owner] = int(row.balance)
    return found


async def load_rows(session: ReadSession, sequence: int) -> dict[str, LiabilityRow]:
    """What was published at a checkpoint, by asset."""
    rows = await session.conn.execute(
        select(liabilities).where(
            liabilities.c.tenant_id == session.tenant, liabilities.c.sequence == sequence
        )
    )
    return {
        row.asset: LiabilityRow(
            asset=row.asset, total=row.total, root=bytes(row.root), secret=bytes(row.secret)
        )
        for row in rows
    }


async def insert_row(uow: UnitOfWork, sequence: int, row: LiabilityRow) -> None:
    """Append what is published about one asset."""
    await uow.conn.execute(
        insert(liabilities).values(
            tenant_id=uow.tenant,
            sequence=sequence,
            asset=row.asset,
            total=row.total,
            root=row.root,
            secret=row.secret,
        )
    )
