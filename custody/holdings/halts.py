"""A chain that was reorganised deeper than finality: nothing of it is credited or confirmed until a person has looked.

Ingestion opens a halt where it finds one, and books nothing more. A person decides that the other branch is the chain (`follow`:
ingestion goes back to the fork and the books with it, by mirror postings), or that ours is (`keep`). All of it is in every
tenant's audit log. Nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from custody.audit import service as audit
from custody.db.session import ReadSession, UnitOfWork
from custody.events import outbox
from custody.holdings import halt_store, sending
from custody.holdings.errors import HaltDecided, UnknownHalt
from custody.holdings.model import ChainHalt, Fork
from custody.holdings.service import ACTOR
from custody.holdings.transitions import CHAIN_HALTS
from custody.kernel.assetid import ChainId
from custody.kernel.ids import TenantId, new_uuid

FOLLOWING = CHAIN_HALTS.target_of("follow")
"""The state in which ingestion may go back below what was final."""
_FACTS = {
    "open": "halted",
    "follow": "follow_decided",
    "keep": "kept",
    "resume": "resumed",
    "return": "returned",
    "refuse": "halted",
}
"""What is told of an event."""


async def open_halt(uow: UnitOfWork, tenants: Sequence[TenantId], fork: Fork, trouble: str = "") -> ChainHalt:
    """The chain has left our record at a block below what was final. Tells every tenant. `trouble`: what else is wrong.

    Waits for whoever is just letting something be sent there; from its commit on nothing new is (`sending`)."""
    await sending.lock_sending(uow, fork.chain)
    halt = await halt_store.insert_halt(uow, new_uuid(), fork, trouble)
    await _tell(uow, tenants, halt, ACTOR, "open")
    return halt


async def decide(
    uow: UnitOfWork,
    tenants: Sequence[TenantId],
    actor: str,
    halt_id: UUID,
    *,
    follow: bool,
    marks_spent: bool = False,
    note: str = "",
) -> ChainHalt:
    """What a person has decided. Raises UnknownHalt, HaltDecided. The same decision again changes nothing."""
    event = "follow" if follow else "keep"
    halt = await halt_store.lock_halt(uow, halt_id)
    if halt is None:
        raise UnknownHalt
    if (halt.state, halt.marks_spent) == (CHAIN_HALTS.target_of(event), marks_spent):
        return halt
    if halt.state not in CHAIN_HALTS.sources(event):
        raise HaltDecided(state=halt.state)
    halt = await halt_store.change_halt(
        uow, halt_id, event, decided_by=actor, note=note, marks_spent=marks_spent, trouble=""
    )
    await _tell(uow, tenants, halt, actor, event)
    return halt


async def resume(uow: UnitOfWork, tenants: Sequence[TenantId], halt: ChainHalt) -> None:
    """Cursor and books have gone back to the fork, in the same transaction."""
    await _tell(uow, tenants, await halt_store.change_halt(uow, halt.id, "resume"), ACTOR, "resume")


async def end_returned(uow: UnitOfWork, tenants: Sequence[TenantId], halt: ChainHalt) -> None:
    """The node's chain is ours again before anything was taken back."""
    await _tell(uow, tenants, await halt_store.change_halt(uow, halt.id, "return"), ACTOR, "return")


async def refuse(
    uow: UnitOfWork, tenants: Sequence[TenantId], halt: ChainHalt, fork: Fork, trouble: str
) -> None:
    """The decision cannot be carried out: a person looks again. `fork`: where the chain leaves our record now."""
    values = {**halt_store.columns_of(fork), "trouble": trouble}
    await _tell(uow, tenants, await halt_store.change_halt(uow, halt.id, "refuse", **values), ACTOR, "refuse")


async def find_open(session: ReadSession, chain: ChainId) -> ChainHalt | None:
    """The chain's halt that has not ended; None while it runs."""
    return await halt_store.load_open(session, chain)


async def list_halts(session: ReadSession, chain: ChainId, *, limit: int = 100) -> list[ChainHalt]:
    """A chain's halts, newest first."""
    return await halt_store.load_halts(session, chain, limit)


async def _tell(
    uow: UnitOfWork, tenants: Sequence[TenantId], halt: ChainHalt, actor: str, event: str
) -> None:
    """The event for outsiders and the entry for examiners, for each tenant."""
    told = {
        "chain": str(halt.fork.chain),
        "fork_height": halt.fork.fork_height,
        "our_height": halt.fork.our_height,
        "final_height": halt.fork.final_height,
        "marks_spent": halt.marks_spent,
        "note": halt.note,
        "trouble": halt.trouble,
    }
    for tenant in tenants:
        await uow.act_for(tenant)
        await outbox.emit(uow, f"chain.{_FACTS[event]}", halt.id, told)
        await audit.record(uow, actor, f"chain.{_FACTS[event]}", halt.id, told)
