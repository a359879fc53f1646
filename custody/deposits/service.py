"""Deposits from the first sight in a block to the credit: what ingestion calls, and what readers ask.

Crediting waits for finality. What cannot be credited by then goes to suspense with a case, about which a person decides
(`cases`). What an asset that is not listed brings is kept, but cannot be booked: it waits with its case until the asset is
listed. Money that comes from a vault of our own is treated like any other: the sending side books its departure as a withdrawal,
this side books its arrival, so both vaults agree with the chain whoever sent it. Without a tag or a deposit vault to name a
wallet it ends in suspense. A vault that pays itself is neither: nothing left it and nothing arrived, so neither side books
anything but the fee.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from custody.assets import service as assets
from custody.db.session import ReadSession, UnitOfWork
from custody.deposits import case_store, cases, store
from custody.deposits.errors import CreditSpent, DepositExistsDifferent, UnknownDeposit
from custody.deposits.evaluate import NO_RULE, Standing, judge, named_by
from custody.deposits.model import (
    Booking,
    Caution,
    Deposit,
    DepositCase,
    DepositRule,
    FinalHeight,
    Observation,
    ObservedTransfer,
    Reason,
    Undecided,
)
from custody.deposits.telling import tell
from custody.deposits.transitions import DEPOSITS
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.errors import CustodyError
from custody.kernel.ids import DepositId, TenantId, VaultId, WalletId, derived_uuid
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.errors import AccountClosed, ExceedsCeiling, InsufficientFunds, TransferArchived
from custody.ledger.model import AccountKind, Command
from custody.ledger.transitions import ACCOUNTS
from custody.wallets import keys
from custody.wallets import service as wallets
from custody.wallets.model import VaultRef

_EVENT_OF = {"credited": "credit", "suspended": "suspend", "unlisted": "set_aside"}
_BOOKED = frozenset({"credited", "suspended"})

NO_CAUTION = Caution()
"""What is final by the chain's rule is credited."""

Refusing = tuple[UUID, AssetId]
"""A wallet whose account in an asset takes no more."""


async def observe(
    uow: UnitOfWork, vault: VaultRef, transfer: ObservedTransfer, *, keep_unlisted: bool = True
) -> Observation:
    """Record an arrival at a vault of the transaction's tenant. Idempotent by what arrived.

    One of an asset that is not listed is not kept where the caller says so. Raises DepositExistsDifferent when its place in the
    transaction is taken by something else, or it is in two blocks at once.
    """
    if transfer.source == transfer.account:
        return Observation.UNMOVED
    listed = await assets.find(uow, transfer.asset) is not None
    if transfer.doubt and not (listed and await _marks(uow, transfer.asset)):
        return Observation.REFUSED
    if not (listed or keep_unlisted):
        return Observation.FLOODED
    recorded = Observation.RECORDED if listed else Observation.UNLISTED
    deposit_id = id_of(uow.tenant, transfer)
    wallet_id = await _attribute(uow, vault.vault_id, transfer)
    if await store.insert_deposit(uow, deposit_id, vault.vault_id, wallet_id, transfer):
        await tell(uow, "observed", deposit_id, transfer, wallet_id)
        return recorded
    known = await store.lock_deposit(uow, deposit_id)
    if known is not None and known.state in DEPOSITS.sources("include"):
        await store.include_again(uow, known, wallet_id, transfer)
        await tell(uow, "observed", deposit_id, transfer, wallet_id)
        return recorded
    if known is not None and known.lost:
        await store.find_again(uow, deposit_id, transfer)
        await tell(uow, "found_again", deposit_id, transfer, known.wallet_id)
        return Observation.KNOWN
    if known is None or known.transfer.block_hash != transfer.block_hash:
        raise DepositExistsDifferent(chain=transfer.chain, tx_hash=transfer.tx_hash, ordinal=transfer.ordinal)
    return Observation.KNOWN


async def find_final(
    uow: UnitOfWork,
    chain: ChainId,
    height_final: int,
    refusing: Collection[Refusing] = (),
    caution: Caution = NO_CAUTION,
) -> Booking:
    """Decide about every deposit of the tenant whose block is final: to its wallet, to suspense, or aside. Idempotent.

    What `caution` holds back stays observed, until it is asked for again.

    The caller posts the commands, together with all else that the same height decides, and then calls `book`: who posts twice in
    one transaction may wait in a circle with others. Where the ledger refuses for a wallet's account (`refusing_wallet`), the
    caller rolls back and asks again with that account among `refusing`: what has happened must be booked, so it is suspended.
    """
    await cases.take_listed(uow, chain)
    due = [
        each for each in await store.lock_final(uow, chain, height_final) if not caution.holds(each.transfer)
    ]
    rules = await case_store.load_rules(uow) if due else {}
    listed = {asset.id for asset in await assets.list_assets(uow)} if due else set()
    decided: list[Deposit] = []
    undecided: list[Undecided] = []
    for deposit in due:
        seen = await _stand(uow, deposit, rules, listed, refusing)
        reason = judge(seen)
        decided.append(_decided(deposit, seen, reason))
        if reason is not None:
            named = seen.wallet_id or seen.holder_id
            undecided.append(Undecided(deposit=decided[-1], reason=reason, named_wallet_id=named))
    return Booking(
        deposits=tuple(decided),
        undecided=tuple(undecided),
        commands=tuple(command for deposit in decided for command in _posting(deposit)),
    )


def refusing_wallet(error: CustodyError) -> Refusing | None:
    """The wallet's account that made the ledger refuse to take money; None when the refusal has another cause."""
    values = error.values
    owner, asset = values.get("owner"), values.get("asset")
    mine = values.get("account") == AccountKind.WALLET.value and isinstance(owner, UUID)
    if not isinstance(error, AccountClosed | ExceedsCeiling) or not mine:
        return None
    return (owner, store.split(str(asset))) if isinstance(owner, UUID) else None


async def book(uow: UnitOfWork, booking: Booking) -> list[DepositCase]:
    """The commands are posted: the deposits are credited, suspended or set aside, and everybody is told. Returns the cases
    opened."""
    for deposit in booking.deposits:
        await store.move(uow, deposit.id, _EVENT_OF[deposit.state], deposit.wallet_id)
        await tell(uow, deposit.state, deposit.id, deposit.transfer, deposit.wallet_id)
    return [await cases.open_case(uow, found) for found in booking.undecided]


async def orphan(
    uow: UnitOfWork, chain: ChainId, height_above: int, *, marks_spent: bool = False
) -> list[Deposit]:
    """Take back every deposit of the tenant above a height: its block was replaced. Booked ones get a mirror posting, and cases
    end.

    Raises CreditSpent when a wallet no longer holds what has to be taken back, or it was returned already; with `marks_spent`
    such a booking stands and its deposit is marked as lost: the books then differ from the chain, and that is a break.
    """
    changed = []
    for deposit in await store.lock_above(uow, chain, height_above):
        event = "orphan" if deposit.state in DEPOSITS.sources("orphan") else "reverse"
        case = await cases.lock_of(uow, deposit)
        if event == "reverse":
            try:
                await _mirror(uow, deposit, case)
            except CreditSpent:
                if not marks_spent:
                    raise
                await store.mark_lost(uow, deposit.id)
                await tell(uow, "lost", deposit.id, deposit.transfer, deposit.wallet_id)
                changed.append(replace(deposit, lost=True))
                continue
        await store.move(uow, deposit.id, event, deposit.wallet_id)
        if case is not None:
            await cases.end_by_chain(uow, case)
        changed.append(replace(deposit, state=DEPOSITS.target(deposit.state, event)))
        await tell(uow, changed[-1].state, deposit.id, deposit.transfer, deposit.wallet_id)
    return changed


async def list_booked_above(session: ReadSession, chain: ChainId, height: int) -> list[Deposit]:
    """What was credited, suspended or paid back of blocks above a height: what is at stake when they are replaced."""
    return await store.load_booked_above(session, chain, height)


async def record_heights(
    uow: UnitOfWork, chain: ChainId, *, height_final: int, height_ingested: int, ingested_at: datetime
) -> None:
    """Note, in the transaction that books it, up to where the tenant's books follow the chain."""
    await store.write_height(
        uow, chain, height_final=height_final, height_ingested=height_ingested, ingested_at=ingested_at
    )


async def final_height(session: ReadSession, chain: ChainId) -> FinalHeight | None:
    """Up to where the tenant's books follow a chain; None before its first block."""
    return await store.load_height(session, chain)


async def find_waiting(session: ReadSession, chain: ChainId, height: int) -> list[Deposit]:
    """Deposits of the tenant in blocks up to a height that are not booked.

    Up to the final height these are what a caution holds back: the chain has them, and the books do not have them yet."""
    return await store.load_observed(session, chain, height)


async def get_deposit(session: ReadSession, deposit_id: DepositId) -> Deposit:
    """A deposit of this tenant. Raises UnknownDeposit."""
    found = await store.load_deposit(session, deposit_id)
    if found is None:
        raise UnknownDeposit
    return found


async def find_deposits(session: ReadSession, ids: Collection[DepositId]) -> list[Deposit]:
    """Those of these deposits that are this tenant's: one question for a whole page of references."""
    return await store.load_deposits_of_ids(session, ids)


async def list_deposits(
    session: ReadSession,
    *,
    wallet_id: WalletId | None = None,
    states: Collection[str] = (),
    of_assets: Collection[AssetId] | None = None,
    after: UUID | None = None,
    limit: int = 100,
    newest_first: bool = False,
) -> list[Deposit]:
    """Deposits in the order they were observed or the reverse: of one wallet, in some states and assets, or of all, after one of
    them."""
    return await store.load_deposits(
        session, wallet_id, states, of_assets, after, limit, newest_first=newest_first
    )


def id_of(tenant: TenantId, transfer: ObservedTransfer) -> DepositId:
    """The deposit that an arrival is, in whichever block it is seen."""
    return DepositId(
        derived_uuid(
            "deposit",
            tenant,
            transfer.chain,
            transfer.tx_hash,
            transfer.ordinal,
            transfer.asset.text,
            transfer.source,
            transfer.account,
            transfer.tag,
            transfer.memo,
            transfer.amount,
        )
    )


async def _attribute(session: ReadSession, vault_id: VaultId, transfer: ObservedTransfer) -> WalletId | None:
    """Whose money it is, by the account, tag or memo that the sender named."""
    return await wallets.attribute(session, vault_id, *named_by(transfer))


async def _marks(session: ReadSession, asset: AssetId) -> bool:
    """Whether the tenant keeps arrivals in doubt for a person."""
    return (await case_store.load_rules(session)).get(asset, NO_RULE).distrusted == "mark"


async def _stand(
    uow: UnitOfWork,
    deposit: Deposit,
    rules: Mapping[AssetId, DepositRule],
    listed: Collection[AssetId],
    refusing: Collection[Refusing],
) -> Standing:
    """What is known about a deposit now. Whose it is is asked again: the address may be younger than the money."""
    seen = deposit.transfer
    wallet_id = deposit.wallet_id or await _attribute(uow, deposit.vault_id, seen)
    account, holder_id = None, None
    if wallet_id is None:
        holder_id = await keys.holder_of(uow, deposit.vault_id)
    else:
        account = await ledger.find_account(uow, postings.wallet_account(wallet_id, seen.asset))
    return Standing(
        transfer=seen,
        wallet_id=wallet_id,
        listed=seen.asset in listed,
        rule=rules.get(seen.asset, NO_RULE),
        closed=account is not None and account.state in ACCOUNTS.terminal,
        refused=wallet_id is not None and (wallet_id, seen.asset) in refusing,
        holder_id=holder_id,
    )


def _decided(deposit: Deposit, seen: Standing, reason: Reason | None) -> Deposit:
    """The deposit as it will be."""
    if reason is None:
        event, wallet_id = "credit", seen.wallet_id
    else:
        event, wallet_id = ("suspend" if seen.listed else "set_aside"), None
    return replace(deposit, wallet_id=wallet_id, state=DEPOSITS.target(deposit.state, event))


def _posting(deposit: Deposit) -> tuple[Command, ...]:
    if deposit.state not in _BOOKED:
        return ()
    amount = Amount(deposit.transfer.asset, deposit.transfer.amount)
    if deposit.wallet_id is None:
        return postings.deposit_suspended(
            deposit_id=deposit.posting_id, vault_id=deposit.vault_id, amount=amount
        )
    return postings.deposit_credited(
        deposit_id=deposit.posting_id,
        vault_id=deposit.vault_id,
        wallet_id=deposit.wallet_id,
        amount=amount,
    )


async def _mirror(uow: UnitOfWork, deposit: Deposit, case: DepositCase | None) -> None:
    """Undo what was booked for a deposit. Where its month is archived a transfer the other way does the same.

    Suspense is everybody's: money that has gone back to its sender must not be taken from others who wait there.
    """
    if case is not None and case.state in ("returning", "returned"):
        raise CreditSpent(deposit_id=deposit.id, case_id=case.id, state=case.state)
    assigned = None if case is None or case.state != "assigned" else case.id
    try:
        try:
            await ledger.post(
                uow, *postings.deposit_reversed(deposit_id=deposit.posting_id, assigned_by=assigned)
            )
        except TransferArchived:
            await ledger.post(
                uow,
                *postings.deposit_taken_back(
                    deposit_id=deposit.posting_id,
                    vault_id=deposit.vault_id,
                    wallet_id=deposit.wallet_id,
                    amount=Amount(deposit.transfer.asset, deposit.transfer.amount),
                ),
            )
    except InsufficientFunds as error:
        raise CreditSpent(deposit_id=deposit.id, wallet_id=deposit.wallet_id) from error
