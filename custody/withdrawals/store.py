"""SQL of withdrawals. Every state change is an UPDATE that names the states it may start from."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.narrowing import of_customer
from custody.db.pages import in_sequence, of_choices
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import ChainId, parse_asset_id
from custody.kernel.errors import IllegalTransition
from custody.kernel.ids import PrincipalId, VaultId, WalletId, WithdrawalId
from custody.withdrawals.batch_tables import withdrawal_batch_lines
from custody.withdrawals.fee_store import fee_columns, fee_of
from custody.withdrawals.model import BOOKS_DIFFER, STOPPED, Memo, Withdrawal
from custody.withdrawals.tables import chain_heights, withdrawals
from custody.withdrawals.transitions import WITHDRAWALS

_IN_LINE = ("approved", "signing")
"""States in which a withdrawal wants a slot of its vault."""
_WANTS_SLOT = withdrawals.c.state.in_(_IN_LINE) | (
    (withdrawals.c.state == "cooling_down") & (withdrawals.c.cool_until <= func.clock_timestamp())
)
"""The same, with those that have cooled down. By the database's clock, which wrote the time."""
_FILL_AGAIN_S = 3600
"""How long nobody is asked again to fill a gap after it was refused."""


async def insert_withdrawal(uow: UnitOfWork, new: Withdrawal) -> None:
    """Write a new withdrawal in its first state."""
    await uow.conn.execute(
        insert(withdrawals).values(
            tenant_id=uow.tenant,
            id=new.id,
            kind=new.kind,
            state=new.state,
            wallet_id=new.wallet_id,
            vault_id=new.vault_id,
            channel_id=new.channel_id,
            into_id=new.into_id,
            chain=new.asset.chain,
            asset=new.asset.text,
            destination=new.destination,
            memo_type=new.memo.type,
            memo=new.memo.value,
            amount=new.amount,
            intent=new.intent,
            digest=new.digest,
            policy_version=new.policy_version,
            initiator=new.initiator,
            principal_id=new.principal_id,
            reason=new.reason,
            target_id=new.target_id,
            execute_after=new.execute_after,
            **fee_columns(new.fee),
            expires_at=new.expires_at,
            created_at=new.created_at,
            changed_at=new.changed_at,
        )
    )


async def load_withdrawal(session: ReadSession, withdrawal_id: WithdrawalId) -> Withdrawal | None:
    """One withdrawal of this tenant."""
    rows = await session.conn.execute(
        select(withdrawals).where(
            withdrawals.c.tenant_id == session.tenant, withdrawals.c.id == withdrawal_id
        )
    )
    row = rows.one_or_none()
    return None if row is None else _withdrawal(row)


async def lock_withdrawal(uow: UnitOfWork, withdrawal_id: WithdrawalId) -> Withdrawal | None:
    """The same, with its row locked: whoever decides about a withdrawal does it alone."""
    rows = await uow.conn.execute(
        select(withdrawals)
        .where(withdrawals.c.tenant_id == uow.tenant, withdrawals.c.id == withdrawal_id)
        .with_for_update()
    )
    row = rows.one_or_none()
    return None if row is None else _withdrawal(row)


async def load_withdrawals_of_ids(session: ReadSession, ids: Collection[WithdrawalId]) -> list[Withdrawal]:
    """Those of these withdrawals that are this tenant's, in order of arrival."""
    rows = await session.conn.execute(
        select(withdrawals)
        .where(withdrawals.c.tenant_id == session.tenant, withdrawals.c.id.in_(list(ids)))
        .order_by(withdrawals.c.sequence)
    )
    return [_withdrawal(row) for row in rows]


async def load_page(
    session: ReadSession,
    after: WithdrawalId | None,
    limit: int,
    wallet_id: WalletId | None,
    states: Sequence[str],
    *,
    alone: bool = False,
    newest_first: bool = False,
) -> list[Withdrawal]:
    """Withdrawals in order of arrival or the reverse, after one of them, of one wallet or of all, in some states or in any, and
    only those that are lines of no batch, when told."""
    query = select(withdrawals).where(withdrawals.c.tenant_id == session.tenant)
    query = of_customer(query, session, withdrawals.c.wallet_id)
    query = of_choices(query, withdrawals.c.state, states)
    if wallet_id is not None:
        query = query.where(withdrawals.c.wallet_id == wallet_id)
    if alone:
        lines = select(withdrawal_batch_lines.c.withdrawal_id).where(
            withdrawal_batch_lines.c.tenant_id == session.tenant,
            withdrawal_batch_lines.c.withdrawal_id == withdrawals.c.id,
        )
        query = query.where(~lines.exists())
    rows = await session.conn.execute(
        in_sequence(query, session, withdrawals, after=after, limit=limit, newest_first=newest_first)
    )
    return [_withdrawal(row) for row in rows]


async def change_state(
    uow: UnitOfWork, withdrawal: Withdrawal, event: str, *, look_in_s: int | None, **values: Any
) -> Withdrawal:
    """Make one legal move and return the withdrawal after it; a worker looks again after `look_in_s` seconds, if any.

    Raises IllegalTransition when the row is in none of the event's source states: somebody else has moved it.
    """
    rows = await uow.conn.execute(
        update(withdrawals)
        .where(
            withdrawals.c.tenant_id == uow.tenant,
            withdrawals.c.id == withdrawal.id,
            withdrawals.c.state.in_(WITHDRAWALS.sources(event)),
        )
        .values(
            state=WITHDRAWALS.target_of(event),
            changed_at=func.clock_timestamp(),
            next_step_at=_after(look_in_s),
            stuck_since=None,
            stuck_reason="",
            **values,
        )
        .returning(withdrawals)
    )
    row = rows.one_or_none()
    if row is None:
        raise IllegalTransition(object="withdrawal", id=str(withdrawal.id), event=event)
    return _withdrawal(row)


async def look_again(uow: UnitOfWork, seen: Withdrawal, look_in_s: int | None) -> None:
    """Say in how many seconds a worker should look again; None for not before something else happens.

    Only if the withdrawal is still in the state in which the caller saw it: a move says by itself when to look.
    """
    await uow.conn.execute(
        update(withdrawals)
        .where(
            withdrawals.c.tenant_id == uow.tenant,
            withdrawals.c.id == seen.id,
            withdrawals.c.state == seen.state,
        )
        .values(next_step_at=_after(look_in_s))
    )


async def mark_stuck(uow: UnitOfWork, seen: Withdrawal, reason: str) -> bool:
    """Note why it goes no further, or with "" that it does again. Returns whether that is new; not in another state than seen."""
    rows = await uow.conn.execute(
        update(withdrawals)
        .where(
            withdrawals.c.tenant_id == uow.tenant,
            withdrawals.c.id == seen.id,
            withdrawals.c.state == seen.state,
            withdrawals.c.stuck_reason != reason,
        )
        .values(stuck_reason=reason, stuck_since=func.clock_timestamp() if reason else None)
        .returning(withdrawals.c.id)
    )
    return rows.one_or_none() is not None


async def has_cancel_under_way(session: ReadSession, target_id: WithdrawalId) -> bool:
    """Whether a cancel of this withdrawal's nonce is asked for and has no bytes yet."""
    rows = await session.conn.execute(
        select(withdrawals.c.id).where(
            withdrawals.c.tenant_id == session.tenant,
            withdrawals.c.target_id == target_id,
            withdrawals.c.state.in_(("awaiting_approval", "approved", "signing")),
        )
    )
    return rows.first() is not None


async def has_fill_under_way(session: ReadSession, vault_id: VaultId) -> bool:
    """Whether something is on its way that takes the vault's lowest free nonce, or such a thing was refused lately."""
    lately = func.clock_timestamp() - timedelta(seconds=_FILL_AGAIN_S)
    rows = await session.conn.execute(
        select(withdrawals.c.id)
        .where(
            withdrawals.c.tenant_id == session.tenant,
            withdrawals.c.vault_id == vault_id,
            withdrawals.c.kind != "evm_cancel",
            withdrawals.c.state.in_(_IN_LINE)
            | (
                (withdrawals.c.kind == "evm_fill")
                & (
                    (withdrawals.c.state == "awaiting_approval")
                    | (withdrawals.c.state.in_(("rejected", "failed")) & (withdrawals.c.changed_at > lately))
                )
            ),
        )
        .limit(1)
    )
    return rows.one_or_none() is not None


async def make_first_in_line_due(uow: UnitOfWork, sender_id: VaultId) -> None:
    """A sender may be free: whoever has waited longest for it is due now.

    Never waits: the caller holds other withdrawals, and whoever holds that row may wait for one of them. A row that somebody is
    working on is looked at again soon anyway.
    """
    following = await first_in_line(uow, sender_id)
    free = (
        select(withdrawals.c.id)
        .where(
            withdrawals.c.tenant_id == uow.tenant,
            withdrawals.c.id == following,
            _WANTS_SLOT,
        )
        .with_for_update(skip_locked=True)
    )
    await uow.conn.execute(
        update(withdrawals)
        .where(withdrawals.c.tenant_id == uow.tenant, withdrawals.c.id.in_(free.scalar_subquery()))
        .values(next_step_at=func.clock_timestamp())
    )


async def load_due(session: ReadSession, limit: int) -> list[WithdrawalId]:
    """Withdrawals that a worker should look at, longest waiting first. By the database's clock, which wrote the times."""
    rows = await session.conn.execute(
        select(withdrawals.c.id)
        .where(
            withdrawals.c.tenant_id == session.tenant,
            withdrawals.c.next_step_at <= func.clock_timestamp(),
        )
        .order_by(withdrawals.c.next_step_at, withdrawals.c.id)
        .limit(limit)
    )
    return [WithdrawalId(found) for found in rows.scalars()]


async def load_overdue(session: ReadSession, now: datetime, limit: int) -> list[WithdrawalId]:
    """Withdrawals whose window has closed before a key was touched."""
    rows = await session.conn.execute(
        select(withdrawals.c.id)
        .where(
            withdrawals.c.tenant_id == session.tenant,
            withdrawals.c.state.in_(WITHDRAWALS.sources("expire")),
            withdrawals.c.expires_at <= now,
        )
        .order_by(withdrawals.c.id)
        .limit(limit)
    )
    return [WithdrawalId(found) for found in rows.scalars()]


async def first_in_line(
    session: ReadSession, sender_id: VaultId, also: WithdrawalId | None = None
) -> WithdrawalId | None:
    """The withdrawal that has waited longest for a slot of this sender; one in `signing` lost its slot and comes first.

    What is stopped keeps nobody waiting, nor does one that waits for books and chain to be equal; `also`: its own place
    counts."""
    rows = await session.conn.execute(
        select(withdrawals.c.id)
        .where(
            withdrawals.c.tenant_id == session.tenant,
            func.coalesce(withdrawals.c.channel_id, withdrawals.c.vault_id) == sender_id,
            withdrawals.c.state.in_((*_IN_LINE, "cooling_down")),
            _WANTS_SLOT,
            withdrawals.c.stuck_reason.not_in(STOPPED),
            or_(withdrawals.c.stuck_reason != BOOKS_DIFFER, withdrawals.c.id == also),
        )
        .order_by(withdrawals.c.approved_at, withdrawals.c.id)
        .limit(1)
    )
    found = rows.scalar_one_or_none()
    return None if found is None else WithdrawalId(found)


async def raise_height(uow: UnitOfWork, chain: ChainId, height: int) -> None:
    """Note how far our own ingestion has come; it never goes down."""
    statement = upsert(chain_heights).values(tenant_id=uow.tenant, chain=chain, height=height)
    await uow.conn.execute(
        statement.on_conflict_do_update(
            index_elements=["tenant_id", "chain"],
            set_={"height": statement.excluded.height},
            where=chain_heights.c.height < statement.excluded.height,
        )
    )


async def load_height(session: ReadSession, chain: ChainId) -> int | None:
    """The highest final block that our own ingestion told us of."""
    rows = await session.conn.execute(
        select(chain_heights.c.height).where(
            chain_heights.c.tenant_id == session.tenant, chain_heights.c.chain == chain
        )
    )
    return rows.scalar_one_or_none()


def _after(seconds: int | None) -> Any:
    return None if seconds is None else func.clock_timestamp() + timedelta(seconds=seconds)


def _withdrawal(row: Row[Any]) -> Withdrawal:
    return Withdrawal(
        id=WithdrawalId(row.id),
        kind=row.kind,
        state=row.state,
        wallet_id=None if row.wallet_id is None else WalletId(row.wallet_id),
        vault_id=VaultId(row.vault_id),
        asset=parse_asset_id(row.asset),
        destination=row.destination,
        memo=Memo(type=row.memo_type, value=row.memo),
        amount=row.amount,
        intent=row.intent,
        digest=row.digest,
        policy_version=row.policy_version,
        initiator=row.initiator,
        principal_id=PrincipalId(row.principal_id),
        reason=row.reason,
        expires_at=row.expires_at,
        created_at=row.created_at,
        changed_at=row.changed_at,
        channel_id=None if row.channel_id is None else VaultId(row.channel_id),
        into_id=None if row.into_id is None else VaultId(row.into_id),
        target_id=None if row.target_id is None else WithdrawalId(row.target_id),
        stuck_reason=row.stuck_reason,
        execute_after=row.execute_after,
        approved_at=row.approved_at,
        cool_until=row.cool_until,
        fee=fee_of(row),
    )
