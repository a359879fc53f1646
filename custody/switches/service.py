"""Kill switches: one operator stops a chain, an asset, a vault, a customer or a rail at once; two let it go on.

Whoever is about to let money leave asks `refuse_stopped` or `find_stopped` in the transaction that does it. They hold the
tenant's lock shared until that transaction ends, and `stop` takes it alone: so when a stop has been committed, everything that
was decided before it is committed too, and whatever comes after sees it. There is no moment between. Ask late in the transaction,
so that the lock is held briefly.

Whoever has money posted in another transaction than its own looks with `look`, and hands the look's mark to the poster, which
asks in the transaction that posts whether anything has been stopped since.

What comes in (deposits, receipts) and what chain or bank has already taken are facts and are booked all the same.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from custody.assets import service as assets
from custody.audit import service as audit
from custody.banking import service as banking
from custody.db.session import ReadSession, UnitOfWork, lock_key
from custody.events import outbox
from custody.identity.model import Principal
from custody.kernel.assetid import parse_asset_id
from custody.kernel.errors import InvalidInput, NotFound
from custody.kernel.ids import CustomerId, VaultId
from custody.ledger.channel import StopMark
from custody.switches import store
from custody.switches.errors import (
    NeedsSecondPerson,
    NothingToStop,
    NotProposed,
    StoppedBySwitch,
    SwitchExistsDifferent,
    UnknownSwitch,
)
from custody.switches.model import Place, Scope, Switch, parse_reason
from custody.wallets import service as wallets


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was stopped when somebody looked."""

    stopped: Mapping[Place, Switch]
    """Every place where something stood, and what."""
    mark: StopMark
    """For the poster."""


async def refuse_stopped(uow: UnitOfWork, places: Collection[Place]) -> None:
    """Let a new request pass only where nothing is stopped. Raises StoppedBySwitch. Holds the switches' lock, shared."""
    found = await find_stopped(uow, places)
    if found is not None:
        raise stopped_by(found)


def stopped_by(switch: Switch) -> StoppedBySwitch:
    """What is answered to whoever meets this switch."""
    return StoppedBySwitch(
        scope=switch.place.scope.value, subject=switch.place.subject, switch=str(switch.id)
    )


async def find_stopped(uow: UnitOfWork, places: Collection[Place]) -> Switch | None:
    """The switch that stops one of these places; None when none does, and none will before this transaction ends."""
    await uow.lock_shared(_lock(uow))
    return await store.load_standing_at(uow, places)


async def list_stopped(uow: UnitOfWork) -> list[Switch]:
    """All that is stopped; nothing more will be before this transaction ends."""
    await uow.lock_shared(_lock(uow))
    return await store.load_standing(uow)


async def look(session: ReadSession) -> Look:
    """All that is stopped now. Holds nobody up: what is stopped a moment later, the poster meets."""
    newest = await store.load_newest(session)
    standing = await store.load_standing(session)
    return Look(
        stopped={switch.place: switch for switch in standing},
        mark=StopMark(lock=lock_key(_lock(session)), newest=newest),
    )


async def stop(uow: UnitOfWork, principal: Principal, switch_id: UUID, place: Place, reason: str) -> Switch:
    """Stop something, from this transaction's commit on. Idempotent by id.

    Raises NothingToStop, BadSwitchReason, SwitchExistsDifferent. Waits for whoever is just letting something pass.
    """
    parse_reason(reason)
    await _check_place(uow, place)
    await uow.lock(_lock(uow))
    if not await store.insert_stop(uow, switch_id, place, reason, principal.subject):
        known = await get(uow, switch_id)
        if (known.place, known.reason) != (place, reason):
            raise SwitchExistsDifferent(switch=str(switch_id))
        return known
    made = await get(uow, switch_id)
    await _tell(uow, made, "stopped", principal, reason)
    return made


async def propose_resume(uow: UnitOfWork, principal: Principal, switch_id: UUID, reason: str) -> Switch:
    """Propose that what was stopped goes on; nothing changes until somebody else confirms. Proposed once, by whoever is first.

    Raises UnknownSwitch, BadSwitchReason.
    """
    parse_reason(reason)
    await uow.lock(_lock(uow))
    found = await get(uow, switch_id)
    if found.proposed_by is not None:
        return found
    await store.insert_step(uow, switch_id, store.PROPOSE, reason, principal.subject)
    proposed = await get(uow, switch_id)
    await _tell(uow, proposed, "resume_proposed", principal, reason)
    return proposed


async def confirm_resume(uow: UnitOfWork, principal: Principal, switch_id: UUID, reason: str) -> Switch:
    """Let it go on, as another person has proposed. Confirming again changes nothing.

    Raises UnknownSwitch, BadSwitchReason, NotProposed, NeedsSecondPerson.
    """
    parse_reason(reason)
    await uow.lock(_lock(uow))
    found = await get(uow, switch_id)
    if found.resumed_by is not None:
        return found
    if found.proposed_by is None:
        raise NotProposed(switch=str(switch_id))
    if found.proposed_by == principal.subject:
        raise NeedsSecondPerson(proposed_by=found.proposed_by)
    await store.insert_step(uow, switch_id, store.CONFIRM, reason, principal.subject)
    resumed = await get(uow, switch_id)
    await _tell(uow, resumed, "resumed", principal, reason)
    return resumed


async def get(session: ReadSession, switch_id: UUID) -> Switch:
    """One switch. Raises UnknownSwitch."""
    found = await store.load_switch(session, switch_id)
    if found is None:
        raise UnknownSwitch(switch=str(switch_id))
    return found


async def list_standing(session: ReadSession) -> list[Switch]:
    """What is stopped now, newest first."""
    return await store.load_standing(session)


async def list_switches(
    session: ReadSession, *, standing: bool = False, before: UUID | None = None, limit: int = 100
) -> list[Switch]:
    """A page of all switches, or of those that stand, newest first; `before` is the last of the page before."""
    return await store.load_page(session, standing=standing, before=before, limit=limit)


async def count_standing(session: ReadSession) -> dict[Scope, int]:
    """How many stand, by what they stop."""
    return await store.count_standing(session)


def _lock(session: ReadSession) -> str:
    return f"switches/{session.tenant}"


async def _check_place(uow: UnitOfWork, place: Place) -> None:
    try:
        known = await _exists(uow, place)
    except (NotFound, InvalidInput, ValueError):
        known = False
    if not known:
        raise NothingToStop(scope=place.scope.value, subject=place.subject)


async def _exists(uow: UnitOfWork, place: Place) -> bool:
    match place.scope:
        case Scope.CHAIN:
            return any(each.id.chain == place.subject for each in await assets.list_assets(uow))
        case Scope.ASSET:
            return (await assets.get(uow, parse_asset_id(place.subject))).id.text == place.subject
        case Scope.VAULT:
            return str((await wallets.get_vault(uow, VaultId(UUID(place.subject)))).id) == place.subject
        case Scope.CUSTOMER:
            found = await wallets.get_customer(uow, CustomerId(UUID(place.subject)))
            return str(found.id) == place.subject
        case Scope.RAIL:
            return any(each.rail == place.subject for each in await banking.list_bank_accounts(uow))


async def _tell(uow: UnitOfWork, switch: Switch, fact: str, principal: Principal, reason: str) -> None:
    told: dict[str, object] = {
        "scope": switch.place.scope.value,
        "subject": switch.place.subject,
        "state": switch.state,
        "reason": reason,
        "by": principal.subject,
    }
    await outbox.emit(uow, f"switch.{fact}", switch.id, told)
    await audit.record(uow, principal.subject, f"switch.{fact}", switch.id, told)
