"""What most teams write first: a ledger on an ORM, done with care.

One transaction per transfer: the idempotency key looked up, both accounts locked in order, funds checked, a transaction row and
two entry rows with running balances, both balances updated by the unit of work. Correct; that is what makes it a fair baseline.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from uuid import UUID, uuid4

from sqlalchemy import BigInteger, ForeignKey, Numeric, func, insert, select
from sqlalchemy.ext.asyncio import AsyncEngine, async_sessionmaker
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """The baseline's own tables."""


class OrmAccount(Base):
    """An account with its balance."""

    __tablename__ = "orm_accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    balance: Mapped[Decimal] = mapped_column(Numeric(78, 0))
    version: Mapped[int] = mapped_column(BigInteger, default=0)


class OrmTransaction(Base):
    """A transfer, by its idempotency key."""

    __tablename__ = "orm_transactions"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    key: Mapped[UUID] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class OrmEntry(Base):
    """One leg."""

    __tablename__ = "orm_entries"
    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    transaction_id: Mapped[UUID] = mapped_column(ForeignKey("orm_transactions.id"), index=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("orm_accounts.id"), index=True)
    amount: Mapped[Decimal] = mapped_column(Numeric(78, 0))
    balance: Mapped[Decimal] = mapped_column(Numeric(78, 0))
    version: Mapped[int] = mapped_column(BigInteger)


async def prepare(engine: AsyncEngine, accounts: int) -> None:
    """Tables, and accounts with plenty of money."""
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        rows = [{"id": number, "balance": Decimal(10**15), "version": 0} for number in range(accounts)]
        await connection.execute(insert(OrmAccount), rows)


class OrmLedger:
    """Posts one transfer at a time."""

    def __init__(self, engine: AsyncEngine) -> None:
        """`engine` has a pool wide enough for its callers."""
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)

    async def post(self, key: UUID, debit: int, credit: int, amount: int) -> bool:
        """Move money; False when it lacks. The same key again does nothing."""
        async with self._sessions.begin() as session:
            if await session.scalar(select(OrmTransaction).where(OrmTransaction.key == key)) is not None:
                return True
            found = await session.scalars(
                select(OrmAccount)
                .where(OrmAccount.id.in_((debit, credit)))
                .order_by(OrmAccount.id)
                .with_for_update()
            )
            accounts = {account.id: account for account in found}
            source, target = accounts[debit], accounts[credit]
            if source.balance < amount:
                return False
            transaction = OrmTransaction(id=uuid4(), key=key)
            session.add(transaction)
            await session.flush()
            for account, moved in ((source, -amount), (target, amount)):
                account.balance += moved
                account.version += 1
                session.add(
                    OrmEntry(
                        transaction_id=transaction.id,
                        account_id=account.id,
                        amount=Decimal(moved),
                        balance=account.balance,
                        version=account.version,
                    )
                )
        return True
