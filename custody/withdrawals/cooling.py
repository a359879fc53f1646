"""How long an approved withdrawal waits before a key is touched: by the tenant's rules, and by its own schedule.

The wait is what gives people time to see a payment that they did not mean, and to veto or cancel it. It begins with the quorum
and ends at `cool_until`, which is decided then and never changes. Nothing waits where no rule and no schedule says so.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import ceil

from custody.audit import service as audit
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.clock import Clock
from custody.kernel.ids import derived_uuid
from custody.kernel.money import AmountTooLarge
from custody.settings import Settings
from custody.signing.intent_fields import Source
from custody.withdrawals import cooling_store, store
from custody.withdrawals.cooling_model import ANY, CoolDownRule
from custody.withdrawals.drafts import CLOCK_SKEW_S, configured
from custody.withdrawals.errors import BadCoolDownRule, WindowTooShort
from custody.withdrawals.model import OUTSIDE, RequestWithdrawal, Withdrawal
from custody.withdrawals.moves import move

SECONDS_MAX = 31_536_000
"""A year."""
_NOTE_MAX = 500


async def set_rule(
    uow: UnitOfWork, actor: str, asset: str, *, amount_min: int, seconds: int, note: str = ""
) -> CoolDownRule:
    """Have payments of an asset (`*`: of any) wait this long, from this amount on; 0 seconds take the rule back.

    It holds for what is approved from now on. Set already, it stays as it is. Raises BadCoolDownRule, AmountTooLarge.
    """
    if not 0 <= seconds <= SECONDS_MAX or amount_min < 0 or len(note) > _NOTE_MAX:
        raise BadCoolDownRule(seconds=seconds)
    if asset == ANY and amount_min:
        raise BadCoolDownRule(asset=asset, amount_min=amount_min)
    if amount_min >= 2**256:
        raise AmountTooLarge(amount=amount_min)
    await uow.lock(f"cool-down/{uow.tenant}")
    for rule in await cooling_store.load_rules(uow):
        if (rule.asset, rule.amount_min, rule.seconds) == (asset, amount_min, seconds):
            return rule
    made = await cooling_store.insert_rule(
        uow, asset=asset, amount_min=amount_min, seconds=seconds, actor=actor, note=note
    )
    await audit.record(
        uow,
        actor,
        "cool_down.set",
        derived_uuid("cool_down", uow.tenant, asset, amount_min),
        {"asset": asset, "amount_min": str(amount_min), "seconds": seconds, "note": note},
    )
    return made


async def list_rules(session: ReadSession) -> list[CoolDownRule]:
    """The rules in force."""
    return [rule for rule in await cooling_store.load_rules(session) if rule.seconds]


async def schedule(
    uow: UnitOfWork, command: RequestWithdrawal, source: Source, settings: Settings, clock: Clock
) -> Source:
    """The source with a window that opens at the scheduled time, so that the signer keeps to it by itself.

    Raises WindowTooShort unless the window reaches past the schedule and the cool-down in force, with time left to send.
    """
    now = int(clock.now().timestamp())
    after = command.execute_after
    starts = now if after is None else max(now, ceil(after.timestamp()))
    waits_s = await cooling_store.load_cool_down_s(uow, command.asset, command.amount)
    room_s = configured(settings, command.asset).tx_valid_s if after is not None or waits_s else 0
    if max(starts, now + waits_s) + room_s > source.expires_at:
        raise WindowTooShort(closes_at=datetime.fromtimestamp(source.expires_at, UTC).isoformat())
    return source if starts == now else replace(source, not_before=starts - CLOCK_SKEW_S)


async def approve(uow: UnitOfWork, withdrawal: Withdrawal, *, actor: str, rule: str) -> Withdrawal:
    """The quorum is there: approved, and cooling down at once where a rule or a schedule says so."""
    approved = await move(uow, withdrawal, "approve", actor=actor, detail={"rule": rule})
    if approved.kind not in OUTSIDE or approved.approved_at is None:
        return approved
    waits_s = await cooling_store.load_cool_down_s(uow, approved.asset, approved.amount)
    until = approved.approved_at + timedelta(seconds=waits_s)
    if approved.execute_after is not None:
        until = max(until, approved.execute_after)
    left = until - approved.approved_at
    if left <= timedelta(0):
        return approved
    return await move(
        uow,
        approved,
        "cool",
        actor=actor,
        detail={"until": until.isoformat()},
        look_in_s=ceil(left.total_seconds()),
        cool_until=until,
    )


async def has_cooled(uow: UnitOfWork, seen: Withdrawal) -> bool:
    """Whether the wait is over; if not, a worker looks again when it is."""
    left_s = await cooling_store.load_left_s(uow, seen)
    if left_s > 0:
        await store.look_again(uow, seen, left_s)
    return left_s <= 0
