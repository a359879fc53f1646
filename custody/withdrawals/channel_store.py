"""SQL of channels, of what fills vaults of ours, and of fee bumps."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Literal

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import AssetId, ChainId, parse_asset_id
from custody.kernel.ids import VaultId, WithdrawalId
from custody.withdrawals.tables import BEFORE_THE_KEY, attempts, channels, withdrawals

_WAITING = (*BEFORE_THE_KEY, "signing", "broadcasting")
"""States in which a withdrawal uses its channel, or will."""


async def open_channel(
    uow: UnitOfWork, vault_id: VaultId, chain: ChainId, *, sequence: int, height: int
) -> None:
    """Note that a channel's account is on chain. Once: the first opening stays."""
    await uow.conn.execute(
        upsert(channels)
        .values(tenant_id=uow.tenant, vault_id=vault_id, chain=chain, sequence=sequence, opened_height=height)
        .on_conflict_do_nothing()
    )


async def raise_sequence(uow: UnitOfWork, vault_id: VaultId, sequence: int) -> None:
    """A transaction with this sequence is in a ledger. Does nothing for a vault that is no channel; it never goes down."""
    await uow.conn.execute(
        update(channels)
        .where(
            channels.c.tenant_id == uow.tenant,
            channels.c.vault_id == vault_id,
            channels.c.sequence < sequence,
        )
        .values(sequence=sequence)
    )


async def load_sequence(session: ReadSession, vault_id: VaultId) -> int | None:
    """Sequence number of the channel's last transaction, by our own ingestion; None for what is no open channel."""
    rows = await session.conn.execute(
        select(channels.c.sequence).where(
            channels.c.tenant_id == session.tenant, channels.c.vault_id == vault_id
        )
    )
    return rows.scalar_one_or_none()


async def load_open_channels(session: ReadSession, chain: ChainId) -> list[VaultId]:
    """Channels whose accounts are on chain."""
    rows = await session.conn.execute(
        select(channels.c.vault_id).where(channels.c.tenant_id == session.tenant, channels.c.chain == chain)
    )
    return [VaultId(found) for found in rows.scalars()]


async def find_idlest(session: ReadSession, chain: ChainId) -> VaultId | None:
    """The channel for which the fewest withdrawals wait; None when no channel is open."""
    waiting = (
        select(withdrawals.c.channel_id, func.count().label("number"))
        .where(
            withdrawals.c.tenant_id == session.tenant,
            withdrawals.c.channel_id.is_not(None),
            withdrawals.c.state.in_(_WAITING),
        )
        .group_by(withdrawals.c.channel_id)
        .subquery()
    )
    rows = await session.conn.execute(
        select(channels.c.vault_id)
        .outerjoin(waiting, waiting.c.channel_id == channels.c.vault_id)
        .where(channels.c.tenant_id == session.tenant, channels.c.chain == chain)
        .order_by(func.coalesce(waiting.c.number, 0), channels.c.vault_id)
        .limit(1)
    )
    found = rows.scalar_one_or_none()
    return None if found is None else VaultId(found)


async def load_refills(session: ReadSession, into_id: VaultId) -> list[tuple[str, bytes, datetime]]:
    """State, intent and last change of what was asked for to fill this vault, oldest first."""
    return await _load_moves(session, withdrawals.c.into_id == into_id)


async def load_refills_of(
    session: ReadSession, into_ids: Collection[VaultId], asset: AssetId, vault_id: VaultId | None
) -> list[tuple[str, bytes, datetime]]:
    """The same of one asset, into some vaults, and out of one of ours where it is named."""
    from_it = () if vault_id is None else (withdrawals.c.vault_id == vault_id,)
    return await _load_moves(
        session,
        withdrawals.c.kind == "refill",
        withdrawals.c.into_id.in_(list(into_ids)),
        withdrawals.c.asset == asset.text,
        *from_it,
    )


async def load_sweeps(
    session: ReadSession, vault_id: VaultId, asset: AssetId, kind: Literal["sweep", "change_trust"] = "sweep"
) -> list[tuple[str, bytes, datetime]]:
    """The same of the sweeps of a deposit address, or of the lines of a Stellar vault."""
    return await _load_moves(
        session,
        withdrawals.c.kind == kind,
        withdrawals.c.vault_id == vault_id,
        withdrawals.c.asset == asset.text,
    )


async def _load_moves(session: ReadSession, *those: ColumnElement[bool]) -> list[tuple[str, bytes, datetime]]:
    rows = await session.conn.execute(
        select(withdrawals.c.state, withdrawals.c.intent, withdrawals.c.changed_at)
        .where(withdrawals.c.tenant_id == session.tenant, *those)
        .order_by(withdrawals.c.sequence)
    )
    return [(row.state, row.intent, row.changed_at) for row in rows]


async def find_refills(
    session: ReadSession, chain: ChainId, tx_hashes: Collection[str]
) -> set[tuple[str, VaultId, AssetId, int]]:
    """Which of these transactions fill a vault of ours: hash, vault, asset and atomic units."""
    rows = await session.conn.execute(
        select(attempts.c.tx_hash, withdrawals.c.into_id, withdrawals.c.asset, withdrawals.c.amount)
        .join(
            withdrawals,
            (withdrawals.c.tenant_id == attempts.c.tenant_id)
            & (withdrawals.c.id == attempts.c.withdrawal_id),
        )
        .where(
            attempts.c.tenant_id == session.tenant,
            attempts.c.chain == chain,
            attempts.c.tx_hash.in_(list(tx_hashes)),
            withdrawals.c.into_id.is_not(None),
        )
    )
    return {(row.tx_hash, VaultId(row.into_id), parse_asset_id(row.asset), row.amount) for row in rows}


async def load_bumps(session: ReadSession, digest: bytes) -> list[tuple[WithdrawalId, int | None]]:
    """The fee bumps that were asked for around what this digest names, oldest first, each with the bid of its attempt."""
    rows = await session.conn.execute(
        select(withdrawals.c.id, attempts.c.fee_bid)
        .outerjoin(
            attempts,
            (attempts.c.tenant_id == withdrawals.c.tenant_id)
            & (attempts.c.withdrawal_id == withdrawals.c.id)
            & (attempts.c.state != "refused"),
        )
        .where(
            withdrawals.c.tenant_id == session.tenant,
            withdrawals.c.kind == "fee_bump",
            withdrawals.c.memo == digest.hex(),
        )
        .order_by(withdrawals.c.sequence)
    )
    return [(WithdrawalId(row.id), row.fee_bid) for row in rows]


async def find_by_digest(session: ReadSession, digest: bytes) -> WithdrawalId | None:
    """The withdrawal whose intent has this name."""
    rows = await session.conn.execute(
        select(withdrawals.c.id).where(
            withdrawals.c.tenant_id == session.tenant, withdrawals.c.digest == digest
        )
    )
    found = rows.scalar_one_or_none()
    return None if found is None else WithdrawalId(found)
