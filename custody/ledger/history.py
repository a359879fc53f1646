"""Reads over what is booked, for pages and lists: transfers with the owners of both sides, balances of many owners at once."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import TextClause, text

from custody.db.reader import Reader
from custody.db.session import ReadSession
from custody.kernel.assetid import AssetId, parse_asset_id
from custody.kernel.ids import TenantId
from custody.kernel.money import Amount
from custody.ledger.model import AccountKey, AccountKind, Balance, ResultCode, TransferCode

_ROW = """
SELECT t.id, t.code, t.reference, t.posted, t.booked_at, s.id AS asset,
       d.kind AS debit_kind, d.owner AS debit_owner, c.kind AS credit_kind, c.owner AS credit_owner
"""
_SIDES = """
  JOIN ledger_accounts d ON d.tenant_id = t.tenant_id AND d.id = t.debit_account
  JOIN ledger_accounts c ON c.tenant_id = t.tenant_id AND c.id = t.credit_account
  JOIN assets s ON s.number = d.asset_id
"""
# A customer sees no account of others, not even to name its owner: a function names the sides of its own transfers.
_ROW_OF_CUSTOMER = """
SELECT t.id, t.code, t.reference, t.posted, t.booked_at, s.asset, s.debit_kind, s.debit_owner, s.credit_kind, s.credit_owner
"""
_SIDES_OF_CUSTOMER = """
  JOIN LATERAL transfer_sides(t.tenant_id, current_customer(), t.debit_account, t.credit_account) AS s ON true
"""
_CHOSEN = "t.tenant_id = :tenant AND t.kind = 'transfer' AND t.code = :code"
# A transfer's place among all, found by its id; without one, beyond the last place.
_PLACE = """
coalesce((SELECT m.batch_id << 20 | m.leaf FROM ledger_commands m WHERE m.tenant_id = :tenant AND m.id = CAST(:before AS uuid)),
         9223372036854775807)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Statements:
    one: TextClause
    page_of_owner: TextClause


def _statements(row: str, sides: str) -> _Statements:
    return _Statements(
        one=text(
            row
            + " FROM ledger_commands m JOIN ledger_transfers t ON t.tenant_id = m.tenant_id AND t.batch_id = m.batch_id"
            + " AND t.leaf = m.leaf AND t.booked_at = m.booked_at AND t.id = m.id"
            + sides
            + f" WHERE m.tenant_id = :tenant AND m.id = :id AND {_CHOSEN}"
        ),
        page_of_owner=text(
            row
            + " FROM ledger_accounts o, LATERAL ledger_transfers_before("
            + f"o.tenant_id, o.id, {_PLACE}, 'transfer', :code, CAST(:limit AS integer)) AS e"
            + " JOIN ledger_transfers t ON t.tenant_id = e.tenant_id AND t.batch_id = e.batch_id AND t.leaf = e.leaf"
            + " AND t.booked_at = e.booked_at"
            + sides
            + " WHERE o.tenant_id = :tenant AND o.kind = 'wallet' AND o.owner = :owner"
            + " ORDER BY t.batch_id DESC, t.leaf DESC LIMIT :limit"
        ),
    )


_OF_TENANT = _statements(_ROW, _SIDES)
_OF_CUSTOMER = _statements(_ROW_OF_CUSTOMER, _SIDES_OF_CUSTOMER)
# Along its own wallets' histories: among all transfers of the tenant, one customer's are far apart.
_PAGE_OF_CUSTOMER = text(
    _ROW_OF_CUSTOMER  # noqa: S608 - constants of this file
    + " FROM (SELECT DISTINCT e.tenant_id, e.batch_id, e.leaf, e.booked_at FROM ledger_accounts o, LATERAL"
    + f" ledger_transfers_before(o.tenant_id, o.id, {_PLACE}, 'transfer', :code, CAST(:limit AS integer)) AS e"
    + " WHERE o.tenant_id = :tenant AND o.kind = 'wallet' AND o.owner = ANY(own_wallets())) AS e"
    + " JOIN ledger_transfers t ON t.tenant_id = e.tenant_id AND t.batch_id = e.batch_id AND t.leaf = e.leaf"
    + " AND t.booked_at = e.booked_at"
    + _SIDES_OF_CUSTOMER
    + " ORDER BY t.batch_id DESC, t.leaf DESC LIMIT :limit"
)
_RECORDED = text(
    "SELECT id, result, booked_at FROM ledger_commands WHERE tenant_id = :tenant AND id = ANY(CAST(:ids AS uuid[]))"
)
_FIND_PLACE = text("SELECT batch_id, leaf FROM ledger_commands WHERE tenant_id = :tenant AND id = :id")
_AMOUNTS = text(
    "SELECT t.id, t.posted, s.id AS asset"
    " FROM ledger_commands m JOIN ledger_transfers t ON t.tenant_id = m.tenant_id AND t.batch_id = m.batch_id"
    " AND t.leaf = m.leaf AND t.booked_at = m.booked_at AND t.id = m.id"
    " JOIN ledger_accounts d ON d.tenant_id = t.tenant_id AND d.id = t.debit_account JOIN assets s ON s.number = d.asset_id"
    " WHERE m.tenant_id = :tenant AND m.id = ANY(CAST(:ids AS uuid[]))"
)
_BALANCES = (
    "SELECT kind, owner, asset, posted, pending_in, pending_out, version FROM ledger_balances"
    " WHERE tenant_id = $1 AND kind = $2 AND owner = ANY($3::uuid[]) ORDER BY owner, asset"
)

_WITH_MONEY = text(
    "SELECT kind, owner, asset, posted, pending_in, pending_out, version FROM ledger_balances"
    " WHERE tenant_id = :tenant AND kind = :kind AND owner > CAST(:after AS uuid)"
    " AND asset = ANY(CAST(:assets AS text[])) AND (posted <> 0 OR pending_out <> 0) ORDER BY owner, asset LIMIT :limit"
)
_KINDS = {kind.value: kind for kind in AccountKind}
_CODES = {code.value: code for code in TransferCode}
_BALANCES_NOW = (
    "SELECT asset, posted, pending_in, pending_out, version FROM ledger_balances"
    " WHERE tenant_id = $1 AND kind = $2 AND owner = $3 ORDER BY asset"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BookedTransfer:
    """Money that went from one account to another, with whose accounts they are."""

    id: UUID
    """Id of the Transfer command."""
    code: TransferCode
    """Why."""
    reference: UUID
    """What it belongs to."""
    debit: AccountKey
    """Account debited: of two wallets, the one that paid."""
    credit: AccountKey
    """Account credited: of two wallets, the one that was paid."""
    amount: Amount
    """How much."""
    booked_at: datetime
    """When, by the database's clock."""


async def find_transfer(session: ReadSession, code: TransferCode, transfer_id: UUID) -> BookedTransfer | None:
    """The transfer of this id, if it was booked for this reason."""
    rows = await session.conn.execute(
        _of(session).one, {"tenant": session.tenant, "code": code.value, "id": transfer_id}
    )
    row = rows.one_or_none()
    return None if row is None else _transfer(*row)


async def list_transfers(
    session: ReadSession, code: TransferCode, *, owner: UUID | None, before: UUID | None, limit: int
) -> list[BookedTransfer]:
    """Transfers booked for one reason, newest first, before one of them; of all, or of one wallet on either side."""
    asked = {"tenant": session.tenant, "code": code.value, "before": before, "limit": limit}
    rows: Iterable[Iterable[Any]]
    if owner is None and session.customer is None:
        rows = await _page_of_tenant(session, code, before, limit)
    elif owner is None:
        rows = await session.conn.execute(_PAGE_OF_CUSTOMER, asked)
    else:
        rows = await session.conn.execute(_of(session).page_of_owner, {**asked, "owner": owner})
    return [_transfer(*row) for row in rows]


async def _page_of_tenant(
    session: ReadSession, code: TransferCode, before: UUID | None, limit: int
) -> Iterable[Iterable[Any]]:
    if before is not None:
        named = await session.conn.execute(_FIND_PLACE, {"tenant": session.tenant, "id": before})
        place = named.one_or_none()
        if place is not None:
            return await session.fetch(
                _walk(limit, from_place=True), session.tenant, code.value, place.batch_id, place.leaf
            )
    return await session.fetch(_walk(limit, from_place=False), session.tenant, code.value)


@lru_cache(512)
def _walk(limit: int, *, from_place: bool) -> str:
    """All of a tenant's transfers backwards, with their sides only once the page is chosen. Otherwise Postgres sorts everything
    that was ever booked: with the limit or place as parameters, where it joins first, and where statistics that are older than
    the newest transfers say that few are of this kind, which it does not look up in a CASE."""
    before = " AND (t.batch_id, t.leaf) < ($3::bigint, $4::integer)"
    return (
        "WITH t AS MATERIALIZED (SELECT t.* FROM ledger_transfers t WHERE t.tenant_id = $1"  # noqa: S608 - constants of this file and a number
        " AND CASE WHEN t.kind = 'transfer' AND t.code = $2 THEN true ELSE false END"
        + (before if from_place else "")
        + f" ORDER BY t.batch_id DESC, t.leaf DESC LIMIT {int(limit)})"
        + _ROW
        + " FROM t"
        + _SIDES
        + " ORDER BY t.batch_id DESC, t.leaf DESC"
    )


async def recorded(session: ReadSession, ids: Collection[UUID]) -> dict[UUID, tuple[ResultCode, datetime]]:
    """What commands of these ids were answered for good, refusals too, and when; those that never came are missing."""
    rows = await session.conn.execute(_RECORDED, {"tenant": session.tenant, "ids": list(ids)})
    return {row.id: (ResultCode(row.result), row.booked_at) for row in rows}


async def amounts_of(session: ReadSession, ids: Collection[UUID]) -> dict[UUID, Amount]:
    """What the transfers of these ids moved, by id; those that were never booked are missing."""
    rows = await session.conn.execute(_AMOUNTS, {"tenant": session.tenant, "ids": list(ids)})
    return {row.id: Amount(parse_asset_id(row.asset), int(row.posted)) for row in rows}


async def balances_of(session: ReadSession, kind: AccountKind, owners: Collection[UUID]) -> list[Balance]:
    """The balances of all accounts of some owners: one question for a whole page of wallets."""
    rows = await session.fetch(_BALANCES, session.tenant, kind.value, list(owners))
    return [_balance(*row) for row in rows]


async def balances_with_money(
    session: ReadSession, kind: AccountKind, assets: Collection[AssetId], after: UUID, limit: int
) -> list[Balance]:
    """Accounts of some assets on which something is booked or held, in the order of their owners, after one of them."""
    asked = {"tenant": session.tenant, "kind": kind.value, "after": after, "limit": limit}
    rows = await session.conn.execute(_WITH_MONEY, {**asked, "assets": [each.text for each in assets]})
    return [_balance(*row) for row in rows]


def _balance(
    kind: str,
    owner: UUID,
    asset: str,
    posted: Decimal,
    pending_in: Decimal,
    pending_out: Decimal,
    version: int,
) -> Balance:
    """In the order of the columns."""
    return Balance(
        key=AccountKey(kind=_KINDS[kind], owner=owner, asset=parse_asset_id(asset)),
        posted=int(posted),
        pending_in=int(pending_in),
        pending_out=int(pending_out),
        version=version,
    )


def _of(session: ReadSession) -> _Statements:
    return _OF_TENANT if session.customer is None else _OF_CUSTOMER


async def balances_now(reader: Reader, tenant: TenantId, kind: AccountKind, owner: UUID) -> list[Balance]:
    """All of one owner's accounts of a kind, by asset, in one round trip and outside any transaction of the caller's."""
    return [
        Balance(
            key=AccountKey(kind=kind, owner=owner, asset=parse_asset_id(row["asset"])),
            posted=int(row["posted"]),
            pending_in=int(row["pending_in"]),
            pending_out=int(row["pending_out"]),
            version=row["version"],
        )
        for row in await reader.fetch(tenant, _BALANCES_NOW, tenant, kind.value, owner)
    ]


def _transfer(
    transfer_id: UUID,
    code: str,
    reference: UUID,
    posted: Decimal,
    booked_at: datetime,
    asset: str,
    debit_kind: str,
    debit_owner: UUID | None,
    credit_kind: str,
    credit_owner: UUID | None,
) -> BookedTransfer:
    """In the order of the columns."""
    moved = parse_asset_id(asset)
    return BookedTransfer(
        id=transfer_id,
        code=_CODES[code],
        reference=reference,
        debit=AccountKey(kind=_KINDS[debit_kind], owner=debit_owner, asset=moved),
        credit=AccountKey(kind=_KINDS[credit_kind], owner=credit_owner, asset=moved),
        amount=Amount(moved, int(posted)),
        booked_at=booked_at,
    )
