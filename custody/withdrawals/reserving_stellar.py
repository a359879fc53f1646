"""A slot for a Stellar withdrawal: what the node is asked (no transaction open), and what is chosen (inside one).

A channel's sequence comes from our own ingestion: nobody but us sends from it, and a node that lags cannot hand out a number that
is used. A vault's own comes from the node, as its key may have served before we knew of it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from custody.chains.ports import ChainClient, FeeQuote
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.ids import VaultId
from custody.signing import intents
from custody.signing.model import StellarSlot
from custody.wallets.model import Vault
from custody.withdrawals import attempt_store, channel_store, store
from custody.withdrawals.attempt_slots import new_attempt
from custody.withdrawals.model import Withdrawal
from custody.withdrawals.ports import Means
from custody.withdrawals.reservation import drop, hold_off, take
from custody.withdrawals.slots import Wait
from custody.withdrawals.slots_stellar import BumpSlot, Needless, StellarView, choose_bump, choose_stellar

TURN_S = 30
"""When to look again for a turn that nobody told of: whoever frees a sender makes the next in its line due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the node said just before a reservation."""

    head: int
    """Newest ledger."""
    quote: FeeQuote
    """Going price."""
    sequence: int
    """Next sequence of the vault; 0 where it was not asked."""


async def is_its_turn(session: ReadSession, withdrawal: Withdrawal) -> bool:
    """Whether nobody has waited longer for the same sender. Asked before anything else is: a line may be long."""
    if withdrawal.kind == "fee_bump":
        return True
    return await store.first_in_line(session, withdrawal.sender_id, withdrawal.id) == withdrawal.id


async def ask(client: ChainClient, withdrawal: Withdrawal, sender: Vault) -> Asked:
    """What the node says now. Network only."""
    head, quote = await asyncio.gather(client.head(), client.fees())
    asks = withdrawal.channel_id is None and withdrawal.kind != "fee_bump"
    return Asked(
        head=head.height, quote=quote, sequence=await client.next_sequence(sender.account) if asks else 0
    )


async def reserve(uow: UnitOfWork, means: Means, withdrawal: Withdrawal, sender: Vault, asked: Asked) -> bool:
    """Commit a slot for it, or have it wait. Returns whether it has one. The caller has locked the sender's slots, and it."""
    chosen = await _choose(uow, means, withdrawal, sender, asked)
    if isinstance(chosen, Needless):
        await drop(uow, withdrawal, chosen.reason)
        return False
    if isinstance(chosen, Wait):
        await hold_off(uow, withdrawal, chosen)
        return False
    number = len(await attempt_store.load_attempts(uow, withdrawal.id)) + 1
    attempt = new_attempt(withdrawal, sender, number, chosen)
    await take(uow, withdrawal, attempt, exclusive=isinstance(chosen, StellarSlot))
    return True


async def _choose(
    uow: UnitOfWork, means: Means, withdrawal: Withdrawal, sender: Vault, asked: Asked
) -> StellarSlot | BumpSlot | Needless | Wait:
    """What the attempt gets, or why it waits."""
    now, max_fee = int(means.clock.now().timestamp()), intents.price_caps(withdrawal.intent)[0]
    if withdrawal.kind == "fee_bump":
        return await _choose_bump(uow, withdrawal, asked, max_fee=max_fee, now=now)
    if not await is_its_turn(uow, withdrawal):
        return Wait(reason="not_its_turn", look_in_s=TURN_S)
    sequence = await _next_sequence(uow, withdrawal.channel_id, asked)
    if sequence is None:
        return Wait(reason="channel_not_open", look_in_s=5)
    chain = means.settings.chain(sender.chain)
    view = StellarView(
        next_sequence=sequence,
        head=asked.head,
        own_height=await store.load_height(uow, sender.chain),
        in_flight=await attempt_store.count_in_flight(uow, sender.id),
        taken=await attempt_store.taken_slots(uow, sender.id, sequence),
        released_until=await attempt_store.released_until(uow, sender.id, sequence),
        quote=asked.quote,
    )
    return choose_stellar(
        view,
        max_fee=max_fee,
        now=now,
        expires_at=int(withdrawal.expires_at.timestamp()),
        valid_s=chain.tx_valid_s,
        valid_ledgers=chain.tx_valid_ledgers,
    )


async def _next_sequence(uow: UnitOfWork, channel_id: VaultId | None, asked: Asked) -> int | None:
    if channel_id is None:
        return asked.sequence
    last = await channel_store.load_sequence(uow, channel_id)
    return None if last is None else last + 1


async def _choose_bump(
    uow: UnitOfWork, withdrawal: Withdrawal, asked: Asked, *, max_fee: int, now: int
) -> BumpSlot | Needless | Wait:
    digest = bytes.fromhex(withdrawal.memo.value)
    bumped = await channel_store.find_by_digest(uow, digest)
    inner = None if bumped is None else await attempt_store.load_open(uow, bumped)
    bids = [bid for _, bid in await channel_store.load_bumps(uow, digest) if bid is not None]
    return choose_bump(inner, bids, asked.quote, max_fee=max_fee, now=now)
