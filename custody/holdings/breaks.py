"""A break from the height that shows it to the one at which books and chain are equal: row, event and audit entry, together.

Whoever pays from the holding looks for a break under the lock that is taken here (`stops`): nothing is reserved from a vault
after a break of it is there.
"""

from __future__ import annotations

from custody.audit import service as audit
from custody.db.session import UnitOfWork
from custody.events import outbox
from custody.holdings import break_store, compare_store, stops, store
from custody.holdings.model import Comparison, Difference, DueHolding, HoldingBreak
from custody.kernel.assetid import ChainId
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import derived_uuid


async def open_break(
    uow: UnitOfWork, actor: str, chain: ChainId, due: DueHolding, compared: Comparison
) -> None:
    """Books and chain differ from this height on."""
    key = (due.vault_id, due.asset)
    await stops.lock_payments(uow, key)
    found = await compare_store.find_first_differing(
        uow, key, height_after=-1 if due.last is None else due.last.height, height=compared.height
    )
    first = found or (compared.state_height, None)
    names = ("holding_break", uow.tenant, due.vault_id, due.asset.text, compared.height)
    branch = await store.load_branch(uow, chain)
    again = await break_store.count_at(uow, key, compared.height)
    # A height that a reorganisation brings again, or that is compared again, may have a break of its own.
    marks = (branch, again) if again else (branch,) if branch else ()
    break_id = derived_uuid(*names, *marks)
    await break_store.insert_break(uow, break_id, chain, compared, first)
    told = {**_told(chain, compared), "first_height": first[0], **_first(first[1])}
    await outbox.emit(uow, "holding.break_opened", break_id, told)
    await audit.record(uow, actor, "holding.break_opened", break_id, told)


async def follow_break(uow: UnitOfWork, actor: str, known: HoldingBreak | None, compared: Comparison) -> None:
    """They differ still, maybe by another amount: that is what stops payments from now on."""
    known = _given(known, compared)
    if known.difference == compared.difference:
        return
    await stops.lock_payments(uow, (compared.vault_id, compared.asset))
    await break_store.change_difference(uow, known.id, compared.difference)
    told = {**_told(known.chain, compared), "before": str(known.difference)}
    await outbox.emit(uow, "holding.break_changed", known.id, told)
    await audit.record(uow, actor, "holding.break_changed", known.id, told)


async def close_break(uow: UnitOfWork, actor: str, known: HoldingBreak | None, compared: Comparison) -> None:
    """They are equal again."""
    known = _given(known, compared)
    await break_store.close_break(uow, known.id, compared.height)
    told = _told(known.chain, compared)
    await outbox.emit(uow, "holding.break_closed", known.id, told)
    await audit.record(uow, actor, "holding.break_closed", known.id, told)


def _given(known: HoldingBreak | None, compared: Comparison) -> HoldingBreak:
    if known is None:
        raise InvariantViolated("there is no such break", vault=compared.vault_id)
    return known


def _first(found: Difference | None) -> dict[str, object]:
    return {
        "first_tx": None if found is None else found.tx_hash,
        "first_movement": None if found is None else found.movement,
        "first_on_chain": None if found is None else str(found.chain),
        "first_in_books": None if found is None else str(found.books),
    }


def _told(chain: ChainId, compared: Comparison) -> dict[str, object]:
    return {
        "chain": str(chain),
        "vault_id": str(compared.vault_id),
        "asset": compared.asset.text,
        "height": compared.height,
        "books": str(compared.books),
        "opening": str(compared.opening),
        "on_chain": str(compared.chain),
        "difference": str(compared.difference),
    }
