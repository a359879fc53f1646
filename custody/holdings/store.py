"""SQL of holdings. The newest state of a holding is found by its key, never by reading its history."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, TextClause, func, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.session import ReadSession, UnitOfWork
from custody.holdings.errors import StateExistsDifferent
from custody.holdings.model import (
    BlockPlace,
    Difference,
    HoldingState,
    KeptHolding,
    KnownHolding,
    LateBooking,
)
from custody.holdings.tables import (
    holding_states,
    holdings,
)
from custody.kernel.assetid import AssetId, ChainId, parse_asset_id
from custody.kernel.ids import VaultId

Key = tuple[VaultId, AssetId]
"""Names a holding of the tenant."""


_INSERT_STATES = text(
    "INSERT INTO holding_states (tenant_id, vault_id, asset, height, chain, present, before, amount, selling, buying,"
    " limit_amount, authorized, clawback, differing_tx, differing_movement, differing_chain, differing_books, closed_at, branch)"
    " SELECT CAST(:tenant AS integer), r.vault_id, r.asset, CAST(:height AS bigint), CAST(:chain AS text), r.present, r.before,"
    " r.amount, r.selling, r.buying, r.limit_amount, r.authorized, r.clawback, r.differing_tx, r.differing_movement,"
    " r.differing_chain, r.differing_books, CAST(:closed_at AS timestamptz),"
    " holding_branch(CAST(:tenant AS integer), CAST(:chain AS text))"
    " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(vault_id uuid, asset text, present boolean, before numeric,"
    " amount numeric, selling numeric, buying numeric, limit_amount numeric, authorized text, clawback boolean,"
    " differing_tx text, differing_movement text, differing_chain numeric, differing_books numeric)"
    " WHERE NOT EXISTS (SELECT 1 FROM holding_states k WHERE k.tenant_id = CAST(:tenant AS integer) AND k.vault_id = r.vault_id"
    " AND k.asset = r.asset AND k.height = CAST(:height AS bigint) AND NOT is_replaced(k.tenant_id, k.chain, k.branch, k.height))"
    " ON CONFLICT DO NOTHING RETURNING vault_id, asset"
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
_AMOUNTS = text(
    "SELECT w.vault_id, w.asset, s.amount FROM unnest(CAST(:vaults AS uuid[]), CAST(:assets AS text[])) AS w(vault_id, asset)"
    " CROSS JOIN LATERAL (SELECT n.amount FROM holding_states n WHERE n.tenant_id = :tenant AND n.vault_id = w.vault_id"
    " AND n.asset = w.asset AND n.height <= :height"
    " AND NOT is_replaced(n.tenant_id, n.chain, n.branch, n.height) ORDER BY n.height DESC LIMIT 1) AS s"
)
_KEPT = text(
    "SELECT s.*, v.account, h.opening, h.opening_height FROM holdings h"
    " JOIN vaults v ON v.tenant_id = :tenant AND v.id = h.vault_id"
    " CROSS JOIN LATERAL (SELECT * FROM holding_states n WHERE n.tenant_id = :tenant AND n.vault_id = h.vault_id"
    " AND n.asset = h.asset AND n.height <= :height"
    " AND NOT is_replaced(n.tenant_id, n.chain, n.branch, n.height) ORDER BY n.height DESC LIMIT 1) AS s"
    " WHERE h.tenant_id = :tenant AND h.vault_id = ANY(CAST(:vaults AS uuid[])) ORDER BY h.vault_id, h.asset"
)
# Only where anything of the tenant's stands above, so that this table grows with what it changes.
_REWIND = text(
    "INSERT INTO chain_rewinds (tenant_id, chain, number, height)"
    " SELECT CAST(:tenant AS integer), CAST(:chain AS text), holding_branch(CAST(:tenant AS integer), CAST(:chain AS text)) + 1,"
    " CAST(:height AS bigint)"
    " WHERE EXISTS (SELECT 1 FROM holding_states s WHERE s.tenant_id = :tenant AND s.chain = :chain AND s.height > :height)"
    " OR EXISTS (SELECT 1 FROM account_states a WHERE a.tenant_id = :tenant AND a.chain = :chain AND a.height > :height)"
    " OR CAST(:deep AS boolean)"
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


async def load_amounts(session: ReadSession, keys: Sequence[Key], height: int) -> dict[Key, int]:
    """What these holdings held after their newest blocks up to a height. Those that no block has touched are missing."""
    rows = await session.conn.execute(
        _AMOUNTS,
        {
            "tenant": session.tenant,
            "height": height,
            "vaults": [vault for vault, _ in keys],
            "assets": [asset.text for _, asset in keys],
        },
    )
    return {(VaultId(row.vault_id), parse_asset_id(row.asset)): int(row.amount) for row in rows}


async def insert_states(
    uow: UnitOfWork, place: BlockPlace, rows: Sequence[tuple[VaultId, HoldingState, Difference | None]]
) -> set[Key]:
    """Write how a block left some holdings, with the first movement that is booked otherwise. Returns those that are new.

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
            "differing_tx": None if first is None else first.tx_hash,
            "differing_movement": None if first is None else first.movement,
            "differing_chain": None if first is None else first.chain,
            "differing_books": None if first is None else first.books,
        }
        for vault, state, first in rows
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
        .where(*is_key(holdings, uow, key), holdings.c.opening.is_(None))
        .values(opening=opening, opening_height=height)
    )


async def change_opening(uow: UnitOfWork, key: Key, opening: int) -> bool:
    """Say anew what lay in a holding before all that we read. It is compared from now on if it was not. False: no change."""
    rows = await uow.conn.execute(
        update(holdings)
        .where(*is_key(holdings, uow, key), holdings.c.opening.is_distinct_from(opening))
        .values(opening=opening, opening_height=func.coalesce(holdings.c.opening_height, 0))
    )
    return rows.rowcount == 1


async def lower_openings(uow: UnitOfWork, booked: Sequence[LateBooking]) -> None:
    """Take out of the openings what is booked of blocks that lie before them."""
    rows = [
        {"vault_id": each.vault_id, "asset": each.asset.text, "height": each.height, "amount": each.amount}
        for each in booked
    ]
    await uow.conn.execute(_LOWER, {"tenant": uow.tenant, "rows": json.dumps(rows, default=str)})


async def insert_rewind(uow: UnitOfWork, chain: ChainId, height: int, *, deep: bool) -> None:
    """Note that the chain went back to this height. `deep`: also where no state of the tenant's lies above it."""
    await uow.conn.execute(_REWIND, {"tenant": uow.tenant, "chain": chain, "height": height, "deep": deep})


async def load_branch(session: ReadSession, chain: ChainId) -> int:
    """How many times what is kept of the chain had to go back."""
    rows = await session.conn.execute(
        text(
            "SELECT coalesce(max(number), 0) FROM chain_rewinds WHERE tenant_id = :tenant AND chain = :chain"
        ),
        {"tenant": session.tenant, "chain": chain},
    )
    return int(rows.scalar_one())


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
        if "branch" in table.c:
            named.append(still_counts(table))
        found = await session.conn.execute(
            select(*(table.c[name] for name in content)).where(
                table.c.tenant_id == session.tenant, table.c.height == place.height, *named
            )
        )
        if tuple(found.one()) != tuple(each[name] for name in content):
            raise StateExistsDifferent(
                chain=place.chain, height=place.height, holding=str([each[name] for name in key])
            )


def is_key(table: Any, session: ReadSession, key: Key) -> tuple[Any, ...]:
    return (table.c.tenant_id == session.tenant, table.c.vault_id == key[0], table.c.asset == key[1].text)


def still_counts(table: Any, chain: Any = None) -> Any:
    """The condition that the chain did not go back below a row since. `chain`: where to read its chain, if not in the row."""
    columns = table.c
    return ~func.is_replaced(
        columns.tenant_id, columns.chain if chain is None else chain, columns.branch, columns.height
    )
