"""SQL of arrivals."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.dialects.postgresql import insert

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import parse_asset_id
from custody.kernel.ids import BankAccountId, ReceiptId, WalletId
from custody.kernel.money import Amount
from custody.receipts.model import BankReceipt, Receipt, ReceiptOutcome
from custody.receipts.tables import receipt_references, receipts


async def insert_receipt(
    uow: UnitOfWork,
    receipt_id: ReceiptId,
    bank_account_id: BankAccountId,
    wallet_id: WalletId | None,
    told: BankReceipt,
) -> bool:
    """Whether it was written; False when this arrival is recorded already."""
    written = await uow.conn.execute(
        insert(receipts)
        .values(
            tenant_id=uow.tenant,
            id=receipt_id,
            rail=told.rail,
            external_event_id=told.external_event_id,
            external_ref=told.external_ref,
            bank_account_id=bank_account_id,
            wallet_id=wallet_id,
            asset=told.amount.asset.text,
            amount=told.amount.atomic,
            outcome=(ReceiptOutcome.SUSPENDED if wallet_id is None else ReceiptOutcome.CREDITED).value,
            remittance=told.remittance,
            debtor_iban=told.debtor_iban,
            debtor_name=told.debtor_name,
            occurred_at=told.occurred_at,
            raw_sha256=told.raw_sha256,
        )
        .on_conflict_do_nothing()
        .returning(receipts.c.id)
    )
    return written.one_or_none() is not None


async def load_receipt(session: ReadSession, receipt_id: ReceiptId) -> Receipt | None:
    """The tenant's arrival of this id."""
    rows = await session.conn.execute(
        select(receipts).where(receipts.c.tenant_id == session.tenant, receipts.c.id == receipt_id)
    )
    row = rows.one_or_none()
    return None if row is None else _receipt(row)


async def load_receipts(
    session: ReadSession, *, wallet_id: WalletId | None, before: int | None, limit: int
) -> list[Receipt]:
    """A page of the tenant's arrivals, newest first."""
    query = select(receipts).where(receipts.c.tenant_id == session.tenant)
    if before is not None:
        query = query.where(receipts.c.sequence < before)
    if wallet_id is not None:
        query = query.where(receipts.c.wallet_id == wallet_id)
    rows = await session.conn.execute(query.order_by(receipts.c.sequence.desc()).limit(limit))
    return [_receipt(row) for row in rows]


async def load_of_account(session: ReadSession, bank_account_id: BankAccountId) -> list[tuple[str, int]]:
    """The bank's id and the minor units of everything that arrived on a bank account."""
    rows = await session.conn.execute(
        select(receipts.c.external_ref, receipts.c.amount)
        .where(receipts.c.tenant_id == session.tenant, receipts.c.bank_account_id == bank_account_id)
        .order_by(receipts.c.sequence)
    )
    return [(row.external_ref, row.amount) for row in rows]


async def insert_reference(uow: UnitOfWork, reference: str, wallet_id: WalletId) -> None:
    """Give a wallet a reference, unless it has one."""
    await uow.conn.execute(
        insert(receipt_references)
        .values(tenant_id=uow.tenant, reference=reference, wallet_id=wallet_id)
        .on_conflict_do_nothing()
    )


async def load_reference(session: ReadSession, wallet_id: WalletId) -> str | None:
    """The wallet's reference."""
    rows = await session.conn.execute(
        select(receipt_references.c.reference).where(
            receipt_references.c.tenant_id == session.tenant, receipt_references.c.wallet_id == wallet_id
        )
    )
    return rows.scalar_one_or_none()


async def find_wallets(session: ReadSession, references: tuple[str, ...]) -> list[WalletId]:
    """The wallets that these references name, each once."""
    rows = await session.conn.execute(
        select(receipt_references.c.wallet_id)
        .where(
            receipt_references.c.tenant_id == session.tenant, receipt_references.c.reference.in_(references)
        )
        .distinct()
    )
    return [WalletId(row.wallet_id) for row in rows]


def _receipt(row: Row[Any]) -> Receipt:
    return Receipt(
        id=ReceiptId(row.id),
        sequence=row.sequence,
        rail=row.rail,
        external_event_id=row.external_event_id,
        external_ref=row.external_ref,
        bank_account_id=BankAccountId(row.bank_account_id),
        wallet_id=None if row.wallet_id is None else WalletId(row.wallet_id),
        amount=Amount(parse_asset_id(row.asset), row.amount),
        outcome=ReceiptOutcome(row.outcome),
        remittance=row.remittance,
        debtor_iban=row.debtor_iban,
        debtor_name=row.debtor_name,
        occurred_at=row.occurred_at,
        created_at=row.created_at,
    )
