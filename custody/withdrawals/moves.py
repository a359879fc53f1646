"""One state change of a withdrawal: the guarded row, the event for whoever waits, and the entry for examiners, together."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import func

from custody.audit import service as audit
from custody.db.session import UnitOfWork
from custody.events import outbox
from custody.withdrawals import fees, store
from custody.withdrawals.model import Withdrawal

WORKER = "worker"
"""Actor of what execution does."""
INGESTION = "ingestion"
"""Actor of what the chain showed."""

_WORK_FOLLOWS = frozenset({"screen", "approve", "reserve", "sign", "orphan", "reject"})
"""Events after which a worker has something to do at once: ask, reserve, sign, send, send again, tell the signer of a veto."""
_FREES_THE_SENDER = frozenset({"refuse", "include", "lapse", "settle", "fail"})
"""Events after which the next withdrawal of the vault or channel may have its turn."""


async def move(
    uow: UnitOfWork,
    withdrawal: Withdrawal,
    event: str,
    *,
    actor: str,
    reason: str = "",
    detail: Mapping[str, object] | None = None,
    look_in_s: int | None = None,
    network_cost: int = 0,
    **facts: Any,
) -> Withdrawal:
    """Make one legal move. `look_in_s` for a worker that is needed later; `network_cost`: what the chain took for one that
    settles; `facts` are columns that are known with the move.

    Raises IllegalTransition when somebody else was quicker.
    """
    values: dict[str, Any] = {"reason": reason, **fees.ended(withdrawal, event, network_cost), **facts}
    if event == "approve":
        values["approved_at"] = func.clock_timestamp()
    if event in _WORK_FOLLOWS:
        look_in_s = 0
    moved = await store.change_state(uow, withdrawal, event, look_in_s=look_in_s, **values)
    if event in _FREES_THE_SENDER:
        await store.make_first_in_line_due(uow, moved.sender_id)
    await outbox.emit(uow, f"withdrawal.{moved.state}", moved.id, snapshot(moved))
    await audit.record(
        uow,
        actor,
        f"withdrawal.{event}",
        moved.id,
        {"state": moved.state, "reason": reason, **(detail or {})},
    )
    return moved


async def announce(uow: UnitOfWork, new: Withdrawal, actor: str) -> None:
    """Tell of a new withdrawal."""
    await outbox.emit(uow, "withdrawal.requested", new.id, snapshot(new))
    await audit.record(
        uow, actor, "withdrawal.request", new.id, {"state": new.state, "digest": new.digest.hex()}
    )


def snapshot(withdrawal: Withdrawal) -> dict[str, object]:
    """The whole withdrawal in JSON values, as events carry it."""
    return {
        "id": str(withdrawal.id),
        "kind": withdrawal.kind,
        "state": withdrawal.state,
        "wallet_id": None if withdrawal.wallet_id is None else str(withdrawal.wallet_id),
        "vault_id": str(withdrawal.vault_id),
        "channel_id": None if withdrawal.channel_id is None else str(withdrawal.channel_id),
        "asset": withdrawal.asset.text,
        "destination": withdrawal.destination,
        "memo_type": withdrawal.memo.type,
        "memo": withdrawal.memo.value,
        "amount": str(withdrawal.amount),
        "digest": withdrawal.digest.hex(),
        "fee_kind": None if withdrawal.fee is None else withdrawal.fee.kind,
        "fee_held": None if withdrawal.fee is None else str(withdrawal.fee.held),
        "fee_charged": _text(None if withdrawal.fee is None else withdrawal.fee.charged),
        "quote_id": _text(None if withdrawal.fee is None else withdrawal.fee.quote_id),
        "reason": withdrawal.reason,
        "expires_at": withdrawal.expires_at.isoformat(),
        "execute_after": _iso(withdrawal.execute_after),
        "cool_until": _iso(withdrawal.cool_until),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _text(value: object) -> str | None:
    return None if value is None else str(value)
