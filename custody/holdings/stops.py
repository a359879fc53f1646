"""What a break stops: payments of the asset from the vault whose books differ, while they differ by more than a tenant lets pass.

Nobody has to set anything: without a rule for an asset every open break stops its payments. A rule says how many atomic units may
be missing or too many; it is a row, versioned by appending, with an audit entry.
"""

from __future__ import annotations

from custody.assets import service as assets
from custody.audit import service as audit
from custody.db.session import ReadSession, UnitOfWork
from custody.events import outbox
from custody.holdings import stop_store, store
from custody.holdings.compare import exceeds
from custody.holdings.errors import ThresholdNegative
from custody.holdings.stop_model import Stop, StopRule
from custody.kernel.assetid import AssetId
from custody.kernel.ids import derived_uuid


async def lock_payments(uow: UnitOfWork, key: store.Key) -> None:
    """Wait until nobody is between asking for a stop and reserving, and let nobody ask until the transaction ends. Before a break
    of this holding is written or grows."""
    await uow.lock(_name(uow, key))


async def find_stop(session: ReadSession, key: store.Key) -> Stop | None:
    """The break that stops payments of this holding; None where none does."""
    stop = await stop_store.load_stop(session, key)
    return stop if stop is not None and exceeds(stop.difference, stop.threshold) else None


async def demand(uow: UnitOfWork, key: store.Key) -> Stop | None:
    """The same for whoever reserves a payment in this transaction: until it ends, no break can come between."""
    await uow.lock_shared(_name(uow, key))
    return await find_stop(uow, key)


async def set_threshold(
    uow: UnitOfWork, actor: str, asset: AssetId, threshold: int, note: str = ""
) -> StopRule:
    """From now on so many atomic units of this asset may differ before payments of it wait. The same again changes nothing.

    Raises UnknownAsset, ThresholdNegative. Locks the tenant's rules of the asset.
    """
    if threshold < 0:
        raise ThresholdNegative(threshold=str(threshold))
    await assets.get(uow, asset)
    await uow.lock(f"holding_stop_rule/{uow.tenant}/{asset.text}")
    last = await stop_store.load_rule(uow, asset)
    if last is not None and last.threshold == threshold:
        return last
    rule = StopRule(
        asset=asset,
        version=1 if last is None else last.version + 1,
        threshold=threshold,
        set_by=actor,
        note=note,
    )
    await stop_store.insert_rule(uow, rule)
    told: dict[str, object] = {
        "asset": asset.text,
        "version": rule.version,
        "threshold": str(threshold),
        "note": note,
    }
    named = derived_uuid("holding_stop_rule", uow.tenant, asset.text)
    await outbox.emit(uow, "stop_rule.set", named, told)
    await audit.record(uow, actor, "stop_rule.set", named, told)
    return rule


async def list_rules(session: ReadSession) -> list[StopRule]:
    """The rules in force, by asset. An asset without one has the threshold 0."""
    return await stop_store.load_rules(session)


def _name(session: ReadSession, key: store.Key) -> str:
    return f"holding/{session.tenant}/{key[0]}/{key[1].text}"
