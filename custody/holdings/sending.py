"""Whether anything new may be sent on a chain: only while our own ingestion can see what becomes of it.

Three things hold it back, for every tenant: the chain is halted (`halts`), its worker has ended for a broken invariant (providers
contradict each other, a proof failed), or nobody has followed it to its tip for longer than the settings allow. Whoever is about
to sign or send asks `demand` in the transaction that lets it pass, and holds the chain's lock shared until that ends; whoever
opens a halt or tells of a broken invariant takes it alone. So nothing is let pass after either has been committed. Time needs no
lock. Nobody resumes anything here: it goes on by itself when the halt has ended and ingestion is at the tip again.
"""

from __future__ import annotations

from custody.db.session import ReadSession, UnitOfWork
from custody.holdings import sending_store
from custody.holdings.stop_model import HALTED, NOT_FOLLOWED, ChainStop
from custody.kernel.assetid import ChainId


async def demand(uow: UnitOfWork, chain: ChainId, blind_after_s: int) -> ChainStop | None:
    """What holds back whoever is to sign or send. When None, no halt will come before this transaction ends."""
    await uow.lock_shared(_name(chain))
    return await find_stop(uow, chain, blind_after_s)


async def find_stop(session: ReadSession, chain: ChainId, blind_after_s: int) -> ChainStop | None:
    """The same for who only looks. `blind_after_s`: seconds away from the tip that are let pass; 0 for any number.

    A chain that no worker has ever taken over is not judged: nothing of it is in the books that could leave."""
    halted, known, idle_s = await sending_store.load_standing(session, chain)
    if halted:
        return HALTED
    if not blind_after_s or not known:
        return None
    return NOT_FOLLOWED if idle_s is None or idle_s > blind_after_s else None


async def lock_sending(uow: UnitOfWork, chain: ChainId) -> None:
    """Wait until nobody is letting anything pass, and let nobody ask until the transaction ends."""
    await uow.lock(_name(chain))


async def note_followed(uow: UnitOfWork, chain: ChainId, fence: int, idle_s: float | None) -> None:
    """The chain's worker has got to where the tip was so many seconds ago; None while it has got to none, which changes nothing
    of what was known. Being there ends what `note_stopped` said. Does nothing when a later worker has spoken (`fence`)."""
    await sending_store.write_followed(uow, chain, fence, idle_s)


async def note_stopped(uow: UnitOfWork, chain: ChainId, fence: int, code: str) -> None:
    """The chain's worker ends for this broken invariant."""
    await lock_sending(uow, chain)
    await sending_store.write_stopped(uow, chain, fence, code)


async def find_trouble(session: ReadSession, chain: ChainId) -> str:
    """The broken invariant for which the chain's worker ended, by its code; empty once it is followed again."""
    return await sending_store.load_trouble(session, chain)


def _name(chain: ChainId) -> str:
    return f"chain_sending/{chain}"
