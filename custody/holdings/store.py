"""SQL of holdings. The newest state of a holding is found by its key, never by reading its history."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, TextClause, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.session import ReadSession, UnitOfWork
from custody.holdings.errors import StateExistsDifferent
from custody.holdings.model import (
    BlockPlace,
    Comparison,
    DueHolding,
    HoldingState,
    KeptHolding,
    KnownHolding,
    LateBooking,
)
from custody.holdings.tables import (
    holding_comparisons,
    holding_states,
    holdings,
)
from custody.kernel.assetid import AssetId, ChainId, parse_asset_id
from custody.kernel.ids import VaultId

Key = tuple[VaultId, AssetId]
"""Names a holding of the tenant."""

_INSERT_STATES = text(
    "INSERT INTO holding_states (tenant_id, vault_id, asset, height, chain, present, before, amount, selling, buying,"
    " limit_amount, authorized, clawback, differing_tx, closed_at)"
    " SELECT CAST(:tenant AS integer), r.vault_id, r.asset, CAST(:height AS bigint), CAST(:chain AS text), r.present, r.before,"
    " r.amount, r.selling, r.buying, r.limit_amount, r.authorized, r.clawback, r.differing_tx, CAST(:closed_at AS timestamptz)"
    " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(vault_id uuid, asset text, present boolean, before numeric,"
    " amount numeric, selling numeric, buying numeric, limit_amount numeric, authorized text, clawback boolean,"
    " differing_tx text)"
    " ON CONFLICT DO NOTHING RETURNING vault_id, asset"
)
_INSERT_COMPARISONS = text(
    "INSERT INTO holding_comparisons (tenant_id, vault_id, asset, height, state_height, books, opening, chain_amount)"
    " SELECT CAST(:tenant AS integer), r.vault_id, r.asset, r.height, r.state_height, r.books, r.opening, r.chain_amount"
    " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(vault_id uuid, asset text, height bigint, state_height bigint,"
    " books numeric, opening numeric, chain_amount numeric)"
    " ON CONFLICT DO NOTHING"
)
_LOWER = text(
    "UPDATE holdings h SET opening = h.opening - x.amount FROM ("
    "SELECT o.vault_id, o.asset, sum(r.amount) AS amount FROM jsonb_to_recordset(CAST(:rows AS jsonb))"
    " AS r(vault_id uuid, asset text, height bigint, amount numeric)"
    " JOIN holdings o ON o.tenant_id = :tenant AND o.vault_id = r.vault_id AND o.asset = r.asset AND o.opening_height > r.height"
    " GROUP BY o.vault_id, o.asset) AS x"
    " WHERE h.tenant_id = :tenant AND h.vault_id = x.vault_id AND h.asset = x.asset"
)
_KNOWN = text(
    "SELECT w.vault_id, w.asset, a.id IS NOT NULL AS listed, h.vault_id IS NOT NULL AS kept, h.opening_height"
    " FROM unnest(CAST(:vaults AS uuid[]), CAST(:assets AS text[])) AS w(vault_id, asset)"
    " LEFT JOIN assets a ON a.id = w.asset"
    " LEFT JOIN holdings h ON h.tenant_id = :tenant AND h.vault_id = w.vault_id AND h.asset = w.asset"
)
# What blocks touched since the height before, and what was not equal when it was compared last.
_DUE = text(
    "WITH due AS ("
    "SELECT t.vault_id, t.asset FROM holding_states t"
    " WHERE t.tenant_id = :tenant AND t.chain = :chain AND t.height > :before AND t.height <= :height"
    " UNION SELECT o.vault_id, o.asset FROM holding_breaks o"
    " WHERE o.tenant_id = :tenant AND o.chain = :chain AND o.state = 'open')"
    " SELECT h.vault_id, h.asset, h.opening, h.opening_height, s.height AS state_height, s.amount,"
    " c.height AS last_height, c.state_height AS last_state_height, c.books AS last_books, c.opening AS last_opening,"
    " c.chain_amount AS last_amount"
    " FROM due d JOIN holdings h ON h.tenant_id = :tenant AND h.vault_id = d.vault_id AND h.asset = d.asset"
    " CROSS JOIN LATERAL (SELECT * FROM holding_states n WHERE n.tenant_id = :tenant AND n.vault_id = h.vault_id"
    " AND n.asset = h.asset AND n.height <= :height ORDER BY n.height DESC LIMIT 1) AS s"
    " LEFT JOIN LATERAL (SELECT * FROM holding_comparisons m WHERE m.tenant_id = :tenant AND m.vault_id = h.vault_id"
    " AND m.asset = h.asset ORDER BY m.height DESC LIMIT 1) AS c ON true"
    " WHERE h.opening IS NOT NULL ORDER BY h.vault_id, h.asset"
)
_KEPT = text(
    "SELECT s.*, v.account, h.opening, h.opening_height FROM holdings h"
    " JOIN vaults v ON v.tenant_id = :tenant AND v.id = h.vault_id"
    " CROSS JOIN LATERAL (SELECT * FROM holding_states n WHERE n.tenant_id = :tenant AND n.vault_id = h.vault_id"
    " AND n.asset = h.asset AND n.height <= :height ORDER BY n.height DESC LIMIT 1) AS s"
    " WHERE h.tenant_id = :tenant AND h.vault_id = ANY(CAST(:vaults AS uuid[])) ORDER BY h.vault_id, h.asset"
)


async def load_known(session: ReadSession, keys: Sequence[Key]) -> dict[Key, KnownHolding]:
    """What is kept of these holdings."""
    rows = await session.conn.execute(
        _KNOWN,
        {
            "tenant": session.tenant,
            "vaults": [vault for vault, _ in keys],
            "assets": [asset.text for _, asset in keys],
        },
    )
    return {
        (VaultId(row.vault_id), parse_asset_id(row.asset)): KnownHolding(
            listed=row.listed, kept=row.kept, opening_height=row.opening_height
        )
        for row in rows
    }


async def insert_states(
    uow: UnitOfWork, place: BlockPlace, rows: Sequence[tuple[VaultId, HoldingState, str | None]]
) -> set[Key]:
    """Write how a block left some holdings, with the first transaction that is booked otherwise. Returns those that are new.

    Raises StateExistsDifferent when the block is known to have left one otherwise."""
    values = [
        {
            "vault_id": vault,
            "asset": state.asset.text,
            "present": state.exists,
            "before": state.before,
            "amount": state.amount,
            "selling": state.selling,
            "buying": state.buying,
            "limit_amount": state.limit,
            "authorized": state.authorization,
            "clawback": state.clawback,
            "differing_tx": differing,
        }
        for vault, state, differing in rows
    ]
    written = await insert_rows(uow, _INSERT_STATES, place, values)
    fresh = {(row.vault_id, row.asset) for row in written}
    known = [each for each in values if (each["vault_id"], each["asset"]) not in fresh]
    await demand_same(uow, holding_states, place, known, ("vault_id", "asset"), ("before", "amount"))
    return {(VaultId(vault), parse_asset_id(asset)) for vault, asset in fresh}


async def keep_holding(uow: UnitOfWork, chain: ChainId, key: Key) -> None:
    """Note that there is such a holding. Idempotent."""
    await uow.conn.execute(
        upsert(holdings)
        .values(tenant_id=uow.tenant, vault_id=key[0], asset=key[1].text, chain=chain)
        .on_conflict_do_nothing()
    )


async def open_holding(uow: UnitOfWork, key: Key, *, height: int, opening: int) -> None:
    """From this block on it is compared."""
    await uow.conn.execute(
        update(holdings)
        .where(*_is(holdings, uow, key), holdings.c.opening.is_(None))
        .values(opening=opening, opening_height=height)
    )


async def lower_openings(uow: UnitOfWork, booked: Sequence[LateBooking]) -> None:
    """Take out of the openings what is booked of blocks that lie before them."""
    rows = [
        {"vault_id": each.vault_id, "asset": each.asset.text, "height": each.height, "amount": each.amount}
        for each in booked
    ]
    await uow.conn.execute(_LOWER, {"tenant": uow.tenant, "rows": json.dumps(rows, default=str)})


async def load_due(session: ReadSession, chain: ChainId, height_before: int, height: int) -> list[DueHolding]:
    """What is to be compared at this final height, in the order of the keys."""
    rows = await session.conn.execute(
        _DUE, {"tenant": session.tenant, "chain": chain, "before": height_before, "height": height}
    )
    return [_due(row) for row in rows]


async def insert_comparisons(uow: UnitOfWork, compared: Sequence[Comparison]) -> None:
    """Keep comparisons; one at the same height stays."""
    if compared:
        rows = [{"height": each.height, **compared_columns(each)} for each in compared]
        await uow.conn.execute(
            _INSERT_COMPARISONS, {"tenant": uow.tenant, "rows": json.dumps(rows, default=str)}
        )


async def find_first_differing(
    session: ReadSession, key: Key, *, height_after: int, height: int
) -> tuple[int, str | None] | None:
    """The first block between these heights in which a transaction is booked otherwise, and that transaction; without one, the
    first block that touched the holding; None when none did."""
    table = holding_states
    rows = await session.conn.execute(
        select(table.c.height, table.c.differing_tx)
        .where(*_is(table, session, key), table.c.height > height_after, table.c.height <= height)
        .order_by(table.c.differing_tx.is_(None), table.c.height)
        .limit(1)
    )
    row = rows.one_or_none()
    return None if row is None else (row.height, row.differing_tx)


async def load_comparisons(
    session: ReadSession, key: Key, before: int | None, limit: int
) -> list[Comparison]:
    """How a holding was compared, newest first, below a height."""
    query = select(holding_comparisons).where(*_is(holding_comparisons, session, key))
    if before is not None:
        query = query.where(holding_comparisons.c.height < before)
    rows = await session.conn.execute(query.order_by(holding_comparisons.c.height.desc()).limit(limit))
    return [comparison_of(row) for row in rows]


async def load_kept(session: ReadSession, vaults: Collection[VaultId], height: int) -> list[KeptHolding]:
    """The newest states, at or below a height, of all holdings of some vaults."""
    rows = await session.conn.execute(
        _KEPT, {"tenant": session.tenant, "vaults": list(vaults), "height": height}
    )
    return [
        KeptHolding(
            vault_id=VaultId(row.vault_id),
            state=HoldingState(
                account=row.account,
                asset=parse_asset_id(row.asset),
                exists=row.present,
                before=int(row.before),
                amount=int(row.amount),
                selling=int(row.selling),
                buying=int(row.buying),
                limit=None if row.limit_amount is None else int(row.limit_amount),
                authorization=row.authorized,
                clawback=row.clawback,
            ),
            height=row.height,
            closed_at=row.closed_at,
            opening=None if row.opening is None else int(row.opening),
            opening_height=row.opening_height,
        )
        for row in rows
    ]


async def insert_rows(
    uow: UnitOfWork, statement: TextClause, place: BlockPlace, values: Sequence[Mapping[str, object]]
) -> Sequence[Row[Any]]:
    """Write what a block left, in one statement whatever their number. Returns what the statement returns of the new ones."""
    if not values:
        return ()
    rows = await uow.conn.execute(
        statement,
        {
            "tenant": uow.tenant,
            "height": place.height,
            "chain": place.chain,
            "closed_at": place.closed_at,
            "rows": json.dumps(values, default=str),
        },
    )
    return rows.all()


async def demand_same(
    session: ReadSession,
    table: Any,
    place: BlockPlace,
    known: Sequence[Mapping[str, object]],
    key: tuple[str, ...],
    content: tuple[str, ...],
) -> None:
    """Raises StateExistsDifferent when a block is known to have left one of these otherwise."""
    for each in known:
        named = [table.c[name] == each[name] for name in key]
        found = await session.conn.execute(
            select(*(table.c[name] for name in content)).where(
                table.c.tenant_id == session.tenant, table.c.height == place.height, *named
            )
        )
        if tuple(found.one()) != tuple(each[name] for name in content):
            raise StateExistsDifferent(
                chain=place.chain, height=place.height, holding=str([each[name] for name in key])
            )


def _is(table: Any, session: ReadSession, key: Key) -> tuple[Any, ...]:
    return (table.c.tenant_id == session.tenant, table.c.vault_id == key[0], table.c.asset == key[1].text)


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


def comparison_of(row: Row[Any]) -> Comparison:
    """The comparison that a row shows."""
    return Comparison(
        vault_id=VaultId(row.vault_id),
        asset=parse_asset_id(row.asset),
        height=row.height,
        state_height=row.state_height,
        books=row.books,
        opening=row.opening,
        chain=row.chain_amount,
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
