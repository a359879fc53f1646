"""SQL of proofs of liabilities.

What is published is history. Balances, pages and the head only follow from it, so that neither publishing nor reading goes
through all transfers again; they are written anew at every publication.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import insert, select, text
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.session import ReadSession, UnitOfWork
from custody.seals.liabilities import SumNode
from custody.seals.pages import Page, Top
from custody.seals.tables import ledger_liabilities as liabilities
from custody.seals.tables import ledger_liability_balances as balances
from custody.seals.tables import ledger_liability_heads as heads
from custody.seals.tables import ledger_liability_pages as pages

# What the sealed transfers of a range changed, from the first on with what archived months left. Not what the accounts say: what
# is proved follows from what is signed.
_CHANGES = """
SELECT CAST(:tenant AS integer) AS tenant_id, s.id AS asset, a.owner AS wallet_id, sum(m.amount) AS balance
  FROM (SELECT t.credit_account AS account, t.posted AS amount FROM ledger_transfers t
          JOIN ledger_batches b ON b.tenant_id = t.tenant_id AND b.id = t.batch_id
         WHERE t.tenant_id = :tenant
           AND b.xid >= CAST(CAST(:from_xid AS text) AS xid8) AND b.xid < CAST(CAST(:to_xid AS text) AS xid8)
        UNION ALL
        SELECT t.debit_account, -t.posted FROM ledger_transfers t
          JOIN ledger_batches b ON b.tenant_id = t.tenant_id AND b.id = t.batch_id
         WHERE t.tenant_id = :tenant
           AND b.xid >= CAST(CAST(:from_xid AS text) AS xid8) AND b.xid < CAST(CAST(:to_xid AS text) AS xid8)
        UNION ALL
        (SELECT DISTINCT ON (o.account_id) o.account_id, o.credits_posted - o.debits_posted FROM ledger_openings o
          WHERE o.tenant_id = :tenant AND CAST(:from_xid AS text) = '0' ORDER BY o.account_id, o.month DESC)) AS m
  JOIN ledger_accounts a ON a.tenant_id = :tenant AND a.id = m.account AND a.kind = 'wallet'
  JOIN assets s ON s.number = a.asset_id
 GROUP BY s.id, a.owner HAVING sum(m.amount) <> 0
"""
_DERIVED = text(f"{_CHANGES} ORDER BY s.id, a.owner")
_APPLY = text(
    f"INSERT INTO ledger_liability_balances AS kept (tenant_id, asset, wallet_id, balance) {_CHANGES}"
    " ON CONFLICT (tenant_id, asset, wallet_id) DO UPDATE SET balance = kept.balance + excluded.balance"
)

Balances = dict[str, dict[UUID, int]]
"""Asset to wallet to atomic units."""


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


async def derive_balances(session: ReadSession, to_xid: int) -> Balances:
    """Balances of all wallets from all transfers of the transactions below a number. Reads the whole history."""
    rows = await session.conn.execute(
        _DERIVED, {"tenant": session.tenant, "from_xid": "0", "to_xid": str(to_xid)}
    )
    found: Balances = {}
    for row in rows:
        found.setdefault(row.asset, {})[row.wallet_id] = int(row.balance)
    return found


async def apply_changes(uow: UnitOfWork, from_xid: int, to_xid: int) -> None:
    """Bring the kept balances from one transaction's number to another. Reads the transfers in between."""
    await uow.conn.execute(_APPLY, {"tenant": uow.tenant, "from_xid": str(from_xid), "to_xid": str(to_xid)})


async def load_balances(session: ReadSession) -> Balances:
    """The kept balances that are not zero."""
    rows = await session.conn.execute(
        select(balances).where(balances.c.tenant_id == session.tenant, balances.c.balance != 0)
    )
    found: Balances = {}
    for row in rows:
        found.setdefault(row.asset, {})[row.wallet_id] = row.balance
    return found


async def load_balances_of(session: ReadSession, asset: str, wallet_ids: Collection[UUID]) -> dict[UUID, int]:
    """Some wallets' kept balances in one asset; those that have none are missing."""
    rows = await session.conn.execute(
        select(balances.c.wallet_id, balances.c.balance).where(
            balances.c.tenant_id == session.tenant,
            balances.c.asset == asset,
            balances.c.wallet_id.in_(set(wallet_ids)),
            balances.c.balance != 0,
        )
    )
    return {row.wallet_id: row.balance for row in rows}


async def load_assets_of(session: ReadSession, wallet_id: UUID) -> list[str]:
    """The assets of which a wallet's kept balance is not zero."""
    rows = await session.conn.execute(
        select(balances.c.asset)
        .where(
            balances.c.tenant_id == session.tenant,
            balances.c.wallet_id == wallet_id,
            balances.c.balance != 0,
        )
        .order_by(balances.c.asset)
    )
    return list(rows.scalars())


async def load_head(session: ReadSession) -> int | None:
    """The checkpoint that was published last."""
    rows = await session.conn.execute(select(heads.c.sequence).where(heads.c.tenant_id == session.tenant))
    return rows.scalar_one_or_none()


async def write_head(uow: UnitOfWork, sequence: int) -> None:
    """This checkpoint is published."""
    statement = upsert(heads).values(tenant_id=uow.tenant, sequence=sequence)
    await uow.conn.execute(
        statement.on_conflict_do_update(index_elements=["tenant_id"], set_={"sequence": sequence})
    )


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


async def write_pages(uow: UnitOfWork, sequence: int, asset: str, cut: Sequence[Page]) -> None:
    """Put the pages of a checkpoint's tree in the place of those before. Later pages of a larger tree stay, and stay unread."""
    statement = upsert(pages)
    await uow.conn.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "asset", "page"],
            set_={
                name: statement.excluded[name] for name in ("sequence", "first", "leaves", "root", "total")
            },
        ),
        [
            {
                "tenant_id": uow.tenant,
                "asset": asset,
                "page": page.number,
                "sequence": sequence,
                "first": page.first,
                "leaves": page.leaves,
                "root": page.top.hash,
                "total": page.top.total,
            }
            for page in cut
        ],
    )


async def load_tops(session: ReadSession, sequence: int, asset: str) -> list[Top]:
    """What stands above the pages of a checkpoint's tree, in order."""
    rows = await session.conn.execute(
        select(pages.c.first, pages.c.root, pages.c.total)
        .where(pages.c.tenant_id == session.tenant, pages.c.asset == asset, pages.c.sequence == sequence)
        .order_by(pages.c.page)
    )
    return [Top(first=bytes(row.first), node=SumNode(hash=bytes(row.root), total=row.total)) for row in rows]


async def load_pages(session: ReadSession, asset: str, numbers: Collection[int]) -> dict[int, bytes]:
    """The leaves of some pages, by number."""
    rows = await session.conn.execute(
        select(pages.c.page, pages.c.leaves).where(
            pages.c.tenant_id == session.tenant, pages.c.asset == asset, pages.c.page.in_(set(numbers))
        )
    )
    return {row.page: bytes(row.leaves) for row in rows}
