"""SQL of comparisons between books and chain."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, func, select, text
from sqlalchemy.dialects.postgresql import distinct_on

from custody.db.session import ReadSession, UnitOfWork
from custody.holdings.compare import WHOLE_TRANSACTION
from custody.holdings.model import Comparison, Difference, DueHolding, HeldAt
from custody.holdings.store import Key, is_key, still_counts
from custody.holdings.tables import holding_comparisons, holding_states
from custody.kernel.assetid import ChainId, parse_asset_id
from custody.kernel.ids import VaultId

_INSERT_COMPARISONS = text(
    "INSERT INTO holding_comparisons (tenant_id, vault_id, asset, height, state_height, books, opening, chain_amount, branch,"
    " revision)"
    " SELECT CAST(:tenant AS integer), r.vault_id, r.asset, r.height, r.state_height, r.books, r.opening, r.chain_amount,"
    " b.branch, coalesce((SELECT max(k.revision) + 1 FROM holding_comparisons k WHERE k.tenant_id = CAST(:tenant AS integer)"
    " AND k.vault_id = r.vault_id AND k.asset = r.asset AND k.height = r.height AND k.branch = b.branch), 0)"
    " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(vault_id uuid, asset text, height bigint, state_height bigint,"
    " books numeric, opening numeric, chain_amount numeric)"
    " CROSS JOIN (SELECT holding_branch(CAST(:tenant AS integer), CAST(:chain AS text)) AS branch) AS b"
)
# What blocks touched since the height before, replaced blocks among them; what was not equal when it was compared last; and all
# of vaults but deposit vaults, touched or not: a booking without money is seen at the next height. Of deposit vaults there are
# too many.
_TOUCHED = (
    "SELECT t.vault_id, t.asset FROM holding_states t"
    " WHERE t.tenant_id = :tenant AND t.chain = :chain AND t.height > :before AND t.height <= :height"
    " UNION SELECT o.vault_id, o.asset FROM holding_breaks o"
    " WHERE o.tenant_id = :tenant AND o.chain = :chain AND o.state = 'open'"
    " UNION SELECT p.vault_id, p.asset FROM vaults v JOIN holdings p ON p.tenant_id = :tenant AND p.vault_id = v.id"
    " WHERE v.tenant_id = :tenant AND v.chain = :chain AND v.purpose <> 'deposit'"
)
_NAMED = "SELECT * FROM unnest(CAST(:vaults AS uuid[]), CAST(:assets AS text[])) AS v(vault_id, asset)"
# Where no block that still counts has touched it, the chain says what it said before all that we read: the opening.
_DUE = (
    " SELECT h.vault_id, h.asset, h.opening, h.opening_height, coalesce(s.height, 0) AS state_height,"
    " coalesce(s.amount, h.opening) AS amount,"
    " c.height AS last_height, c.state_height AS last_state_height, c.books AS last_books, c.opening AS last_opening,"
    " c.chain_amount AS last_amount"
    " FROM due d JOIN holdings h ON h.tenant_id = :tenant AND h.vault_id = d.vault_id AND h.asset = d.asset"
    " LEFT JOIN LATERAL (SELECT * FROM holding_states n WHERE n.tenant_id = :tenant AND n.vault_id = h.vault_id"
    " AND n.asset = h.asset AND n.height <= :height"
    " AND NOT is_replaced(n.tenant_id, n.chain, n.branch, n.height) ORDER BY n.height DESC LIMIT 1) AS s ON true"
    " LEFT JOIN LATERAL (SELECT * FROM holding_comparisons m WHERE m.tenant_id = :tenant AND m.vault_id = h.vault_id"
    " AND m.asset = h.asset"
    " AND NOT is_replaced(m.tenant_id, h.chain, m.branch, m.height)"
    " ORDER BY m.height DESC, m.branch DESC, m.revision DESC LIMIT 1) AS c ON true"
    " WHERE h.opening IS NOT NULL ORDER BY h.vault_id, h.asset"
)


async def load_due(session: ReadSession, chain: ChainId, height_before: int, height: int) -> list[DueHolding]:
    """What is to be compared at this final height, in the order of the keys."""
    rows = await session.conn.execute(
        text(f"WITH due AS ({_TOUCHED}){_DUE}"),
        {"tenant": session.tenant, "chain": chain, "before": height_before, "height": height},
    )
    return [_due(row) for row in rows]


async def load_named(session: ReadSession, keys: Sequence[Key], height: int) -> list[DueHolding]:
    """These holdings, as they are to be compared at this final height, in the order of the keys."""
    rows = await session.conn.execute(
        text(f"WITH due AS ({_NAMED}){_DUE}"),
        {
            "tenant": session.tenant,
            "height": height,
            "vaults": [vault for vault, _ in keys],
            "assets": [asset.text for _, asset in keys],
        },
    )
    return [_due(row) for row in rows]


async def load_unequal(
    session: ReadSession, key: Key, height: int, limit: int
) -> tuple[HeldAt | None, list[HeldAt]]:
    """A holding's states up to a height since it was compared equal last, lowest first, and the state of that comparison; None
    where it never was."""
    compared, states = holding_comparisons, holding_states
    rows = await session.conn.execute(
        select(func.max(compared.c.state_height)).where(
            *is_key(compared, session, key),
            compared.c.height <= height,
            compared.c.books + compared.c.opening == compared.c.chain_amount,
            compared.c.state_height > 0,
            still_counts(compared, key[1].chain),
        )
    )
    equal = rows.scalar_one()
    rows = await session.conn.execute(
        select(states.c.height, states.c.before, states.c.amount)
        .where(
            *is_key(states, session, key),
            states.c.height >= (-1 if equal is None else equal),
            states.c.height <= height,
            still_counts(states),
        )
        .order_by(states.c.height)
        .limit(limit)
    )
    found = [HeldAt(height=row.height, before=row.before, amount=row.amount) for row in rows]
    return (found[0], found[1:]) if equal is not None and found else (None, found)


async def insert_comparisons(uow: UnitOfWork, chain: ChainId, compared: Sequence[Comparison]) -> None:
    """Keep comparisons; one at the same height that was known before stays beside it, and counts no more."""
    if compared:
        rows = [{"height": each.height, **compared_columns(each)} for each in compared]
        await uow.conn.execute(
            _INSERT_COMPARISONS,
            {"tenant": uow.tenant, "chain": chain, "rows": json.dumps(rows, default=str)},
        )


async def find_first_differing(
    session: ReadSession, key: Key, *, height_after: int, height: int
) -> tuple[int, Difference | None] | None:
    """The first block between these heights in which a movement is booked otherwise, and that movement; without one, the first
    block that touched the holding; None when none did."""
    table = holding_states
    rows = await session.conn.execute(
        select(
            table.c.height,
            table.c.differing_tx,
            table.c.differing_movement,
            table.c.differing_chain,
            table.c.differing_books,
        )
        .where(*is_key(table, session, key), table.c.height > height_after, table.c.height <= height)
        .where(still_counts(table))
        .order_by(table.c.differing_tx.is_(None), table.c.height)
        .limit(1)
    )
    row = rows.one_or_none()
    return None if row is None else (row.height, difference_of(*row[1:]))


def difference_of(
    tx_hash: str | None, movement: str | None, chain: int | None, books: int | None
) -> Difference | None:
    """The movement that a row names; None where it names none. What was kept before movements were names the transaction only."""
    if tx_hash is None:
        return None
    return Difference(
        tx_hash=tx_hash, movement=movement or WHOLE_TRANSACTION, chain=int(chain or 0), books=int(books or 0)
    )


async def load_comparisons(
    session: ReadSession, key: Key, before: int | None, limit: int
) -> list[Comparison]:
    """How a holding was compared, newest first, below a height."""
    table = holding_comparisons
    query = (
        select(table)
        .ext(distinct_on(table.c.height))
        .where(*is_key(table, session, key), still_counts(table, key[1].chain))
    )
    if before is not None:
        query = query.where(table.c.height < before)
    newest = (table.c.height.desc(), table.c.branch.desc(), table.c.revision.desc())
    rows = await session.conn.execute(query.order_by(*newest).limit(limit))
    return [comparison_of(row) for row in rows]


def compared_columns(compared: Comparison) -> dict[str, object]:
    """A comparison as columns, without its height."""
    return {
        "vault_id": compared.vault_id,
        "asset": compared.asset.text,
        "state_height": compared.state_height,
        "books": compared.books,
        "opening": compared.opening,
        "chain_amount": compared.chain,
    }


def comparison_of(row: Row[Any], height: int | None = None) -> Comparison:
    """The comparison that a row shows; `height` where the row calls it otherwise."""
    return Comparison(
        vault_id=VaultId(row.vault_id),
        asset=parse_asset_id(row.asset),
        height=row.height if height is None else height,
        state_height=row.state_height,
        books=int(row.books),
        opening=int(row.opening),
        chain=int(row.chain_amount),
    )


def _due(row: Row[Any]) -> DueHolding:
    vault, asset = VaultId(row.vault_id), parse_asset_id(row.asset)
    last = None
    if row.last_height is not None:
        last = Comparison(
            vault_id=vault,
            asset=asset,
            height=row.last_height,
            state_height=row.last_state_height,
            books=int(row.last_books),
            opening=int(row.last_opening),
            chain=int(row.last_amount),
        )
    return DueHolding(
        vault_id=vault,
        asset=asset,
        opening=int(row.opening),
        opening_height=row.opening_height,
        state_height=row.state_height,
        amount=int(row.amount),
        last=last,
    )
