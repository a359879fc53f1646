"""SQL of cases and of deposit rules."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.pages import in_sequence, of_choices
from custody.db.session import ReadSession, UnitOfWork
from custody.deposits.model import Deposit, DepositCase, DepositRule, Reason
from custody.deposits.store import split
from custody.deposits.tables import deposit_cases, deposit_rules
from custody.deposits.transitions import DEPOSIT_CASES
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import CaseId, DepositId, WalletId, WithdrawalId

LIVE = tuple(state for state in DEPOSIT_CASES.states if state not in ("orphaned", "listed"))
"""States of the one case that a deposit has."""
UNSETTLED = ("open", "ignored", "returning")
"""States in which the money of a booked case lies in suspense."""


async def insert_case(
    uow: UnitOfWork, case_id: CaseId, deposit: Deposit, reason: Reason, named_wallet_id: WalletId | None
) -> DepositCase:
    """Write a new case in its initial state."""
    rows = await uow.conn.execute(
        insert(deposit_cases)
        .values(
            tenant_id=uow.tenant,
            id=case_id,
            deposit_id=deposit.id,
            state=DEPOSIT_CASES.initial,
            reason=reason.value,
            chain=deposit.transfer.chain,
            asset=deposit.transfer.asset.text,
            amount=deposit.transfer.amount,
            named_wallet_id=named_wallet_id,
            decided_by="",
            note="",
            changed_at=func.clock_timestamp(),
        )
        .returning(deposit_cases)
    )
    return _case(rows.one())


async def load_case(session: ReadSession, case_id: CaseId) -> DepositCase | None:
    """One case by id."""
    rows = await session.conn.execute(
        select(deposit_cases).where(
            deposit_cases.c.tenant_id == session.tenant, deposit_cases.c.id == case_id
        )
    )
    row = rows.one_or_none()
    return None if row is None else _case(row)


async def lock_case(uow: UnitOfWork, case_id: CaseId) -> DepositCase | None:
    """The same, its row locked. Whoever locks the deposit as well does that first."""
    rows = await uow.conn.execute(
        select(deposit_cases)
        .where(deposit_cases.c.tenant_id == uow.tenant, deposit_cases.c.id == case_id)
        .with_for_update()
    )
    row = rows.one_or_none()
    return None if row is None else _case(row)


async def lock_case_of(uow: UnitOfWork, deposit_id: DepositId) -> DepositCase | None:
    """The one live case of a deposit, its row locked."""
    rows = await uow.conn.execute(
        select(deposit_cases)
        .where(
            deposit_cases.c.tenant_id == uow.tenant,
            deposit_cases.c.deposit_id == deposit_id,
            deposit_cases.c.state.in_(LIVE),
        )
        .with_for_update()
    )
    row = rows.one_or_none()
    return None if row is None else _case(row)


async def load_cases_of(session: ReadSession, deposit_ids: Collection[DepositId]) -> list[DepositCase]:
    """The live cases of these deposits: one question for a whole page."""
    rows = await session.conn.execute(
        select(deposit_cases).where(
            deposit_cases.c.tenant_id == session.tenant,
            deposit_cases.c.deposit_id.in_(list(deposit_ids)),
            deposit_cases.c.state.in_(LIVE),
        )
    )
    return [_case(row) for row in rows]


async def load_of_withdrawals(
    session: ReadSession, withdrawal_ids: Collection[WithdrawalId]
) -> list[DepositCase]:
    """The cases that these withdrawals return, in the order of their ids."""
    rows = await session.conn.execute(
        select(deposit_cases)
        .where(
            deposit_cases.c.tenant_id == session.tenant,
            deposit_cases.c.withdrawal_id.in_(list(withdrawal_ids)),
        )
        .order_by(deposit_cases.c.id)
    )
    return [_case(row) for row in rows]


async def load_cases(
    session: ReadSession,
    *,
    states: Collection[str],
    reasons: Collection[Reason],
    asset: AssetId | None,
    after: CaseId | None,
    limit: int,
) -> list[DepositCase]:
    """Cases in the order they were opened, after one of them; of some states, reasons and asset, or of any."""
    query = select(deposit_cases).where(deposit_cases.c.tenant_id == session.tenant)
    query = of_choices(query, deposit_cases.c.state, states)
    query = of_choices(query, deposit_cases.c.reason, [reason.value for reason in reasons])
    if asset is not None:
        query = query.where(deposit_cases.c.asset == asset.text)
    rows = await session.conn.execute(in_sequence(query, session, deposit_cases, after=after, limit=limit))
    return [_case(row) for row in rows]


async def is_waited_for(session: ReadSession, chain: ChainId) -> bool:
    """Whether any deposit of this chain waits for its asset to be listed: asked at every final height."""
    rows = await session.conn.execute(select(deposit_cases.c.id).where(*_waiting(session, chain)).limit(1))
    return rows.first() is not None


async def load_waiting(session: ReadSession, chain: ChainId, listed: Collection[AssetId]) -> list[DepositId]:
    """Deposits that waited for one of these assets to be listed, in the order of their cases."""
    rows = await session.conn.execute(
        select(deposit_cases.c.deposit_id)
        .where(*_waiting(session, chain), deposit_cases.c.asset.in_([asset.text for asset in listed]))
        .order_by(deposit_cases.c.sequence)
    )
    return [DepositId(found) for found in rows.scalars()]


async def load_unsettled_sums(session: ReadSession) -> dict[AssetId, int]:
    """What suspense must hold for cases, per asset."""
    rows = await session.conn.execute(
        select(deposit_cases.c.asset, func.sum(deposit_cases.c.amount).label("total"))
        .where(
            deposit_cases.c.tenant_id == session.tenant,
            deposit_cases.c.state.in_(UNSETTLED),
            deposit_cases.c.reason != Reason.UNSUPPORTED_ASSET.value,
        )
        .group_by(deposit_cases.c.asset)
    )
    return {split(row.asset): int(row.total) for row in rows}


async def load_counts(session: ReadSession) -> dict[tuple[str, str], int]:
    """How many unsettled cases there are, by state and reason."""
    rows = await session.conn.execute(
        select(deposit_cases.c.state, deposit_cases.c.reason, func.count().label("cases"))
        .where(deposit_cases.c.tenant_id == session.tenant, deposit_cases.c.state.in_(UNSETTLED))
        .group_by(deposit_cases.c.state, deposit_cases.c.reason)
    )
    return {(row.state, row.reason): row.cases for row in rows}


async def change_case(uow: UnitOfWork, case: DepositCase, event: str, **values: Any) -> DepositCase:
    """Carry out one transition. Raises InvariantViolated when the state does not allow it: the row was locked."""
    rows = await uow.conn.execute(
        update(deposit_cases)
        .where(
            deposit_cases.c.tenant_id == uow.tenant,
            deposit_cases.c.id == case.id,
            deposit_cases.c.state.in_(DEPOSIT_CASES.sources(event)),
        )
        .values(state=DEPOSIT_CASES.target_of(event), changed_at=func.clock_timestamp(), **values)
        .returning(deposit_cases)
    )
    row = rows.one_or_none()
    if row is None:
        raise InvariantViolated("a locked case is not in a state for this", id=case.id, event=event)
    return _case(row)


async def load_rules(session: ReadSession) -> dict[AssetId, DepositRule]:
    """What the tenant takes as a deposit, per asset that has a rule."""
    rows = await session.conn.execute(
        select(deposit_rules)
        .where(deposit_rules.c.tenant_id == session.tenant)
        .order_by(deposit_rules.c.asset)
    )
    return {
        split(row.asset): DepositRule(minimum=row.minimum, dust=row.dust, distrusted=row.distrusted)
        for row in rows
    }


async def write_rule(uow: UnitOfWork, asset: AssetId, rule: DepositRule, set_by: str) -> None:
    """Write the rule of an asset, or another in its place."""
    values = {
        "minimum": rule.minimum,
        "dust": rule.dust,
        "distrusted": rule.distrusted,
        "set_by": set_by,
        "changed_at": func.clock_timestamp(),
    }
    await uow.conn.execute(
        upsert(deposit_rules)
        .values(tenant_id=uow.tenant, asset=asset.text, **values)
        .on_conflict_do_update(index_elements=["tenant_id", "asset"], set_=values)
    )


def _waiting(session: ReadSession, chain: ChainId) -> tuple[ColumnElement[bool], ...]:
    return (
        deposit_cases.c.tenant_id == session.tenant,
        deposit_cases.c.chain == chain,
        deposit_cases.c.state.in_(DEPOSIT_CASES.sources("list")),
        deposit_cases.c.reason == Reason.UNSUPPORTED_ASSET.value,
    )


def _case(row: Row[Any]) -> DepositCase:
    return DepositCase(
        id=CaseId(row.id),
        sequence=row.sequence,
        deposit_id=DepositId(row.deposit_id),
        state=row.state,
        reason=Reason(row.reason),
        asset=split(row.asset),
        amount=row.amount,
        named_wallet_id=_wallet(row.named_wallet_id),
        wallet_id=_wallet(row.wallet_id),
        withdrawal_id=None if row.withdrawal_id is None else WithdrawalId(row.withdrawal_id),
        decided_by=row.decided_by,
        note=row.note,
        opened_at=row.created_at,
        changed_at=row.changed_at,
    )


def _wallet(found: UUID | None) -> WalletId | None:
    return None if found is None else WalletId(found)
