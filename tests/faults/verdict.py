"""What must be true after any disturbance, once everything that was sent has been answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import text

from custody.db.session import Database
from custody.kernel.ids import TenantId
from custody.ledger import service
from custody.ledger.model import OpenAccount, Outcome
from custody.seals import service as seals
from custody.seals.errors import HistoryAltered
from tests.fakes.ledger_invariants import broken_invariants
from tests.fakes.ledger_replay import Replay, first_id
from tests.faults.drive import Journal
from tests.faults.plan import XLM, Chain, Plan

_WRITTEN = text(
    "SELECT c.id, c.result, t.debit_version, t.debit_balance, t.credit_version, t.credit_balance, t.booked_at"
    "  FROM ledger_commands c LEFT JOIN ledger_transfers t ON t.tenant_id = c.tenant_id AND t.id = c.id"
)


async def troubles_of(database: Database, tenant: TenantId, plan: Plan, journal: Journal) -> list[str]:
    """Everything that is wrong, in words; empty when the ledger has kept its promises.

    Nothing acknowledged is lost, nothing doubled, nothing torn; every id has one answer for ever; the invariants hold; the roots
    follow from the rows; the state is the oracle's, replayed in the database's own order.
    """
    chains = plan.chains()
    found = await _kept(database, tenant, chains, journal)
    found += _consistent(journal)
    found += await _asked_again(database, tenant, chains, journal)
    async with database.read(tenant) as session:
        found += await broken_invariants(session)
        asked = {first_id(one.chain): one.asked_at for one in reversed(journal.told)}
        told = {first_id(one.chain): one.told_at for one in reversed(journal.told)}
        replay = Replay({XLM}, chains, asked, told)
        await replay.run(session)
        found += replay.troubles
    try:
        async with database.unit_of_work(tenant) as uow:
            await seals.seal_next(uow)  # derives every root from the rows again
    except HistoryAltered as altered:
        found.append(f"a root does not follow from its rows: {altered.values}")
    return found


def answer_of(outcome: Outcome) -> Outcome:
    """What must be the same each time an id is answered. Whether it was the first time may differ."""
    return outcome._replace(replayed=False)


async def _kept(database: Database, tenant: TenantId, chains: Sequence[Chain], journal: Journal) -> list[str]:
    """What the clients were told is what is written, once, and nothing else is."""
    async with database.read(tenant) as session:
        rows = [row._mapping for row in await session.conn.execute(_WRITTEN)]
    written: dict[UUID, Any] = {row["id"]: row for row in rows}
    sent = {c.id for chain in chains for c in chain if not isinstance(c, OpenAccount)}
    found = [f"{id_} was never sent" for id_ in written.keys() - sent]
    if len(written) != len(rows):
        found.append("an id is booked more than once")
    for told in journal.told:
        for outcome in told.outcomes:
            if outcome.command_id is None:
                continue
            row = written.get(outcome.command_id)
            if row is None:
                found.append(f"{outcome.command_id} was acknowledged and is lost")
            elif row["result"] != outcome.result.value or (
                outcome.result.value == "applied" and _figures(row) != _told_figures(outcome)
            ):
                found.append(f"{outcome.command_id} was told {outcome} and is {dict(row)}")
    return found


def _figures(row: Any) -> tuple[object, ...]:
    versions = row["debit_version"], row["credit_version"]
    return (*versions, row["debit_balance"], row["credit_balance"], row["booked_at"])


def _told_figures(outcome: Outcome) -> tuple[object, ...]:
    versions = outcome.debit_version, outcome.credit_version
    return (*versions, outcome.debit_balance, outcome.credit_balance, outcome.booked_at)


def _consistent(journal: Journal) -> list[str]:
    """No id was ever told two things."""
    first: dict[UUID, Outcome] = {}
    answers = [answer_of(outcome) for told in journal.told for outcome in told.outcomes]
    return [
        f"{o.command_id} was told {first[o.command_id]} and then {o}"
        for o in answers
        if o.command_id is not None and first.setdefault(o.command_id, o) != o
    ]


async def _asked_again(
    database: Database, tenant: TenantId, chains: Sequence[Chain], journal: Journal
) -> list[str]:
    """The same ids once more, all at once: the same answers, all of them replayed, and nothing is written."""
    count = text("SELECT count(*), max(version) FROM ledger_entries")
    told = {
        outcome.command_id: answer_of(outcome)
        for one in journal.told
        for outcome in one.outcomes
        if outcome.command_id is not None
    }
    async with database.unit_of_work(tenant) as uow:
        before = (await uow.conn.execute(count)).one()
        outcomes = await service.submit(uow, chains)
        after = (await uow.conn.execute(count)).one()
    found = [
        f"{o.command_id} is now answered {o}, not {told[o.command_id]}"
        for o in outcomes
        if o.command_id in told and answer_of(o) != told[o.command_id]
    ]
    found += [f"{o.command_id} is new" for o in outcomes if o.command_id is not None and not o.replayed]
    if before != after:
        found.append("asking again has booked something")
    return found
