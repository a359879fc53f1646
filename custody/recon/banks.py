"""The banks' side: our books against the statement, the balance and every line."""

from __future__ import annotations

from datetime import date, timedelta
from uuid import UUID

from custody.banking import service as banking
from custody.banking.model import BankAccount, BankStatement
from custody.db.session import Database, ReadSession
from custody.kernel.errors import Unavailable
from custody.kernel.ids import TenantId
from custody.ledger import service as ledger
from custody.ledger.postings import bank_account
from custody.payouts import service as payouts
from custody.receipts import service as receipts
from custody.recon.compare import unmatched_lines
from custody.recon.model import BankLine, Holding, ReconBreak, ReconRow
from custody.recon.ports import BankStatements

_CLOCKS_APART = timedelta(days=1)
"""The bank's day and ours may differ by this much around an account's first day and today."""


class BankComparison:
    """All bank accounts of a tenant. `look` until `done` or out of patience, then take `rows` and `line_breaks`."""

    def __init__(self, db: Database, tenant: TenantId, statements: BankStatements, today: date) -> None:
        """Reads nothing yet."""
        self._db = db
        self._tenant = tenant
        self._statements = statements
        self._today = today
        self._rows: dict[UUID, ReconRow] = {}
        self._line_breaks: dict[UUID, tuple[ReconBreak, ...]] = {}
        self._looked = False

    @property
    def done(self) -> bool:
        """Whether every account has been found equal, line by line."""
        equal = all(row.difference == 0 for row in self._rows.values())
        return self._looked and equal and not self.line_breaks()

    def rows(self) -> tuple[ReconRow, ...]:
        """One row per bank account."""
        return tuple(self._rows.values())

    def line_breaks(self) -> tuple[ReconBreak, ...]:
        """Lines that only one side has."""
        return tuple(found for breaks in self._line_breaks.values() for found in breaks)

    async def look(self) -> None:
        """Read the books once and ask for the statement of every account that is not yet found equal."""
        async with self._db.read(self._tenant) as session:
            accounts = await banking.list_bank_accounts(session)
            books = {account.id: await _read_books(session, account) for account in accounts}
        for account in accounts:
            known = self._rows.get(account.id)
            if known is not None and known.difference == 0 and not self._line_breaks[account.id]:
                continue
            posted, lines = books[account.id]
            await self._compare(account, posted, lines)
        self._looked = True

    async def _compare(self, account: BankAccount, posted: int, lines: list[BankLine]) -> None:
        holding = Holding(
            owner=f"bank {account.rail} {account.iban}", owner_id=account.id, asset=account.asset
        )
        stated: BankStatement | None = None
        at = f"statement of {self._today.isoformat()}"
        if account.rail not in self._statements.ids:
            at = "the rail is not configured"
        else:
            first = account.created_at.date() - _CLOCKS_APART
            try:
                stated = await self._statements.statement(
                    account.rail, account.iban, first, self._today + _CLOCKS_APART
                )
            except Unavailable as error:
                at = error.code
        if stated is not None and stated.asset != account.asset:
            stated, at = None, "the statement is in another currency"
        self._rows[account.id] = ReconRow(
            holding=holding, books=posted, outside=None if stated is None else stated.closing, at=at
        )
        self._line_breaks[account.id] = (
            () if stated is None else unmatched_lines(holding, lines, _stated_lines(stated))
        )


async def _read_books(session: ReadSession, account: BankAccount) -> tuple[int, list[BankLine]]:
    balance = await ledger.balance(session, bank_account(account.id, account.asset))
    lines = [
        BankLine(kind=line.kind, external_ref=line.external_ref, amount=line.amount)
        for line in await payouts.booked_movements(session, account.id)
    ]
    lines += [
        BankLine(kind="incoming", external_ref=external_ref, amount=amount)
        for external_ref, amount in await receipts.booked_receipts(session, account.id)
    ]
    return balance.posted, lines


def _stated_lines(stated: BankStatement) -> list[BankLine]:
    return [
        BankLine(kind=entry.kind.value, external_ref=entry.external_ref, amount=entry.amount)
        for entry in stated.entries
    ]
