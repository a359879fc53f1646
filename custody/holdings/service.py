"""Keep what each block left of our accounts, and compare the books with it whenever a height is final.

Ingestion calls `record` in the block's own transaction and `compare_final` in the one that books what became final. Readers
ask for the newest state, the series of comparisons, and the breaks.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID

from custody.audit import service as audit
from custody.db.session import ReadSession, UnitOfWork
from custody.holdings import account_store, break_store, breaks, compare_store, store
from custody.holdings.compare import Finding, first_differing, judge, opening_of
from custody.holdings.model import (
    AccountDatum,
    AccountState,
    BlockPlace,
    Comparison,
    DueHolding,
    HeldAt,
    HoldingBreak,
    KeptHolding,
    KnownHolding,
    LateBooking,
    TouchedHolding,
)
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.ids import VaultId
from custody.ledger import history
from custody.ledger.model import AccountKind

ACTOR = "ingestion"
"""Who the audit log names: the chain and the books were compared because a block was final."""
_NEWEST = 2**63 - 1
"""Above any height."""


async def record(
    uow: UnitOfWork,
    place: BlockPlace,
    *,
    holdings: Sequence[TouchedHolding] = (),
    accounts: Sequence[tuple[VaultId, AccountState]] = (),
    data: Sequence[tuple[VaultId, AccountDatum]] = (),
    shows_all: bool = True,
) -> None:
    """Keep how a block left holdings, accounts and data entries of the transaction's tenant.

    Idempotent by block; raises StateExistsDifferent when the same block left one of them otherwise. Call it before anything of
    the block is booked: what the books have now is what they had before it. `shows_all`: see ChainState.
    """
    await account_store.insert_accounts(uow, place, accounts)
    await account_store.insert_data(uow, place, data)
    if not holdings:
        return
    known = await store.load_known(uow, [_key(each) for each in holdings])
    fresh = await store.insert_states(
        uow,
        place,
        [
            (
                each.vault_id,
                each.state,
                first_differing(each.effects) if known[_key(each)].listed else None,
            )
            for each in holdings
        ],
    )
    await _open(uow, place, [each for each in holdings if _key(each) in fresh], known, shows_all=shows_all)


async def rewind(uow: UnitOfWork, chain: ChainId, height: int, *, deep: bool) -> None:
    """The chain left its blocks above this height. What they left of our accounts stays as history and counts no more.

    In the transaction that moves the cursor. `deep`: also blocks that were final to the tenant are left, so that what was
    compared there counts no more either.
    """
    await store.insert_rewind(uow, chain, height, deep=deep)


async def set_opening(uow: UnitOfWork, actor: str, key: store.Key, opening: int, note: str = "") -> None:
    """What lay in a holding before all that we read, as the chain tells it or a person knows it. Compare it again afterwards.
    The same again changes nothing."""
    if not await store.change_opening(uow, key, opening):
        return
    told = {"vault_id": str(key[0]), "asset": key[1].text, "opening": str(opening), "note": note}
    await audit.record(uow, actor, "holding.opening_set", key[0], told)


async def explain(uow: UnitOfWork, booked: Sequence[LateBooking]) -> None:
    """Tell, in the transaction that posts them, what is booked of which block: what lies before an opening explains part of it.

    So an address's history that is read later, or an asset that is listed after its money came, is no difference."""
    if booked:
        await store.lower_openings(uow, booked)


async def compare_final(
    uow: UnitOfWork,
    chain: ChainId,
    *,
    height_before: int | None,
    height_final: int,
    waiting: Sequence[LateBooking] = (),
) -> int:
    """Compare what blocks touched since the final height before, whatever was not equal when it was compared last, and every
    holding of all vaults but deposit vaults.

    `waiting` is what these blocks brought and is to be booked later: it counts as booked, unless an opening still holds it.

    Call it when everything up to `height_final` is booked in this transaction. Opens and closes breaks, with an audit entry
    and an event each. Returns how many are open. Idempotent.
    """
    due = await compare_store.load_due(
        uow, chain, -1 if height_before is None else height_before, height_final
    )
    return await _compare(uow, chain, due, height_final, waiting)


async def compare_again(
    uow: UnitOfWork,
    chain: ChainId,
    keys: Sequence[store.Key],
    height_final: int,
    waiting: Sequence[LateBooking] = (),
) -> int:
    """Compare these holdings at the tenant's final height, because something of them was read or booked late. Returns how many
    of them differ. Idempotent."""
    due = await compare_store.load_named(uow, keys, height_final)
    return await _compare(uow, chain, due, height_final, waiting)


async def _compare(
    uow: UnitOfWork,
    chain: ChainId,
    due: Sequence[DueHolding],
    height_final: int,
    waiting: Sequence[LateBooking],
) -> int:
    if not due:
        return 0
    known = {
        (each.opened.vault_id, each.opened.asset): each
        for each in await break_store.load_open_breaks(uow, chain)
    }
    balances = await history.balances_of(uow, AccountKind.VAULT, {each.vault_id for each in due})
    booked = {(balance.key.owner, balance.key.asset): balance.posted for balance in balances}
    is_open, changed = 0, []
    for each in due:
        compared = _comparison(
            each, height_final, booked.get((each.vault_id, each.asset), 0) + _waiting(each, waiting)
        )
        if each.last is None or _content(each.last) != _content(compared):
            changed.append(compared)
        found = known.get((each.vault_id, each.asset))
        match judge(compared, found):
            case Finding.OPENS:
                await breaks.open_break(uow, ACTOR, chain, each, compared)
                is_open += 1
            case Finding.PERSISTS:
                await breaks.follow_break(uow, ACTOR, found, compared)
                is_open += 1
            case Finding.CLOSES:
                await breaks.close_break(uow, ACTOR, found, compared)
            case Finding.EQUAL:
                pass
    await compare_store.insert_comparisons(uow, chain, changed)
    return is_open


async def amounts_at(session: ReadSession, keys: Sequence[store.Key], height: int) -> dict[store.Key, int]:
    """What these holdings held after their newest blocks up to a height; those that no block has touched are missing."""
    return await store.load_amounts(session, keys, height)


async def states_since_equal(
    session: ReadSession, key: store.Key, height: int, *, limit: int = 1000
) -> tuple[HeldAt | None, list[HeldAt]]:
    """The state at which a holding was compared equal last, None where it never was, and its states after that up to a
    height."""
    return await compare_store.load_unequal(session, key, height, limit)


async def find_open_break(session: ReadSession, break_id: UUID) -> HoldingBreak | None:
    """An open break of the tenant."""
    return await break_store.load_open_break(session, break_id)


async def compare_now(
    session: ReadSession, key: store.Key, height: int, waiting: Sequence[LateBooking] = ()
) -> Comparison | None:
    """Books and chain of one holding at the tenant's final height, without keeping it. None while it is not compared."""
    for due in await compare_store.load_named(session, [key], height):
        balances = await history.balances_of(session, AccountKind.VAULT, {due.vault_id})
        booked = {(balance.key.owner, balance.key.asset): balance.posted for balance in balances}
        return _comparison(due, height, booked.get(key, 0) + _waiting(due, waiting))
    return None


async def open_breaks(session: ReadSession, chain: ChainId) -> list[HoldingBreak]:
    """All open breaks of the tenant on a chain."""
    return await break_store.load_open_breaks(session, chain)


async def count_breaks(session: ReadSession, chain: ChainId) -> int:
    """How many holdings of the tenant on a chain differ from its books."""
    return len(await break_store.load_open_breaks(session, chain))


async def list_holdings(
    session: ReadSession, vaults: Collection[VaultId], *, height: int = _NEWEST
) -> list[KeptHolding]:
    """What these vaults hold by the chain's own state, at a height or now; only what a block has touched since we read its
    entries."""
    return await store.load_kept(session, vaults, height)


async def find_account(
    session: ReadSession, vault_id: VaultId, account: str, *, height: int = _NEWEST
) -> tuple[int, AccountState] | None:
    """The block that touched a vault's account last, and how it left it. None where none has."""
    return await account_store.load_account(session, vault_id, account, height)


async def find_datum(
    session: ReadSession, vault_id: VaultId, account: str, name: str, *, height: int = _NEWEST
) -> AccountDatum | None:
    """A data entry of a vault's account as a ledger left it last. None where no ledger touched it."""
    return await account_store.load_datum(session, vault_id, account, name, height)


async def list_comparisons(
    session: ReadSession, vault_id: VaultId, asset: AssetId, *, before: int | None = None, limit: int = 100
) -> list[Comparison]:
    """Books and chain of one holding at every height at which either changed, newest first, below a height."""
    return await compare_store.load_comparisons(session, (vault_id, asset), before, limit)


async def list_breaks(
    session: ReadSession, *, state: str | None = None, before: int | None = None, limit: int = 100
) -> list[tuple[int, HoldingBreak]]:
    """Breaks in a state or in any, each with its place in the list, newest first, before a place."""
    return await break_store.load_breaks(session, state, before, limit)


async def _open(
    uow: UnitOfWork,
    place: BlockPlace,
    fresh: Sequence[TouchedHolding],
    known: dict[store.Key, KnownHolding],
    *,
    shows_all: bool,
) -> None:
    """Begin to compare what is seen for the first time."""
    new = [each for each in fresh if known[_key(each)].listed and known[_key(each)].opening_height is None]
    booked: dict[tuple[object, AssetId], int] = {}
    if new:
        balances = await history.balances_of(uow, AccountKind.VAULT, {each.vault_id for each in new})
        booked = {(balance.key.owner, balance.key.asset): balance.posted for balance in balances}
    for each in fresh:
        key, state = _key(each), each.state
        if not known[key].kept:
            await store.keep_holding(uow, place.chain, key)
        if known[key].listed and known[key].opening_height is None:
            opening = opening_of(state.before, booked.get(key, 0)) if shows_all else 0
            await store.open_holding(uow, key, height=place.height if shows_all else 0, opening=opening)


def _waiting(due: DueHolding, waiting: Sequence[LateBooking]) -> int:
    """What waits to be booked of a holding, and is not in its opening."""
    return sum(
        late.amount
        for late in waiting
        if (late.vault_id, late.asset) == (due.vault_id, due.asset) and late.height >= due.opening_height
    )


def _comparison(due: DueHolding, height: int, books: int) -> Comparison:
    return Comparison(
        vault_id=due.vault_id,
        asset=due.asset,
        height=height,
        state_height=due.state_height,
        books=books,
        opening=due.opening,
        chain=due.amount,
    )


def _key(each: TouchedHolding) -> store.Key:
    return each.vault_id, each.state.asset


def _content(compared: Comparison) -> tuple[int, int, int]:
    return compared.books, compared.opening, compared.chain
