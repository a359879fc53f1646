"""SQL of accounts and their data entries."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, text

from custody.db.session import ReadSession, UnitOfWork
from custody.holdings.model import AccountDatum, AccountSigner, AccountState, BlockPlace
from custody.holdings.store import demand_same, insert_rows, still_counts
from custody.holdings.tables import account_data, account_states
from custody.kernel.ids import VaultId

_ACCOUNT_FIELDS = (
    "sequence", "subentries", "sponsoring", "sponsored", "base_reserve", "minimum", "spendable", "master_weight", "low", "medium",
    "high", "flags", "home_domain", "sponsor",
)  # fmt: skip


_INSERT_ACCOUNTS = text(
    "INSERT INTO account_states (tenant_id, vault_id, height, chain, present, sequence, subentries, sponsoring, sponsored,"
    " base_reserve, minimum, spendable, master_weight, low, medium, high, flags, home_domain, sponsor, signers, closed_at,"
    " branch)"
    " SELECT CAST(:tenant AS integer), r.vault_id, CAST(:height AS bigint), CAST(:chain AS text), r.present, r.sequence,"
    " r.subentries, r.sponsoring, r.sponsored, r.base_reserve, r.minimum, r.spendable, r.master_weight, r.low, r.medium, r.high,"
    " r.flags, r.home_domain, r.sponsor, r.signers, CAST(:closed_at AS timestamptz),"
    " holding_branch(CAST(:tenant AS integer), CAST(:chain AS text))"
    " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(vault_id uuid, present boolean, sequence bigint, subentries bigint,"
    " sponsoring bigint, sponsored bigint, base_reserve bigint, minimum numeric, spendable numeric, master_weight integer,"
    " low integer, medium integer, high integer, flags bigint, home_domain text, sponsor text, signers jsonb)"
    " WHERE NOT EXISTS (SELECT 1 FROM account_states k WHERE k.tenant_id = CAST(:tenant AS integer) AND k.vault_id = r.vault_id"
    " AND k.height = CAST(:height AS bigint) AND NOT is_replaced(k.tenant_id, k.chain, k.branch, k.height))"
    " ON CONFLICT DO NOTHING RETURNING vault_id"
)
_INSERT_DATA = text(
    "INSERT INTO account_data (tenant_id, vault_id, name, height, chain, value, closed_at)"
    " SELECT CAST(:tenant AS integer), r.vault_id, r.name, CAST(:height AS bigint), CAST(:chain AS text),"
    " decode(r.value, 'hex'), CAST(:closed_at AS timestamptz)"
    " FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r(vault_id uuid, name text, value text)"
    " ON CONFLICT DO NOTHING RETURNING vault_id, name"
)


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
    fresh = {row.vault_id for row in await insert_rows(uow, _INSERT_ACCOUNTS, place, values)}
    known = [each for each in values if each["vault_id"] not in fresh]
    await demand_same(uow, account_states, place, known, ("vault_id",), ("sequence", "spendable"))


async def insert_data(
    uow: UnitOfWork, place: BlockPlace, rows: Sequence[tuple[VaultId, AccountDatum]]
) -> None:
    """Write how a ledger left some data entries. Raises StateExistsDifferent."""
    values = [
        {"vault_id": vault, "name": datum.name, "value": None if datum.value is None else datum.value.hex()}
        for vault, datum in rows
    ]
    written = await insert_rows(uow, _INSERT_DATA, place, values)
    fresh = {(row.vault_id, row.name) for row in written}
    known = [
        {"vault_id": vault, "name": datum.name, "value": datum.value}
        for vault, datum in rows
        if (vault, datum.name) not in fresh
    ]
    await demand_same(uow, account_data, place, known, ("vault_id", "name"), ("value",))


async def load_account(
    session: ReadSession, vault_id: VaultId, account: str, height: int
) -> tuple[int, AccountState] | None:
    """The block that touched an account last, at or below a height, and how it left it."""
    table = account_states
    rows = await session.conn.execute(
        select(table)
        .where(table.c.tenant_id == session.tenant, table.c.vault_id == vault_id, table.c.height <= height)
        .where(still_counts(table))
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
