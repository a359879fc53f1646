"""Cases: arrivals that no wallet could be credited with, and what people decide about them.

A case is opened in the transaction that books its deposit, and ends in the transaction that moves its money: what suspense holds
of an asset of a chain is the sum of the unsettled cases of that asset, always (`differences`). Who decides is one operator, since
all stays inside the books and in the audit log; what leaves them, a return, needs the approvers' quorum like any withdrawal
(`returns`).

Locks: the deposit, its case, ledger accounts.
"""

from __future__ import annotations

from collections.abc import Collection

from custody.assets import service as assets
from custody.audit import service as audit
from custody.chains import address as addresses
from custody.db.session import ReadSession, UnitOfWork
from custody.deposits import case_store, store, telling
from custody.deposits.errors import BadNote, CaseDecided, CaseHoldsMoney, CaseNotBooked, UnknownCase
from custody.deposits.evaluate import is_ignored
from custody.deposits.model import Deposit, DepositCase, DepositRule, Reason, Undecided
from custody.deposits.transitions import DEPOSIT_CASES, DEPOSITS
from custody.events import outbox
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import CaseId, DepositId, WalletId, WithdrawalId, derived_uuid
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.model import AccountKind
from custody.wallets import service as wallets

NOTE_MAX = 500
"""Longest note, in characters."""
_FACTS = {"open": "opened", "reopen": "reopened"}
"""What is told of an event where the state is no word for it."""


async def open_case(uow: UnitOfWork, found: Undecided) -> DepositCase:
    """The case of a deposit that was just suspended or set aside. By rule it may be ignored at once."""
    case_id = CaseId(derived_uuid("deposit_case", found.deposit.posting_id, found.reason.value))
    case = await case_store.insert_case(uow, case_id, found.deposit, found.reason, found.named_wallet_id)
    await _tell(uow, case, telling.ACTOR, "open")
    if is_ignored(found.reason, found.deposit.transfer):
        return await _change(uow, case, telling.ACTOR, "ignore")
    return case


async def assign(
    uow: UnitOfWork, actor: str, case_id: CaseId, wallet_id: WalletId, note: str = ""
) -> DepositCase:
    """Credit the case's money to a wallet. The same wallet again changes nothing.

    Raises UnknownCase, UnknownWallet, CaseDecided, CaseNotBooked, and what the wallet's account refuses (AccountClosed,
    ExceedsCeiling); then the case stays as it was. A rule's minimum does not bind a person.
    """
    case, deposit = await lock(uow, case_id)
    await wallets.get_wallet(uow, wallet_id)
    if (case.state, case.wallet_id) == (DEPOSIT_CASES.target_of("assign"), wallet_id):
        return case
    demand_movable(case, "assign")
    await ledger.post(
        uow,
        *postings.suspense_assigned(
            case_id=case.id, wallet_id=wallet_id, amount=Amount(case.asset, case.amount)
        ),
    )
    await store.move(uow, deposit.id, "assign", wallet_id)
    await telling.tell(uow, "credited", deposit.id, deposit.transfer, wallet_id, actor)
    return await _change(
        uow, case, actor, "assign", wallet_id=wallet_id, decided_by=actor, note=checked_note(note)
    )


async def dismiss(uow: UnitOfWork, actor: str, case_id: CaseId, note: str = "") -> DepositCase:
    """Want nothing done about an arrival of an unlisted asset. Again changes nothing.

    Raises UnknownCase, CaseDecided, CaseHoldsMoney.
    """
    case, _ = await lock(uow, case_id)
    if case.state == DEPOSIT_CASES.target_of("dismiss"):
        return case
    if case.is_booked:
        raise CaseHoldsMoney(state=case.state)
    if case.state not in DEPOSIT_CASES.sources("dismiss"):
        raise CaseDecided(state=case.state)
    return await _change(uow, case, actor, "dismiss", decided_by=actor, note=checked_note(note))


async def begin_return(
    uow: UnitOfWork, actor: str, case: DepositCase, withdrawal_id: WithdrawalId, note: str
) -> DepositCase:
    """A withdrawal that holds the case's money was asked for. The caller has locked the case and found it movable."""
    return await _change(
        uow, case, actor, "return", withdrawal_id=withdrawal_id, decided_by=actor, note=checked_note(note)
    )


async def settle_return(uow: UnitOfWork, actor: str, case: DepositCase) -> DepositCase:
    """Its withdrawal is final on chain, in the same transaction."""
    case, deposit = await lock(uow, case.id)
    await store.move(uow, deposit.id, "return", None)
    await telling.tell(uow, DEPOSITS.target_of("return"), deposit.id, deposit.transfer, None, actor)
    return await _change(uow, case, actor, "settle")


async def reopen(uow: UnitOfWork, actor: str, case: DepositCase) -> DepositCase:
    """Its withdrawal, as the caller saw it, has ended unpaid. Nothing to do where somebody else was quicker: another withdrawal
    may pay by now."""
    now, _ = await lock(uow, case.id)
    if now.state not in DEPOSIT_CASES.sources("reopen") or now.withdrawal_id != case.withdrawal_id:
        return now
    return await _change(uow, now, actor, "reopen", withdrawal_id=None)


async def end_by_chain(uow: UnitOfWork, case: DepositCase) -> DepositCase:
    """The chain took the deposit back, and its postings are mirrored. The caller has locked both."""
    return await _change(uow, case, telling.ACTOR, "orphan")


async def take_listed(uow: UnitOfWork, chain: ChainId) -> list[DepositCase]:
    """End the cases of assets that are listed by now; their deposits are decided about again. Idempotent."""
    if not await case_store.is_waited_for(uow, chain):
        return []
    listed = [asset.id for asset in await assets.list_assets(uow) if asset.id.chain == chain]
    ended = []
    for deposit_id in await case_store.load_waiting(uow, chain, listed):
        deposit = await store.lock_deposit(uow, deposit_id)
        case = await case_store.lock_case_of(uow, deposit_id)
        if deposit is None or case is None or case.state not in DEPOSIT_CASES.sources("list"):
            continue
        await store.move(uow, deposit_id, "list", None)
        ended.append(await _change(uow, case, telling.ACTOR, "list"))
    return ended


async def lock(uow: UnitOfWork, case_id: CaseId) -> tuple[DepositCase, Deposit]:
    """The case and its deposit, both rows locked. Raises UnknownCase."""
    seen = await case_store.load_case(uow, case_id)
    if seen is None:
        raise UnknownCase
    deposit = await store.lock_deposit(uow, seen.deposit_id)
    case = await case_store.lock_case(uow, case_id)
    if deposit is None or case is None:
        raise InvariantViolated("a case has lost its deposit", id=case_id)
    return case, deposit


async def lock_of(uow: UnitOfWork, deposit: Deposit) -> DepositCase | None:
    """The live case of a deposit whose row is locked."""
    return await case_store.lock_case_of(uow, deposit.id)


def demand_movable(case: DepositCase, event: str) -> None:
    """Raises CaseNotBooked, CaseDecided unless the case's money is in suspense and free."""
    if not case.is_booked:
        raise CaseNotBooked(asset=case.asset.text)
    if case.state not in DEPOSIT_CASES.sources(event):
        raise CaseDecided(state=case.state)


async def get_case(session: ReadSession, case_id: CaseId) -> DepositCase:
    """A case of this tenant. Raises UnknownCase."""
    found = await case_store.load_case(session, case_id)
    if found is None:
        raise UnknownCase
    return found


async def list_cases(
    session: ReadSession,
    *,
    states: Collection[str] = (),
    reasons: Collection[Reason] = (),
    asset: AssetId | None = None,
    after: CaseId | None = None,
    limit: int = 100,
) -> list[DepositCase]:
    """Cases in the order they were opened, after one of them; of some states, reasons and asset, or of any."""
    return await case_store.load_cases(
        session, states=states, reasons=reasons, asset=asset, after=after, limit=limit
    )


async def list_cases_of(session: ReadSession, deposit_ids: Collection[DepositId]) -> list[DepositCase]:
    """The live case of each of these deposits that has one: one question for a whole page."""
    return await case_store.load_cases_of(session, deposit_ids)


async def cases_of_withdrawals(
    session: ReadSession, withdrawal_ids: Collection[WithdrawalId]
) -> list[DepositCase]:
    """The cases that these withdrawals return."""
    return await case_store.load_of_withdrawals(session, withdrawal_ids)


async def count_unsettled(session: ReadSession) -> dict[tuple[str, str], int]:
    """How many cases wait for something, by state and reason."""
    return await case_store.load_counts(session)


async def differences(session: ReadSession) -> dict[AssetId, int]:
    """Suspense less the unsettled cases, per asset of a chain where they differ: empty, or somebody's money is not accounted
    for."""
    wanted = await case_store.load_unsettled_sums(session)
    held = {
        balance.key.asset: balance.posted
        for balance in await ledger.balances(session, AccountKind.SUSPENSE, None)
        if balance.key.asset.chain != "fiat"
    }
    found = {asset: held.get(asset, 0) - wanted.get(asset, 0) for asset in held.keys() | wanted.keys()}
    return {asset: difference for asset, difference in sorted(found.items()) if difference}


async def set_rule(uow: UnitOfWork, actor: str, asset: AssetId, rule: DepositRule) -> DepositRule:
    """What the tenant takes as a deposit of an asset from now on. Raises UnknownAsset, UnsupportedChain."""
    await assets.get(uow, asset)
    addresses.curve_of(asset.chain)
    await case_store.write_rule(uow, asset, rule, actor)
    told = {
        "asset": asset.text,
        "minimum": str(rule.minimum),
        "dust": str(rule.dust),
        "distrusted": rule.distrusted,
    }
    await audit.record(uow, actor, "deposit_rule.set", derived_uuid("deposit_rule", asset.text), told)
    return rule


async def list_rules(session: ReadSession) -> dict[AssetId, DepositRule]:
    """The tenant's rules; an asset without one is taken in every amount."""
    return await case_store.load_rules(session)


def checked_note(note: str) -> str:
    """The note itself. Raises BadNote."""
    if len(note) > NOTE_MAX or not note.isprintable():
        raise BadNote(note=note[:40])
    return note


async def _change(
    uow: UnitOfWork, case: DepositCase, actor: str, event: str, **values: object
) -> DepositCase:
    changed = await case_store.change_case(uow, case, event, **values)
    await _tell(uow, changed, actor, event)
    return changed


async def _tell(uow: UnitOfWork, case: DepositCase, actor: str, event: str) -> None:
    """The event for outsiders and the entry for examiners, of one change of state."""
    data = {
        "deposit_id": str(case.deposit_id),
        "state": case.state,
        "reason": case.reason.value,
        "asset": case.asset.text,
        "amount": str(case.amount),
        "wallet_id": None if case.wallet_id is None else str(case.wallet_id),
        "withdrawal_id": None if case.withdrawal_id is None else str(case.withdrawal_id),
    }
    await outbox.emit(uow, f"case.{_FACTS.get(event, case.state)}", case.id, data)
    await audit.record(uow, actor, f"case.{event}", case.id, {**data, "note": case.note})
