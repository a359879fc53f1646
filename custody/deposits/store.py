"""SQL of deposits."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.narrowing import of_customer
from custody.db.pages import in_sequence, of_choices
from custody.db.session import ReadSession, UnitOfWork
from custody.deposits.model import Deposit, FinalHeight, ObservedTransfer
from custody.deposits.tables import chain_heights, deposits, vault_requests
from custody.deposits.transitions import DEPOSITS, VAULT_REQUESTS
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import DepositId, VaultId, WalletId


async def insert_deposit(
    uow: UnitOfWork,
    deposit_id: DepositId,
    vault_id: VaultId,
    wallet_id: WalletId | None,
    transfer: ObservedTransfer,
) -> bool:
    """Write a deposit in its initial state. False when it is known, or another one holds its place in the transaction."""
    rows = await uow.conn.execute(
        upsert(deposits)
        .values(
            tenant_id=uow.tenant,
            id=deposit_id,
            chain=transfer.chain,
            tx_hash=transfer.tx_hash,
            ordinal=transfer.ordinal,
            asset=transfer.asset.text,
            vault_id=vault_id,
            wallet_id=wallet_id,
            source=transfer.source,
            account=transfer.account,
            tag=transfer.tag,
            memo=transfer.memo,
            amount=transfer.amount,
            height=transfer.height,
            block_hash=transfer.block_hash,
            inclusion=1,
            doubt=transfer.doubt,
            state=DEPOSITS.initial,
            occurred_at=transfer.occurred_at,
            changed_at=func.clock_timestamp(),
        )
        .on_conflict_do_nothing()
        .returning(deposits.c.id)
    )
    return rows.first() is not None


async def lock_deposit(uow: UnitOfWork, deposit_id: DepositId) -> Deposit | None:
    """One deposit, its row locked."""
    rows = await uow.conn.execute(
        select(deposits)
        .where(deposits.c.tenant_id == uow.tenant, deposits.c.id == deposit_id)
        .with_for_update()
    )
    row = rows.one_or_none()
    return None if row is None else _deposit(row)


async def include_again(
    uow: UnitOfWork, known: Deposit, wallet_id: WalletId | None, transfer: ObservedTransfer
) -> None:
    """Put a deposit whose block was replaced into the block that holds it now."""
    await _move(
        uow,
        known.id,
        "include",
        height=transfer.height,
        block_hash=transfer.block_hash,
        occurred_at=transfer.occurred_at,
        wallet_id=wallet_id,
        inclusion=known.inclusion + 1,
    )


async def move(uow: UnitOfWork, deposit_id: DepositId, event: str, wallet_id: WalletId | None) -> None:
    """Carry out one transition. Raises InvariantViolated when the state does not allow it: the row was locked."""
    await _move(uow, deposit_id, event, wallet_id=wallet_id)


async def mark_lost(uow: UnitOfWork, deposit_id: DepositId) -> None:
    """Its chain has it no more; what is booked of it stands."""
    await uow.conn.execute(
        update(deposits)
        .where(deposits.c.tenant_id == uow.tenant, deposits.c.id == deposit_id)
        .values(lost=True, changed_at=func.clock_timestamp())
    )


async def find_again(uow: UnitOfWork, deposit_id: DepositId, transfer: ObservedTransfer) -> None:
    """Its chain has it again, in this block; what is booked of it stands."""
    await uow.conn.execute(
        update(deposits)
        .where(deposits.c.tenant_id == uow.tenant, deposits.c.id == deposit_id)
        .values(
            lost=False,
            height=transfer.height,
            block_hash=transfer.block_hash,
            occurred_at=transfer.occurred_at,
            changed_at=func.clock_timestamp(),
        )
    )


async def lock_final(uow: UnitOfWork, chain: ChainId, height_final: int) -> list[Deposit]:
    """Deposits in final blocks that are not booked yet, in the order of the chain, their rows locked."""
    rows = await uow.conn.execute(_observed(uow, chain, height_final).with_for_update())
    return [_deposit(row) for row in rows]


async def load_observed(session: ReadSession, chain: ChainId, height: int) -> list[Deposit]:
    """Deposits in blocks up to a height that are not booked, in the order of the chain."""
    rows = await session.conn.execute(_observed(session, chain, height))
    return [_deposit(row) for row in rows]


def _observed(session: ReadSession, chain: ChainId, height: int) -> Select[Any]:
    return (
        select(deposits)
        .where(
            deposits.c.tenant_id == session.tenant,
            deposits.c.chain == chain,
            deposits.c.state == DEPOSITS.initial,
            deposits.c.height <= height,
        )
        .order_by(deposits.c.height, deposits.c.sequence)
    )


async def lock_above(uow: UnitOfWork, chain: ChainId, height_above: int) -> list[Deposit]:
    """Deposits in blocks above a height that still count as included or were returned, newest first, their rows locked."""
    included = {*DEPOSITS.sources("orphan"), *DEPOSITS.sources("reverse"), DEPOSITS.target_of("return")}
    rows = await uow.conn.execute(
        select(deposits)
        .where(
            deposits.c.tenant_id == uow.tenant,
            deposits.c.chain == chain,
            deposits.c.state.in_(included),
            deposits.c.height > height_above,
            ~deposits.c.lost,
        )
        .order_by(deposits.c.height.desc(), deposits.c.sequence.desc())
        .with_for_update()
    )
    return [_deposit(row) for row in rows]


async def load_booked_above(session: ReadSession, chain: ChainId, height: int) -> list[Deposit]:
    """Deposits in blocks above a height that are booked or were paid back, in the order of the chain."""
    booked = {*DEPOSITS.sources("reverse"), DEPOSITS.target_of("return")}
    rows = await session.conn.execute(
        select(deposits)
        .where(
            deposits.c.tenant_id == session.tenant,
            deposits.c.chain == chain,
            deposits.c.state.in_(booked),
            deposits.c.height > height,
        )
        .order_by(deposits.c.height, deposits.c.sequence)
    )
    return [_deposit(row) for row in rows]


async def load_deposit(session: ReadSession, deposit_id: DepositId) -> Deposit | None:
    """One deposit by id."""
    rows = await session.conn.execute(
        select(deposits).where(deposits.c.tenant_id == session.tenant, deposits.c.id == deposit_id)
    )
    row = rows.one_or_none()
    return None if row is None else _deposit(row)


async def load_deposits_of_ids(session: ReadSession, ids: Collection[DepositId]) -> list[Deposit]:
    """Those of these deposits that are this tenant's, in no particular order."""
    rows = await session.conn.execute(
        select(deposits).where(deposits.c.tenant_id == session.tenant, deposits.c.id.in_(list(ids)))
    )
    return [_deposit(row) for row in rows]


async def load_deposits(
    session: ReadSession,
    wallet_id: WalletId | None,
    states: Collection[str],
    assets: Collection[AssetId] | None,
    after: UUID | None,
    limit: int,
    *,
    newest_first: bool = False,
) -> list[Deposit]:
    """Deposits in the order they were observed or the reverse, after one of them."""
    query = select(deposits).where(deposits.c.tenant_id == session.tenant)
    if assets is not None:
        query = query.where(deposits.c.asset.in_([asset.text for asset in assets]))
    query = of_choices(of_customer(query, session, deposits.c.wallet_id), deposits.c.state, states)
    if wallet_id is not None:
        query = query.where(deposits.c.wallet_id == wallet_id)
    rows = await session.conn.execute(
        in_sequence(query, session, deposits, after=after, limit=limit, newest_first=newest_first)
    )
    return [_deposit(row) for row in rows]


def split(text: str) -> AssetId:
    """The asset of a stored name. Not parsed: an asset that is not listed may have a form that we do not know."""
    chain, _, reference = text.partition("/")
    return AssetId(ChainId(chain), reference)


async def write_height(
    uow: UnitOfWork, chain: ChainId, *, height_final: int, height_ingested: int, ingested_at: datetime
) -> None:
    """Record how far a chain was read, and up to where the tenant's books hold all of it."""
    values = {
        "height_final": height_final,
        "height_ingested": height_ingested,
        "ingested_at": ingested_at,
        "updated_at": func.clock_timestamp(),
    }
    await uow.conn.execute(
        upsert(chain_heights)
        .values(tenant_id=uow.tenant, chain=chain, **values)
        .on_conflict_do_update(index_elements=["tenant_id", "chain"], set_=values)
    )


async def load_height(session: ReadSession, chain: ChainId) -> FinalHeight | None:
    """How far a chain was read, and up to where the tenant's books hold all of it."""
    rows = await session.conn.execute(
        select(chain_heights).where(
            chain_heights.c.tenant_id == session.tenant, chain_heights.c.chain == chain
        )
    )
    row = rows.one_or_none()
    if row is None:
        return None
    return FinalHeight(
        chain=chain,
        height=row.height_final,
        ingested_height=row.height_ingested,
        ingested_at=row.ingested_at,
        updated_at=row.updated_at,
    )


async def insert_request(
    uow: UnitOfWork,
    request_id: UUID,
    *,
    chain: ChainId,
    purpose: str,
    wallet_id: WalletId | None,
    vault_id: VaultId,
) -> tuple[str, str, UUID | None]:
    """Write a request for a vault unless its id is known. Returns the chain, purpose and wallet that stand under the id."""
    await uow.conn.execute(
        upsert(vault_requests)
        .values(
            tenant_id=uow.tenant,
            id=request_id,
            chain=chain,
            purpose=purpose,
            wallet_id=wallet_id,
            vault_id=vault_id,
            state=VAULT_REQUESTS.initial,
            changed_at=func.clock_timestamp(),
        )
        .on_conflict_do_nothing()
    )
    rows = await uow.conn.execute(
        select(vault_requests).where(
            vault_requests.c.tenant_id == uow.tenant, vault_requests.c.id == request_id
        )
    )
    row = rows.one()
    return row.chain, row.purpose, row.wallet_id


async def requested_at(session: ReadSession, request_id: UUID) -> datetime:
    """When a vault was first asked for: before that, its key was not."""
    rows = await session.conn.execute(
        select(vault_requests.c.created_at).where(
            vault_requests.c.tenant_id == session.tenant, vault_requests.c.id == request_id
        )
    )
    found: datetime = rows.scalar_one()
    return found


async def close_request(uow: UnitOfWork, request_id: UUID) -> None:
    """Note that the vault exists. A request that is already closed stays so."""
    await uow.conn.execute(
        update(vault_requests)
        .where(
            vault_requests.c.tenant_id == uow.tenant,
            vault_requests.c.id == request_id,
            vault_requests.c.state.in_(VAULT_REQUESTS.sources("create")),
        )
        .values(state=VAULT_REQUESTS.target_of("create"), changed_at=func.clock_timestamp())
    )


async def _move(uow: UnitOfWork, deposit_id: DepositId, event: str, **values: Any) -> None:
    rows = await uow.conn.execute(
        update(deposits)
        .where(
            deposits.c.tenant_id == uow.tenant,
            deposits.c.id == deposit_id,
            deposits.c.state.in_(DEPOSITS.sources(event)),
        )
        .values(state=DEPOSITS.target_of(event), changed_at=func.clock_timestamp(), **values)
    )
    if rows.rowcount != 1:
        raise InvariantViolated("a locked deposit is not in a state for this", id=deposit_id, event=event)


def _deposit(row: Row[Any]) -> Deposit:
    return Deposit(
        id=DepositId(row.id),
        state=row.state,
        vault_id=VaultId(row.vault_id),
        wallet_id=None if row.wallet_id is None else WalletId(row.wallet_id),
        transfer=ObservedTransfer(
            chain=ChainId(row.chain),
            height=row.height,
            block_hash=row.block_hash,
            tx_hash=row.tx_hash,
            ordinal=row.ordinal,
            asset=split(row.asset),
            source=row.source,
            account=row.account,
            tag=row.tag,
            memo=row.memo,
            amount=row.amount,
            occurred_at=row.occurred_at,
            doubt=row.doubt,
        ),
        inclusion=row.inclusion,
        observed_at=row.created_at,
        changed_at=row.changed_at,
        lost=row.lost,
    )
