"""Kill switches: what operators have stopped."""

from __future__ import annotations

from datetime import datetime

import strawberry

from custody.kernel.ids import show_id
from custody.switches import model


@strawberry.type
class Switch:
    """Something that was stopped. `state`: `stopped`, `resume_proposed` (still stopped) or `resumed`, by another person."""

    id: strawberry.ID
    scope: str
    subject: str
    state: str
    reason: str
    stopped_by: str
    stopped_at: datetime
    proposed_by: str | None
    resumed_by: str | None
    resumed_at: datetime | None


def show_switch(found: model.Switch) -> Switch:
    """One switch."""
    return Switch(
        id=strawberry.ID(show_id("swi", found.id)),
        scope=found.place.scope.value,
        subject=found.place.shown,
        state=found.state,
        reason=found.reason,
        stopped_by=found.stopped_by,
        stopped_at=found.stopped_at,
        proposed_by=found.proposed_by,
        resumed_by=found.resumed_by,
        resumed_at=found.resumed_at,
    )
