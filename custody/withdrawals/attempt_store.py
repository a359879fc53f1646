"""SQL of attempts."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import Row, exists, func, insert, select, update

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import ChainId
from custody.kernel.errors import IllegalTransition
from custody.kernel.ids import AttemptId, VaultId, WithdrawalId
from custody.withdrawals.model import Attempt, OwnTransaction
from custody.withdrawals.tables import OPEN_ATTEMPT, attempts
from custody.withdrawals.transitions import ATTEMPTS

IN_FLIGHT = ("reserved", "signed", "broadcast")
"""States in which an attempt may still reach a block."""


async def insert_attempt(uow: UnitOfWork, new: Attempt, *, exclusive: bool) -> None:
    """Reserve a slot; a fee bump takes none. The database refuses a slot that is taken, and a second open attempt."""
    await uow.conn.execute(
        insert(attempts).values(
            tenant_id=uow.tenant,
            id=new.id,
            withdrawal_id=new.withdrawal_id,
            vault_id=new.vault_id,
            chain=new.chain,
            number=new.number,
            state=new.state,
            sequence=new.sequence,
            holds_slot=not new.is_fee_bump,
            exclusive=exclusive,
            max_ledger=new.max_ledger,
            max_time=new.max_time,
            fee_bid=new.fee_bid,
            priority_fee=new.priority_fee,
            alternative_of=new.alternative_of,
            intent=new.intent,
            spends=new.spends,
            sends=0,
            last_answer="",
            changed_at=func.clock_timestamp(),
        )
    )


async def load_attempts(session: ReadSession, withdrawal_id: WithdrawalId) -> list[Attempt]:
    """All attempts of a withdrawal, oldest first."""
    rows = await session.conn.execute(
        select(attempts)
        .where(attempts.c.tenant_id == session.tenant, attempts.c.withdrawal_id == withdrawal_id)
        .order_by(attempts.c.number)
    )
    return [_attempt(row) for row in rows]


async def load_attempts_of(session: ReadSession, ids: Collection[WithdrawalId]) -> list[Attempt]:
    """All attempts of some withdrawals, oldest first."""
    rows = await session.conn.execute(
        select(attempts)
        .where(attempts.c.tenant_id == session.tenant, attempts.c.withdrawal_id.in_(list(ids)))
        .order_by(attempts.c.number)
    )
    return [_attempt(row) for row in rows]


async def load_open(session: ReadSession, withdrawal_id: WithdrawalId) -> Attempt | None:
    """The attempt whose end is not known. There is one, or several for one EVM nonce: then the dearest, which is the newest."""
    rows = await session.conn.execute(
        select(attempts)
        .where(
            attempts.c.tenant_id == session.tenant,
            attempts.c.withdrawal_id == withdrawal_id,
            attempts.c.state.in_(OPEN_ATTEMPT),
        )
        .order_by(attempts.c.number.desc())
        .limit(1)
    )
    row = rows.one_or_none()
    return None if row is None else _attempt(row)


async def is_reserved(session: ReadSession, attempt: Attempt) -> bool:
    """Whether an attempt still waits for the signer's answer. The caller has locked its withdrawal."""
    rows = await session.conn.execute(
        select(attempts.c.state).where(
            attempts.c.tenant_id == session.tenant,
            attempts.c.id == attempt.id,
            attempts.c.state == "reserved",
        )
    )
    return rows.one_or_none() is not None


async def find_by_hash(session: ReadSession, chain: ChainId, tx_hash: str) -> Attempt | None:
    """The attempt that this transaction belongs to. Not locked: lock its withdrawal first, then look again."""
    rows = await session.conn.execute(
        select(attempts).where(
            attempts.c.tenant_id == session.tenant,
            attempts.c.chain == chain,
            attempts.c.tx_hash == tx_hash,
        )
    )
    row = rows.one_or_none()
    return None if row is None else _attempt(row)


async def count_in_flight(session: ReadSession, vault_id: VaultId) -> int:
    """Attempts of a vault that may still reach a block."""
    rows = await session.conn.execute(
        select(func.count())
        .select_from(attempts)
        .where(
            attempts.c.tenant_id == session.tenant,
            attempts.c.vault_id == vault_id,
            attempts.c.state.in_(IN_FLIGHT),
            attempts.c.alternative_of.is_(None),
        )
    )
    return int(rows.scalar_one())


async def taken_slots(session: ReadSession, vault_id: VaultId, at_least: int) -> set[int]:
    """Sequences or nonces of a vault, from `at_least` on, that are or were used."""
    rows = await session.conn.execute(
        select(attempts.c.sequence).where(
            attempts.c.tenant_id == session.tenant,
            attempts.c.vault_id == vault_id,
            attempts.c.holds_slot,
            attempts.c.sequence >= at_least,
        )
    )
    return set(rows.scalars())


async def load_commitments(session: ReadSession, vault_id: VaultId) -> int:
    """Wei that the EVM attempts of a vault in flight may take: of each nonce what its dearest alternative may."""
    dearest = (
        select(func.max(attempts.c.spends).label("spends"))
        .where(
            attempts.c.tenant_id == session.tenant,
            attempts.c.vault_id == vault_id,
            attempts.c.state.in_(IN_FLIGHT),
        )
        .group_by(attempts.c.sequence)
        .subquery()
    )
    rows = await session.conn.execute(select(func.coalesce(func.sum(dearest.c.spends), 0)))
    return int(rows.scalar_one())


async def is_lost(session: ReadSession, vault_id: VaultId, sequence: int) -> bool:
    """Whether the signer refused us a nonce because its journal has bytes for it that our rows do not know."""
    rows = await session.conn.execute(
        select(attempts.c.id).where(
            attempts.c.tenant_id == session.tenant,
            attempts.c.vault_id == vault_id,
            attempts.c.sequence == sequence,
            attempts.c.state == "refused",
            attempts.c.holds_slot,
        )
    )
    return rows.first() is not None


async def lowest_in_flight(session: ReadSession, vault_id: VaultId, at_least: int) -> int:
    """The lowest nonce from `at_least` on that a sent attempt waits on; `at_least` when there is none."""
    rows = await session.conn.execute(
        select(func.min(attempts.c.sequence)).where(
            attempts.c.tenant_id == session.tenant,
            attempts.c.vault_id == vault_id,
            attempts.c.sequence >= at_least,
            attempts.c.state == "broadcast",
        )
    )
    found = rows.scalar_one()
    return at_least if found is None else int(found)


async def highest_in_flight(session: ReadSession, vault_id: VaultId) -> int:
    """The highest nonce that an attempt waits on; -1 when there is none."""
    rows = await session.conn.execute(
        select(func.coalesce(func.max(attempts.c.sequence), -1)).where(
            attempts.c.tenant_id == session.tenant,
            attempts.c.vault_id == vault_id,
            attempts.c.state.in_(IN_FLIGHT),
        )
    )
    return int(rows.scalar_one())


async def load_alternatives(session: ReadSession, attempt: Attempt) -> list[Attempt]:
    """All attempts on an EVM attempt's nonce whose end is not known, this one too: the first, then the others by price."""
    first = attempt.alternative_of or attempt.id
    found = await _select(
        session,
        (attempts.c.id == first) | (attempts.c.alternative_of == first),
        attempts.c.state.in_(OPEN_ATTEMPT),
    )
    return sorted(found, key=lambda each: (each.alternative_of is not None, each.fee_bid))


async def load_overtaken(uow: UnitOfWork, chain: ChainId, height: int) -> list[Attempt]:
    """Attempts on nonces that a final block used for another attempt."""
    mined = attempts.alias("mined")
    used = exists().where(
        mined.c.tenant_id == attempts.c.tenant_id,
        mined.c.vault_id == attempts.c.vault_id,
        mined.c.sequence == attempts.c.sequence,
        mined.c.state.in_(("included", "confirmed", "failed")),
        mined.c.max_ledger.is_(None),
        mined.c.height <= height,
    )
    return await _select(
        uow,
        attempts.c.chain == chain,
        attempts.c.state.in_(IN_FLIGHT),
        attempts.c.max_ledger.is_(None),
        used,
    )


async def watch(uow: UnitOfWork, attempt: Attempt, height: int) -> None:
    """Note the block from which on an attempt is the next of its account; once."""
    await uow.conn.execute(
        update(attempts)
        .where(
            attempts.c.tenant_id == uow.tenant,
            attempts.c.id == attempt.id,
            attempts.c.watched_from.is_(None),
        )
        .values(watched_from=height)
    )


async def released_until(session: ReadSession, vault_id: VaultId, sequence: int) -> int:
    """The latest time bound of lapsed bytes in this slot, in unix seconds; 0 when there are none.

    Until then the signer keeps the slot closed: it does not know our ledger height, only its clock.
    """
    rows = await session.conn.execute(
        select(func.coalesce(func.max(attempts.c.max_time), 0)).where(
            attempts.c.tenant_id == session.tenant,
            attempts.c.vault_id == vault_id,
            attempts.c.sequence == sequence,
            attempts.c.state == "lapsed",
        )
    )
    return int(rows.scalar_one())


async def change_attempt(uow: UnitOfWork, attempt: Attempt, event: str, **values: Any) -> Attempt:
    """Make one legal move and return the attempt after it. Raises IllegalTransition when somebody else has moved it."""
    rows = await uow.conn.execute(
        update(attempts)
        .where(
            attempts.c.tenant_id == uow.tenant,
            attempts.c.id == attempt.id,
            attempts.c.state.in_(ATTEMPTS.sources(event)),
        )
        .values(state=ATTEMPTS.target_of(event), changed_at=func.clock_timestamp(), **values)
        .returning(attempts)
    )
    row = rows.one_or_none()
    if row is None:
        raise IllegalTransition(object="attempt", id=str(attempt.id), event=event)
    return _attempt(row)


async def note_answer(uow: UnitOfWork, attempt: Attempt, answer: str) -> None:
    """Note what the node said. Only while the attempt is being sent: later it does not matter."""
    await uow.conn.execute(
        update(attempts)
        .where(
            attempts.c.tenant_id == uow.tenant, attempts.c.id == attempt.id, attempts.c.state == "broadcast"
        )
        .values(last_answer=answer, sends=attempts.c.sends + 1, changed_at=func.clock_timestamp())
    )


async def move_inclusion(uow: UnitOfWork, attempt: Attempt, seen: OwnTransaction) -> None:
    """The same transaction was seen in another block."""
    await uow.conn.execute(
        update(attempts)
        .where(
            attempts.c.tenant_id == uow.tenant, attempts.c.id == attempt.id, attempts.c.state == "included"
        )
        .values(**inclusion(seen), changed_at=func.clock_timestamp())
    )


def inclusion(seen: OwnTransaction) -> dict[str, Any]:
    """The columns that say what our own ingestion saw."""
    return {
        "height": seen.height,
        "succeeded": seen.succeeded,
        "fee_paid": seen.fee_atomic,
        "included_at": seen.occurred_at,
        **({"last_answer": seen.outcome} if seen.outcome else {}),
    }


async def load_included(uow: UnitOfWork, chain: ChainId, height: int) -> list[Attempt]:
    """Attempts in blocks up to this height whose end is not booked yet."""
    return await _select(
        uow,
        attempts.c.chain == chain,
        attempts.c.state == "included",
        attempts.c.height <= height,
    )


async def load_included_above(uow: UnitOfWork, chain: ChainId, above: int) -> list[Attempt]:
    """Attempts in blocks above this height: those that a reorganisation takes back."""
    return await _select(
        uow, attempts.c.chain == chain, attempts.c.state == "included", attempts.c.height > above
    )


async def load_ended_above(session: ReadSession, chain: ChainId, above: int) -> list[Attempt]:
    """Attempts whose end was booked of blocks above this height."""
    rows = await session.conn.execute(
        select(attempts)
        .where(
            attempts.c.tenant_id == session.tenant,
            attempts.c.chain == chain,
            attempts.c.state.in_(("confirmed", "failed")),
            attempts.c.height > above,
        )
        .order_by(attempts.c.height, attempts.c.withdrawal_id)
    )
    return [_attempt(row) for row in rows]


async def load_lapsed(uow: UnitOfWork, chain: ChainId, height: int) -> list[Attempt]:
    """Signed attempts that can no longer reach a block, now that this height is final without them."""
    return await _select(
        uow,
        attempts.c.chain == chain,
        attempts.c.state.in_(ATTEMPTS.sources("lapse")),
        attempts.c.max_ledger <= height,
    )


async def _select(session: ReadSession, *conditions: Any) -> list[Attempt]:
    rows = await session.conn.execute(
        select(attempts)
        .where(attempts.c.tenant_id == session.tenant, *conditions)
        .order_by(attempts.c.withdrawal_id, attempts.c.number)
    )
    return [_attempt(row) for row in rows]


def _attempt(row: Row[Any]) -> Attempt:
    return Attempt(
        id=AttemptId(row.id),
        withdrawal_id=WithdrawalId(row.withdrawal_id),
        vault_id=VaultId(row.vault_id),
        chain=ChainId(row.chain),
        number=row.number,
        state=row.state,
        sequence=row.sequence,
        max_ledger=row.max_ledger,
        max_time=row.max_time,
        fee_bid=row.fee_bid,
        priority_fee=row.priority_fee,
        tx=row.tx,
        tx_hash=row.tx_hash,
        sends=row.sends,
        last_answer=row.last_answer,
        height=row.height,
        succeeded=row.succeeded,
        fee_paid=row.fee_paid,
        included_at=row.included_at,
        alternative_of=None if row.alternative_of is None else AttemptId(row.alternative_of),
        intent=row.intent,
        spends=row.spends,
        watched_from=row.watched_from,
    )
