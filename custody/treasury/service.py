"""Set and read the rules of sweeping and the levels of vaults; read what lies at deposit addresses and why."""

from __future__ import annotations

from uuid import UUID

from custody.assets import service as assets
from custody.audit import service as audit
from custody.chains.address import EVM, namespace
from custody.db.session import ReadSession, UnitOfWork
from custody.events import outbox
from custody.kernel.assetid import AssetId
from custody.kernel.ids import derived_uuid
from custody.kernel.money import MAX_ATOMIC
from custody.ledger import history
from custody.ledger.model import AccountKind
from custody.treasury import store
from custody.treasury.errors import BadSweepRule, BadTarget
from custody.treasury.model import (
    COLD,
    GAS,
    LEVELLED,
    OMNIBUS,
    WARM,
    Holding,
    Standing,
    SweepRule,
    Target,
    Total,
    Verdict,
)
from custody.wallets import service as wallets

_AGE_MAX_S = 10 * 365 * 24 * 3600
_NONE = UUID(int=0)


async def set_rule(uow: UnitOfWork, actor: str, rule: SweepRule) -> SweepRule:
    """When the tenant's deposit addresses are swept of an asset from now on. The same again changes nothing.

    Raises UnknownAsset, BadSweepRule.
    """
    await assets.get(uow, rule.asset)
    if namespace(rule.asset.chain) != EVM:
        raise BadSweepRule("deposit addresses of their own are on EVM chains only", asset=rule.asset.text)
    amounts = (rule.dust, rule.threshold, rule.fee_max)
    in_order = 0 <= rule.dust <= rule.threshold and rule.fee_max > 0 and max(amounts) <= MAX_ATOMIC
    age = rule.max_age_s is None or 1 <= rule.max_age_s <= _AGE_MAX_S
    share = rule.fee_share_max_bp is None or (rule.asset.is_native and 1 <= rule.fee_share_max_bp <= 10_000)
    if not in_order or not age or not share:
        raise BadSweepRule(asset=rule.asset.text)
    await uow.lock(f"treasury_rule/{uow.tenant}/{rule.asset.text}")
    if rule in await store.load_rules(uow):
        return rule
    await store.write_rule(uow, rule, actor)
    told = {
        "asset": rule.asset.text,
        "threshold": str(rule.threshold),
        "dust": str(rule.dust),
        "max_age_s": rule.max_age_s,
        "fee_max": str(rule.fee_max),
        "fee_share_max_bp": rule.fee_share_max_bp,
        "enabled": rule.enabled,
    }
    named = derived_uuid("sweep_rule", rule.asset.text)
    await outbox.emit(uow, "sweep_rule.set", named, told)
    await audit.record(uow, actor, "sweep_rule.set", named, told)
    return rule


async def list_rules(session: ReadSession) -> list[SweepRule]:
    """The tenant's rules of sweeping; an asset without one is left where it is."""
    return await store.load_rules(session)


async def set_target(uow: UnitOfWork, actor: str, target: Target) -> Target:
    """Between which amounts of an asset the vaults of a purpose stay from now on. The same again changes nothing.

    Raises UnknownAsset, BadTarget.
    """
    await assets.get(uow, target.asset)
    pays_gas = target.purpose != GAS or (target.asset.is_native and namespace(target.asset.chain) == EVM)
    in_order = 0 <= target.low <= target.target <= target.high <= MAX_ATOMIC and target.high > 0
    if target.purpose not in LEVELLED or not pays_gas or not in_order or target.asset.contract is not None:
        raise BadTarget(purpose=target.purpose[:40], asset=target.asset.text)
    await uow.lock(f"treasury_target/{uow.tenant}/{target.purpose}/{target.asset.text}")
    if target in await store.load_targets(uow):
        return target
    await store.write_target(uow, target, actor)
    told = {
        "purpose": target.purpose,
        "asset": target.asset.text,
        "low": str(target.low),
        "target": str(target.target),
        "high": str(target.high),
        "enabled": target.enabled,
    }
    named = derived_uuid("vault_target", target.purpose, target.asset.text)
    await outbox.emit(uow, "vault_target.set", named, told)
    await audit.record(uow, actor, "vault_target.set", named, told)
    return target


async def list_targets(session: ReadSession) -> list[Target]:
    """The tenant's levels of vaults."""
    return await store.load_targets(session)


async def standings(session: ReadSession) -> list[Standing]:
    """What lies in each vault that is hot, warm, cold or for gas: every asset that it has, or has levels for."""
    levels = {(each.purpose, each.asset): each for each in await store.load_targets(session) if each.enabled}
    found = [
        vault for vault in await wallets.list_vaults(session) if vault.purpose in (OMNIBUS, WARM, COLD, GAS)
    ]
    booked = {
        (each.key.owner, each.key.asset): each
        for each in await history.balances_of(session, AccountKind.VAULT, [vault.id for vault in found])
    }
    shown = []
    for vault in found:
        wanted = {
            asset for purpose, asset in levels if purpose == vault.purpose and asset.chain == vault.chain
        }
        wanted |= {asset for owner, asset in booked if owner == vault.id}
        for asset in sorted(wanted):
            balance = booked.get((vault.id, asset))
            shown.append(
                Standing(
                    vault=vault,
                    asset=asset,
                    posted=0 if balance is None else balance.posted,
                    available=0 if balance is None else balance.available,
                    target=levels.get((vault.purpose, asset)),
                )
            )
    return shown


async def totals(session: ReadSession) -> list[Total]:
    """What lies at deposit addresses, by asset and by what the rules say of it, as the worker saw it last."""
    return await store.load_totals(session)


async def list_holdings(
    session: ReadSession, asset: AssetId, verdict: Verdict, after: UUID | None = None, limit: int = 50
) -> list[Holding]:
    """Addresses where an asset lies under one verdict, `dust` for instance; by vault, after one of them."""
    return await store.load_page(session, asset, verdict, after or _NONE, limit)
