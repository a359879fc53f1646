"""SQL of bank accounts."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select, text
from sqlalchemy.dialects.postgresql import insert

from custody.banking.model import BankAccount, BankAccountRef
from custody.banking.tables import bank_accounts
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import AssetId, parse_asset_id
from custody.kernel.ids import BankAccountId, TenantId


async def insert_account(
    uow: UnitOfWork, account_id: BankAccountId, *, rail: str, iban: str, asset: AssetId, name: str
) -> bool:
    """Whether it was written; False when the rail already has this IBAN, of whichever tenant."""
    written = await uow.conn.execute(
        insert(bank_accounts)
        .values(
            tenant_id=uow.tenant,
            id=account_id,
            rail=rail,
            iban=iban,
            asset=asset.text,
            name=name,
        )
        .on_conflict_do_nothing()
        .returning(bank_accounts.c.id)
    )
    return written.one_or_none() is not None


async def load_account(session: ReadSession, bank_account_id: BankAccountId) -> BankAccount | None:
    """The tenant's account of this id."""
    rows = await session.conn.execute(
        select(bank_accounts).where(
            bank_accounts.c.tenant_id == session.tenant, bank_accounts.c.id == bank_account_id
        )
    )
    row = rows.one_or_none()
    return None if row is None else _account(row)


async def load_by_iban(session: ReadSession, rail: str, iban: str) -> BankAccount | None:
    """The tenant's account with this IBAN on this rail."""
    rows = await session.conn.execute(
        select(bank_accounts).where(
            bank_accounts.c.tenant_id == session.tenant,
            bank_accounts.c.rail == rail,
            bank_accounts.c.iban == iban,
        )
    )
    row = rows.one_or_none()
    return None if row is None else _account(row)


async def load_accounts(session: ReadSession) -> list[BankAccount]:
    """All of the tenant's accounts, in the order they were added."""
    rows = await session.conn.execute(
        select(bank_accounts)
        .where(bank_accounts.c.tenant_id == session.tenant)
        .order_by(bank_accounts.c.created_at, bank_accounts.c.id)
    )
    return [_account(row) for row in rows]


async def find_ref(session: ReadSession, rail: str, iban: str) -> BankAccountRef | None:
    """Whose account this is. Crosses tenants through a function that answers only for an exact rail and IBAN."""
    rows = await session.conn.execute(
        text("SELECT tenant_id, id FROM find_bank_account(:rail, :iban)"), {"rail": rail, "iban": iban}
    )
    row = rows.one_or_none()
    if row is None:
        return None
    return BankAccountRef(tenant=TenantId(row.tenant_id), bank_account_id=BankAccountId(row.id))


def _account(row: Row[Any]) -> BankAccount:
    return BankAccount(
        id=BankAccountId(row.id),
        rail=row.rail,
        iban=row.iban,
        asset=parse_asset_id(row.asset),
        name=row.name,
        created_at=row.created_at,
    )
