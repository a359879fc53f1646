"""The address book: who may be paid by vaults and wallets that are restricted to it.

An entry is proposed by one person and confirmed by another, and counts only after a wait: whoever takes over one account cannot
add an address and pay it in one go. What makes the book stricter holds at once, what makes it looser waits.
"""

from __future__ import annotations

from uuid import UUID

from custody.address_book import store
from custody.address_book.errors import (
    BadLabel,
    DestinationNotListed,
    EntryDecided,
    EntryExistsDifferent,
    OwnProposal,
    UnknownEntry,
)
from custody.address_book.model import Entry, Receiver, Restriction, Scope
from custody.address_book.transitions import ENTRIES
from custody.audit import service as audit
from custody.chains import address as addresses
from custody.db.session import ReadSession, UnitOfWork
from custody.events import outbox
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import VaultId, WalletId
from custody.wallets import service as wallets

_LABEL_MAX = 200


async def propose(uow: UnitOfWork, actor: str, entry_id: UUID, receiver: Receiver, label: str) -> Entry:
    """Write an entry down; it counts once somebody else has confirmed it. The caller has checked that the memo fits.

    Idempotent by id; raises EntryExistsDifferent, InvalidAddress, UnsupportedChain, BadLabel.
    """
    if not 0 < len(label.strip()) <= _LABEL_MAX:
        raise BadLabel
    parsed = addresses.parse(receiver.chain, receiver.address)
    wanted = Receiver(
        chain=receiver.chain, address=parsed.address, memo_type=receiver.memo_type, memo=receiver.memo
    )
    is_new = await store.insert_entry(uow, entry_id, wanted, label, actor)
    made = await get_entry(uow, entry_id)
    if not is_new:
        if (made.receiver, made.label, made.proposed_by) != (wanted, label, actor):
            raise EntryExistsDifferent(id=str(entry_id))
        return made
    await _tell(uow, actor, "propose", made)
    return made


async def confirm(uow: UnitOfWork, actor: str, entry_id: UUID, *, wait_s: int) -> Entry:
    """The second person's word. Said again by the same person it changes nothing.

    Raises UnknownEntry, OwnProposal, EntryDecided.
    """
    entry = await _lock(uow, entry_id)
    if entry.state == ENTRIES.target_of("confirm") and entry.confirmed_by == actor:
        return entry
    if entry.proposed_by == actor:
        raise OwnProposal
    return await _say(uow, actor, entry, "confirm", wait_s)


async def remove(uow: UnitOfWork, actor: str, entry_id: UUID) -> Entry:
    """The entry counts no longer; one person is enough. Removing again changes nothing. Raises UnknownEntry."""
    entry = await _lock(uow, entry_id)
    if entry.state == ENTRIES.target_of("remove"):
        return entry
    return await _say(uow, actor, entry, "remove", None)


async def restrict(
    uow: UnitOfWork, actor: str, scope: Scope, object_id: UUID, *, enabled: bool, wait_s: int
) -> Restriction:
    """Have a vault or wallet pay to entries only, at once; or no longer, after the wait. Said already, it stays as it is.

    Raises UnknownVault, UnknownWallet.
    """
    if scope == "vault":
        await wallets.get_vault(uow, VaultId(object_id))
    else:
        await wallets.get_wallet(uow, WalletId(object_id))
    await uow.lock(f"address-book/{uow.tenant}/{object_id}")
    last = await store.load_last(uow, scope, object_id)
    if last is not None and last.enabled is enabled:
        return last
    made = await store.insert_restriction(
        uow, scope, object_id, actor, enabled=enabled, wait_s=0 if enabled else wait_s
    )
    told = {
        "scope": scope,
        "owner_id": str(object_id),
        "enabled": enabled,
        "counts_from": made.counts_from.isoformat(),
    }
    await outbox.emit(uow, "address_restriction.set", object_id, {**told, "actor": actor})
    await audit.record(uow, actor, "address_book.restrict", object_id, told)
    return made


async def demand_listed(
    session: ReadSession, receiver: Receiver, *, vault_id: VaultId, wallet_id: WalletId | None
) -> None:
    """Raises DestinationNotListed where the vault or the wallet is restricted, and no entry that counts has this receiver."""
    objects: dict[Scope, UUID] = {"vault": vault_id}
    if wallet_id is not None:
        objects["wallet"] = wallet_id
    restricted = [each for each in await store.load_in_force(session, objects) if each.enabled]
    if restricted and not await store.counts_now(session, receiver):
        raise DestinationNotListed(address=receiver.address, restricted=restricted[0].scope)


async def get_entry(session: ReadSession, entry_id: UUID) -> Entry:
    """One entry. Raises UnknownEntry."""
    found = await store.load_entry(session, entry_id)
    if found is None:
        raise UnknownEntry
    return found


async def list_entries(session: ReadSession, after: int = 0, limit: int = 50) -> list[Entry]:
    """Entries after one's sequence, in the order in which they were proposed, removed ones too."""
    return await store.load_entries(session, after, limit)


async def list_restrictions(session: ReadSession) -> list[Restriction]:
    """The newest word about each vault and wallet, whether it counts yet or not."""
    return await store.load_restrictions(session)


async def _lock(uow: UnitOfWork, entry_id: UUID) -> Entry:
    await uow.lock(f"address-entry/{uow.tenant}/{entry_id}")
    return await get_entry(uow, entry_id)


async def _say(uow: UnitOfWork, actor: str, entry: Entry, event: str, wait_s: int | None) -> Entry:
    if entry.state not in ENTRIES.sources(event):
        raise EntryDecided(state=entry.state)
    await store.insert_word(uow, entry, event, actor, wait_s)
    said = await get_entry(uow, entry.id)
    if said.state != ENTRIES.target_of(event):
        raise InvariantViolated("a word about an address did not count", entry=str(entry.id), event=event)
    await _tell(uow, actor, event, said)
    return said


async def _tell(uow: UnitOfWork, actor: str, event: str, entry: Entry) -> None:
    told = {
        "chain": entry.receiver.chain,
        "address": entry.receiver.address,
        "memo_type": entry.receiver.memo_type,
        "memo": entry.receiver.memo,
        "label": entry.label,
        "state": entry.state,
        "counts_from": None if entry.counts_from is None else entry.counts_from.isoformat(),
    }
    await outbox.emit(uow, f"address_entry.{entry.state}", entry.id, {**told, "actor": actor})
    await audit.record(uow, actor, f"address_book.{event}", entry.id, told)
