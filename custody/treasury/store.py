"""SQL of rules, levels and what lies at deposit addresses."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select
from sqlalchemy.dialects.postgresql import insert as upsert

from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import AssetId, ChainId, parse_asset_id
from custody.kernel.ids import VaultId
from custody.treasury.model import Holding, SweepRule, Target, Total, Verdict
from custody.treasury.tables import holdings, sweep_rules, targets


async def write_rule(uow: UnitOfWork, rule: SweepRule, set_by: str) -> None:
    """Write the rule of an asset, or another in its place."""
    values = {
        "threshold": rule.threshold,
        "dust": rule.dust,
        "max_age_s": rule.max_age_s,
        "fee_max": rule.fee_max,
        "fee_share_max_bp": rule.fee_share_max_bp,
        "enabled": rule.enabled,
        "set_by": set_by,
        "set_at": func.clock_timestamp(),
    }
    await uow.conn.execute(
        upsert(sweep_rules)
        .values(tenant_id=uow.tenant, asset=rule.asset.text, chain=rule.asset.chain, **values)
        .on_conflict_do_update(index_elements=["tenant_id", "asset"], set_=values)
    )


async def load_rules(session: ReadSession) -> list[SweepRule]:
    """The tenant's rules, by asset."""
    rows = await session.conn.execute(
        select(sweep_rules).where(sweep_rules.c.tenant_id == session.tenant).order_by(sweep_rules.c.asset)
    )
    return [
        SweepRule(
            asset=parse_asset_id(row.asset),
            threshold=row.threshold,
            dust=row.dust,
            max_age_s=row.max_age_s,
            fee_max=row.fee_max,
            fee_share_max_bp=row.fee_share_max_bp,
            enabled=row.enabled,
        )
        for row in rows
    ]


async def write_target(uow: UnitOfWork, target: Target, set_by: str) -> None:
    """Write the levels of a purpose and an asset, or others in their place."""
    values = {
        "low": target.low,
        "target": target.target,
        "high": target.high,
        "enabled": target.enabled,
        "set_by": set_by,
        "set_at": func.clock_timestamp(),
    }
    await uow.conn.execute(
        upsert(targets)
        .values(
            tenant_id=uow.tenant,
            purpose=target.purpose,
            asset=target.asset.text,
            chain=target.asset.chain,
            **values,
        )
        .on_conflict_do_update(index_elements=["tenant_id", "purpose", "asset"], set_=values)
    )


async def load_targets(session: ReadSession) -> list[Target]:
    """The tenant's levels, by purpose and asset."""
    rows = await session.conn.execute(
        select(targets)
        .where(targets.c.tenant_id == session.tenant)
        .order_by(targets.c.purpose, targets.c.asset)
    )
    return [
        Target(
            purpose=row.purpose,
            asset=parse_asset_id(row.asset),
            low=row.low,
            target=row.target,
            high=row.high,
            enabled=row.enabled,
        )
        for row in rows
    ]


async def write_holding(uow: UnitOfWork, found: Holding, now: datetime) -> None:
    """Write what was found at an address, in place of what was found before."""
    values = {
        "amount": found.amount,
        "verdict": found.verdict.value,
        "detail": found.detail,
        "since": found.since,
        "changed_at": now,
    }
    await uow.conn.execute(
        upsert(holdings)
        .values(
            tenant_id=uow.tenant,
            vault_id=found.vault_id,
            asset=found.asset.text,
            chain=found.asset.chain,
            **values,
        )
        .on_conflict_do_update(index_elements=["tenant_id", "vault_id", "asset"], set_=values)
    )


async def load_holdings(
    session: ReadSession, vault_ids: Collection[VaultId]
) -> dict[tuple[VaultId, AssetId], Holding]:
    """What was found at these addresses."""
    rows = await session.conn.execute(
        select(holdings).where(
            holdings.c.tenant_id == session.tenant, holdings.c.vault_id.in_(list(vault_ids))
        )
    )
    found = [_holding(row) for row in rows]
    return {(each.vault_id, each.asset): each for each in found}


async def load_not_empty(session: ReadSession, chain: ChainId) -> list[Holding]:
    """Everything on a chain where something was found."""
    rows = await session.conn.execute(
        select(holdings).where(
            holdings.c.tenant_id == session.tenant,
            holdings.c.chain == chain,
            holdings.c.verdict != Verdict.EMPTY.value,
        )
    )
    return [_holding(row) for row in rows]


async def load_page(
    session: ReadSession, asset: AssetId, verdict: Verdict, after: UUID, limit: int
) -> list[Holding]:
    """Holdings of an asset under one verdict, by vault, after one of them."""
    rows = await session.conn.execute(
        select(holdings)
        .where(
            holdings.c.tenant_id == session.tenant,
            holdings.c.asset == asset.text,
            holdings.c.verdict == verdict.value,
            holdings.c.vault_id > after,
        )
        .order_by(holdings.c.vault_id)
        .limit(limit)
    )
    return [_holding(row) for row in rows]


async def load_totals(session: ReadSession) -> list[Total]:
    """What lies at deposit addresses, by asset and verdict."""
    rows = await session.conn.execute(
        select(
            holdings.c.asset,
            holdings.c.verdict,
            func.count().label("addresses"),
            func.sum(holdings.c.amount).label("amount"),
        )
        .where(holdings.c.tenant_id == session.tenant, holdings.c.verdict != Verdict.EMPTY.value)
        .group_by(holdings.c.asset, holdings.c.verdict)
        .order_by(holdings.c.asset, holdings.c.verdict)
    )
    return [
        Total(
            asset=parse_asset_id(row.asset),
            verdict=Verdict(row.verdict),
            addresses=row.addresses,
            amount=int(row.amount),
        )
        for row in rows
    ]


def _holding(row: Row[Any]) -> Holding:
    return Holding(
        vault_id=VaultId(row.vault_id),
        asset=parse_asset_id(row.asset),
        amount=row.amount,
        verdict=Verdict(row.verdict),
        detail=row.detail,
        since=row.since,
    )
