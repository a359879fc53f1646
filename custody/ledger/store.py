"""The ledger's SQL: one call that posts, and the reads. Private to the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, select, text
from sqlalchemy.exc import DBAPIError

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import AssetId, parse_asset_id
from custody.ledger.errors import LedgerBusy
from custody.ledger.model import (
    Account,
    AccountKey,
    AccountKind,
    Balance,
    Command,
    Entry,
    Guard,
    OpenHold,
    Outcome,
    PastBalance,
    Side,
)
from custody.ledger.tables import ledger_accounts as accounts
from custody.ledger.tables import ledger_holds as holds
from custody.ledger.wire import GIVEN_WAY, PARAMETERS, encode, outcomes

_POST = text(
    "SELECT * FROM ledger_post(:tenant, false, :chain, :kind, :id, :debit, :credit, :amount, :code, :reference, :target, :moment,"
    " :asset, :final, :floor, :ceiling)"
)
_EXISTING = text(
    "SELECT id FROM ledger_accounts WHERE tenant_id = :tenant AND id = ANY(CAST(:ids AS uuid[]))"
)
_BALANCE = text("SELECT * FROM ledger_balances WHERE tenant_id = :tenant AND account_id = :account")
_BALANCES = text(
    "SELECT * FROM ledger_balances WHERE tenant_id = :tenant AND kind = :kind "
    "AND owner = :owner ORDER BY asset"
)
_OWN_BALANCES = text(
    "SELECT * FROM ledger_balances WHERE tenant_id = :tenant AND kind = :kind "
    "AND owner IS NULL ORDER BY asset"
)
_BALANCE_AT = text("SELECT * FROM ledger_balance_at(:tenant, :account, :at)")
_BALANCE_AT_EFFECTIVE = text("SELECT ledger_balance_at_effective(:tenant, :account, :at)")
_TRIAL_BALANCE = text("SELECT asset, difference FROM ledger_trial_balance WHERE tenant_id = :tenant")
_STATEMENT = text("SELECT * FROM ledger_statement(:tenant, :account, :after, :limit) ORDER BY version")


async def post_chains(uow: UnitOfWork, chains: Sequence[Sequence[Command]]) -> list[Outcome]:
    """Give all chains to the posting function at once. Locks accounts by id, then holds by id. Raises LedgerBusy."""
    if not any(chains):
        return []
    arrays = dict(zip(PARAMETERS, encode(uow.tenant, chains), strict=True))
    try:
        rows = await uow.conn.execute(_POST, {"tenant": uow.tenant, **arrays})
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) in GIVEN_WAY:
            raise LedgerBusy from error
        raise
    return outcomes(chains, rows.mappings().one())


async def load_account(session: ReadSession, key: AccountKey) -> Account | None:
    """The account of this key, if it was ever opened."""
    rows = await session.conn.execute(
        select(accounts).where(
            accounts.c.tenant_id == session.tenant, accounts.c.id == key.id_for(session.tenant)
        )
    )
    row = rows.one_or_none()
    if row is None:
        return None
    return Account(
        id=row.id,
        key=key,
        normal_side=Side(row.normal_side),
        guard=Guard(row.guard),
        floor=int(row.floor),
        ceiling=row.ceiling,
        state=row.state,
        version=row.version,
    )


async def load_existing(session: ReadSession, ids: Sequence[UUID]) -> set[UUID]:
    """Which of these accounts exist."""
    rows = await session.conn.execute(_EXISTING, {"tenant": session.tenant, "ids": list(ids)})
    return set(rows.scalars())


async def load_balance(session: ReadSession, key: AccountKey) -> Balance | None:
    """The account's balance, if it was ever opened."""
    rows = await session.conn.execute(
        _BALANCE, {"tenant": session.tenant, "account": key.id_for(session.tenant)}
    )
    row = rows.one_or_none()
    return None if row is None else _balance(row)


async def load_balances(session: ReadSession, kind: AccountKind, owner: UUID | None) -> list[Balance]:
    """The balances of all accounts of one owner, by asset."""
    named: dict[str, object] = {"tenant": session.tenant, "kind": kind.value}
    if owner is None:
        rows = await session.conn.execute(_OWN_BALANCES, named)
    else:
        rows = await session.conn.execute(_BALANCES, {**named, "owner": owner})
    return [_balance(row) for row in rows]


def _balance(row: Row[Any]) -> Balance:
    return Balance(
        key=AccountKey(kind=AccountKind(row.kind), owner=row.owner, asset=parse_asset_id(row.asset)),
        posted=int(row.posted),
        pending_in=int(row.pending_in),
        pending_out=int(row.pending_out),
        version=row.version,
    )


async def load_entries(session: ReadSession, key: AccountKey, after_version: int, limit: int) -> list[Entry]:
    """Entries above a version, in order."""
    rows = await session.conn.execute(
        _STATEMENT,
        {
            "tenant": session.tenant,
            "account": key.id_for(session.tenant),
            "after": after_version,
            "limit": limit,
        },
    )
    return [
        Entry(
            version=row.version,
            transfer_id=row.transfer_id,
            kind=row.kind,
            code=row.code,
            reference=row.reference,
            side=Side(row.side),
            posted=int(row.posted),
            pending=int(row.pending),
            balance=int(row.balance),
            held=int(row.held),
            booked_at=row.booked_at,
            effective_at=row.effective_at,
        )
        for row in rows
    ]


async def load_balance_at(session: ReadSession, key: AccountKey, at: datetime) -> PastBalance | None:
    """The balance after the last entry that was booked at or before a moment."""
    rows = await session.conn.execute(
        _BALANCE_AT, {"tenant": session.tenant, "account": key.id_for(session.tenant), "at": at}
    )
    row = rows.one_or_none()
    if row is None:
        return None
    return PastBalance(version=row.version, posted=int(row.balance), pending_out=int(row.held))


async def load_balance_at_effective(session: ReadSession, key: AccountKey, at: datetime) -> int:
    """The balance of everything whose value date is at or before a moment; 0 for an account never opened."""
    rows = await session.conn.execute(
        _BALANCE_AT_EFFECTIVE, {"tenant": session.tenant, "account": key.id_for(session.tenant), "at": at}
    )
    return int(rows.scalar_one() or 0)


async def load_trial_balance(session: ReadSession) -> dict[AssetId, int]:
    """Debits minus credits per asset."""
    rows = await session.conn.execute(_TRIAL_BALANCE, {"tenant": session.tenant})
    return {parse_asset_id(row.asset): int(row.difference) for row in rows}


async def load_due_holds(session: ReadSession, now: datetime, limit: int) -> list[OpenHold]:
    """Open holds whose time has passed, the oldest first."""
    rows = await session.conn.execute(
        select(holds.c.id, holds.c.remaining, holds.c.expires_at)
        .where(holds.c.tenant_id == session.tenant, holds.c.state == "open", holds.c.expires_at <= now)
        .order_by(holds.c.expires_at, holds.c.id)
        .limit(limit)
    )
    return [OpenHold(id=row.id, remaining=row.remaining, expires_at=row.expires_at) for row in rows]
