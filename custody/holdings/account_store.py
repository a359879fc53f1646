"""SQL of accounts and their data entries."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from custody.db.session import ReadSession, UnitOfWork
from custody.holdings.model import AccountDatum, AccountSigner, AccountState, BlockPlace
from custody.holdings.store import insert_once
from custody.holdings.tables import account_data, account_states
from custody.kernel.ids import VaultId

_ACCOUNT_FIELDS = (
    "sequence", "subentries", "sponsoring", "sponsored", "base_reserve", "minimum", "spendable", "master_weight", "low", "medium",
    "high", "flags", "home_domain", "sponsor",
)  # fmt: skip


async def insert_accounts(
    uow: UnitOfWork, place: BlockPlace, rows: Sequence[tuple[VaultId, AccountState]]
) -> None:
    """Write how a ledger left some accounts. Raises StateExistsDifferent."""
    values = [
        {
            "vault_id": vault,
            "present": state.exists,
            "signers": [
                {"key": each.key, "weight": each.weight, "sponsor": each.sponsor} for each in state.signers
            ],
            **{name: getattr(state, name) for name in _ACCOUNT_FIELDS},
        }
        for vault, state in rows
    ]
    await insert_once(uow, account_states, place, values, ("vault_id",), ("sequence", "spendable"))


async def insert_data(
    uow: UnitOfWork, place: BlockPlace, rows: Sequence[tuple[VaultId, AccountDatum]]
) -> None:
    """Write how a ledger left some data entries. Raises StateExistsDifferent."""
    values = [{"vault_id": vault, "name": datum.name, "value": datum.value} for vault, datum in rows]
    await insert_once(uow, account_data, place, values, ("vault_id", "name"), ("value",))


async def load_account(
    session: ReadSession, vault_id: VaultId, account: str, height: int
) -> tuple[int, AccountState] | None:
    """The ledger that touched an account last, at or below a height, and how it left it."""
    table = account_states
    rows = await session.conn.execute(
        select(table)
        .where(table.c.tenant_id == session.tenant, table.c.vault_id == vault_id, table.c.height <= height)
        .order_by(table.c.height.desc())
        .limit(1)
    )
    row = rows.one_or_none()
    if row is None:
        return None
    fields = {name: getattr(row, name) for name in _ACCOUNT_FIELDS}
    signers = tuple(AccountSigner(**each) for each in row.signers)
    return row.height, AccountState(account=account, exists=row.present, signers=signers, **fields)


async def load_datum(
    session: ReadSession, vault_id: VaultId, account: str, name: str, height: int
) -> AccountDatum | None:
    """The newest state of a data entry, at or below a height."""
    table = account_data
    rows = await session.conn.execute(
        select(table)
        .where(
            table.c.tenant_id == session.tenant,
            table.c.vault_id == vault_id,
            table.c.name == name,
            table.c.height <= height,
        )
        .order_by(table.c.height.desc())
        .limit(1)
    )
    row = rows.one_or_none()
    return None if row is None else AccountDatum(account=account, name=name, value=row.value)
