"""Post to the ledger and read it.

Two ways to post. `post` is for a caller whose own rows must stand or fall with the money: it works in the caller's transaction
and raises the refusal; when the caller lets the error leave its transaction, everything is rolled back, the recorded refusal too,
and the same ids may be tried again. A caller that catches the error and commits keeps the record: the ids are then used up.
`submit` is for many independent requests: it answers each and raises none, and once committed every answer, refusals as well,
is the answer to that id for ever.

One call locks all its accounts in a fixed order, so calls never deadlock. A transaction that posts more than once can: give what
belongs to it in one call where possible. Where not, one of two such transactions gets LedgerBusy and is safe to repeat.

Accounts must be open before money moves. `postings` put an OpenAccount in front of what they post; `open_account` does it alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import AssetId
from custody.kernel.errors import CustodyError, InvariantViolated
from custody.kernel.ids import TenantId, derived_uuid
from custody.ledger import archives, store
from custody.ledger.errors import REFUSALS, ChainRefused
from custody.ledger.model import (
    Account,
    AccountKey,
    AccountKind,
    Balance,
    ChangeAccount,
    Command,
    Entry,
    ExpireHold,
    Hold,
    OpenAccount,
    Outcome,
    PastBalance,
    ResultCode,
    Transfer,
)

_OPENED_AT_ONCE = 250


async def post(uow: UnitOfWork, *commands: Command) -> tuple[Outcome, ...]:
    """Apply all commands or none. The same ids and contents again answer the same outcomes and change nothing.

    Raises the class of `errors.REFUSALS` that names the first refusal. Locks the accounts by id, then the holds.
    """
    outcomes = tuple(await store.post_chains(uow, [commands]))
    refused = [n for n, outcome in enumerate(outcomes) if outcome.result is not ResultCode.APPLIED]
    if refused:
        causes = [n for n in refused if outcomes[n].result is not ResultCode.CHAIN_REFUSED]
        first = causes[0] if causes else refused[0]
        raise refusal(uow.tenant, commands, commands[first], outcomes[first])
    return outcomes


async def submit(uow: UnitOfWork, chains: Sequence[Sequence[Command]]) -> list[Outcome]:
    """Answer many chains, each by itself, in order: one outcome per command. Raises no refusal; each is recorded with its id."""
    return await store.post_chains(uow, chains)


def refusal(
    tenant: TenantId, commands: Sequence[Command], command: Command, outcome: Outcome
) -> CustodyError:
    """The error that names this refusal, with the command and, where one account is to blame, its kind and owner."""
    error = next((kind for kind in REFUSALS if kind.code == outcome.result.value), ChainRefused)
    values: dict[str, object] = {}
    if not isinstance(command, OpenAccount):
        values["command"] = command.id
    blamed = [key for key in _keys(commands) if key.id_for(tenant) == outcome.account_id]
    if blamed:
        values |= {"account": blamed[0].kind.value, "owner": blamed[0].owner, "asset": blamed[0].asset.text}
    return error("", **values)


def _keys(commands: Sequence[Command]) -> list[AccountKey]:
    """The accounts that the commands name."""
    keys: list[AccountKey] = []
    for command in commands:
        match command:
            case Transfer(debit=debit, credit=credit) | Hold(debit=debit, credit=credit):
                keys += [debit, credit]
            case OpenAccount(key=key) | ChangeAccount(key=key):
                keys.append(key)
            case _:
                pass
    return keys


async def open_account(
    uow: UnitOfWork, key: AccountKey, *, floor: int | None = None, ceiling: int | None = None
) -> Account:
    """The account of this key, opened if it is new. Idempotent. Raises UnknownAsset, AccountExistsDifferent, LimitsExcludeZero.

    Set no ceiling where facts of the outside world are booked: a deposit that has happened cannot be refused."""
    await post(uow, OpenAccount(key=key, floor=floor, ceiling=ceiling))
    account = await store.load_account(uow, key)
    if account is None:
        raise InvariantViolated("an account just opened is missing", asset=key.asset.text, owner=key.owner)
    return account


async def open_missing(uow: UnitOfWork, keys: Sequence[AccountKey]) -> None:
    """Open those of these accounts that do not exist yet, without limits; locks no others. Raises UnknownAsset."""
    there = await store.load_existing(uow, [key.id_for(uow.tenant) for key in keys])
    missing = sorted(
        (OpenAccount(key=key) for key in keys if key.id_for(uow.tenant) not in there),
        key=lambda command: command.key.id_for(uow.tenant),
    )
    # Slices in the order of the locks. What a call does for each account that it opens grows with how many it opens.
    for start in range(0, len(missing), _OPENED_AT_ONCE):
        await post(uow, *missing[start : start + _OPENED_AT_ONCE])


async def find_account(session: ReadSession, key: AccountKey) -> Account | None:
    """The account of this key, or None when it was never opened."""
    return await store.load_account(session, key)


async def expire_due(uow: UnitOfWork, now: datetime, limit: int = 100) -> list[UUID]:
    """Expire open holds whose time has passed and return their ids. Another sweeper at work, or an owner who ends a hold first,
    does no harm: the hold is then not open any more, and this one is refused."""
    due = await store.load_due_holds(uow, now, limit)
    commands = [
        ExpireHold(id=derived_uuid("ledger", "expired", hold.id), hold_id=hold.id, as_of=now) for hold in due
    ]
    outcomes = await store.post_chains(uow, [(command,) for command in commands])
    pairs = zip(commands, outcomes, strict=True)
    return [command.hold_id for command, outcome in pairs if outcome.result is ResultCode.APPLIED]


async def balance(session: ReadSession, key: AccountKey) -> Balance:
    """What lies in the account now. An account never opened has nothing."""
    found = await store.load_balance(session, key)
    return found or Balance(key=key, posted=0, pending_in=0, pending_out=0, version=0)


async def balances(session: ReadSession, kind: AccountKind, owner: UUID | None) -> list[Balance]:
    """All of one owner's accounts of a kind, by asset."""
    return await store.load_balances(session, kind, owner)


async def balance_at(session: ReadSession, key: AccountKey, booked_at: datetime) -> PastBalance:
    """What the books said of the account at a moment: the balance after the last entry booked at or before it.

    Raises HistoryArchived for a moment before the end of the last archived month."""
    await archives.demand_moment(session, booked_at)
    found = await store.load_balance_at(session, key, booked_at)
    return found or PastBalance(version=0, posted=0, pending_out=0)


async def balance_at_effective(session: ReadSession, key: AccountKey, effective_at: datetime) -> int:
    """The balance by value date: the sum of all entries, whenever booked, that take effect at or before the moment.

    Raises HistoryArchived for a moment before the end of the last archived month, or before a value date in one."""
    await archives.demand_moment(session, effective_at, dated=True)
    return await store.load_balance_at_effective(session, key, effective_at)


async def statement(
    session: ReadSession, key: AccountKey, after_version: int = 0, limit: int = 100
) -> list[Entry]:
    """A page of the account's entries with running balances, oldest first. Go on with the last entry's version.

    Raises HistoryArchived when the page would begin with entries that are archived."""
    await archives.demand_version(session, key.id_for(session.tenant), after_version)
    return await store.load_entries(session, key, after_version, limit)


async def statement_back(
    session: ReadSession, key: AccountKey, before_version: int | None = None, limit: int = 100
) -> list[Entry]:
    """A page of the account's entries with running balances, newest first. Go on with the last entry's version.

    It ends where archived months begin. Raises HistoryArchived when the page's first entry is archived."""
    if before_version is None:
        balance = await store.load_balance(session, key)
        newest = 0 if balance is None else balance.version
    else:
        newest = before_version - 1
    if newest <= 0:
        return []
    archived = await archives.demand_version(session, key.id_for(session.tenant), newest - 1)
    start = max(newest - limit, archived)  # an account's versions are 1, 2, 3 …
    return (await store.load_entries(session, key, start, newest - start))[::-1]


async def trial_balance(session: ReadSession) -> dict[AssetId, int]:
    """Debits minus credits over all accounts, per asset. Anything but zero means that the books are broken."""
    return await store.load_trial_balance(session)
