"""Pay out money from a wallet through a rail. The public surface; nothing here talks to the network.

The worker's sequence is: claim (committed) → send → record_submission. What the rail says later comes in by `observe`, by
callback or by status answer alike, in any order and any number of times.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime, timedelta

import structlog

from custody.audit import service as audit
from custody.banking import service as banking
from custody.banking.iban import parse_iban
from custody.db.session import ReadSession, UnitOfWork
from custody.events import outbox
from custody.identity.model import Principal
from custody.kernel.ids import BankAccountId, CustomerId, PayoutId, WalletId
from custody.kernel.money import Amount, AmountNotPositive
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.payouts import changes, store
from custody.payouts.errors import (
    BadPaymentText,
    BeneficiaryIsOurselves,
    PayoutExistsDifferent,
    UnknownPayout,
    UnknownReference,
    WrongCurrency,
)
from custody.payouts.model import (
    EVENT_OF,
    Accepted,
    BookedMovement,
    Declined,
    Lost,
    Mismatched,
    ObservationResult,
    PaymentInstruction,
    Payout,
    PayoutAttempt,
    PollTarget,
    RailObservation,
    RequestPayout,
    SubmissionReport,
    build_reference,
    difference,
    poll_delay,
)
from custody.payouts.transitions import Judgement, judge
from custody.switches import service as switches
from custody.switches.model import Place, Scope, of_asset, of_customer
from custody.wallets import service as wallets

_SEPA_TEXT = re.compile(r"[a-zA-Z0-9/?:().,'+ -]*")
"""Source: EPC217-08, the characters that every bank of the scheme carries."""
_NAME_MAX = 70
_REMITTANCE_MAX = 140

_log = structlog.get_logger(__name__)


async def request(uow: UnitOfWork, principal: Principal, wanted: RequestPayout) -> Payout:
    """Hold the money and put the payout in line. Idempotent by id.

    Raises UnknownWallet, UnknownBankAccount, WrongCurrency, InvalidIban, BadPaymentText, BeneficiaryIsOurselves,
    AmountNotPositive, InsufficientFunds, PayoutExistsDifferent, StoppedBySwitch.
    """
    account = await banking.get_bank_account(uow, wanted.bank_account_id)
    wallet = await wallets.get_wallet(uow, wanted.wallet_id)
    if wanted.amount.asset != account.asset:
        raise WrongCurrency(asset=wanted.amount.asset.text, account_asset=account.asset.text)
    if wanted.amount.atomic <= 0:
        raise AmountNotPositive(amount=str(wanted.amount.atomic))
    beneficiary = parse_iban(wanted.beneficiary_iban)
    if beneficiary == account.iban:
        raise BeneficiaryIsOurselves(iban=beneficiary)
    written = await store.insert_payout(
        uow,
        {
            "id": wanted.id,
            "wallet_id": wanted.wallet_id,
            "bank_account_id": account.id,
            "rail": account.rail,
            "account_iban": account.iban,
            "asset": wanted.amount.asset.text,
            "amount": wanted.amount.atomic,
            "beneficiary_iban": beneficiary,
            "beneficiary_name": _payment_text(wanted.beneficiary_name, 1, _NAME_MAX),
            "remittance": _payment_text(wanted.remittance, 0, _REMITTANCE_MAX),
            "requested_by": principal.subject,
        },
    )
    payout = await _locked(uow, wanted.id)
    if not written:
        return _same(payout, wanted, beneficiary)
    await switches.refuse_stopped(uow, _places(payout.rail, payout.amount, wallet.customer_id))
    held = postings.payout_held(
        payout_id=payout.id,
        wallet_id=payout.wallet_id,
        bank_account_id=payout.bank_account_id,
        amount=payout.amount,
    )
    await ledger.post(uow, *held)
    await changes.announce(uow, payout, principal.subject)
    return payout


async def cancel(uow: UnitOfWork, principal: Principal, payout_id: PayoutId) -> Payout:
    """Call off a payout that nobody has claimed yet. Raises UnknownPayout, IllegalTransition."""
    payout = await _locked(uow, payout_id)
    return await changes.apply(uow, payout, "cancel", principal.subject)


async def get(session: ReadSession, payout_id: PayoutId) -> Payout:
    """The tenant's payout. Raises UnknownPayout."""
    payout = await store.load_payout(session, payout_id)
    if payout is None:
        raise UnknownPayout(payout=str(payout_id))
    return payout


async def list_payouts(
    session: ReadSession,
    *,
    wallet_id: WalletId | None = None,
    states: Collection[str] = (),
    after: PayoutId | None = None,
    limit: int = 100,
    newest_first: bool = True,
) -> list[Payout]:
    """A page of the tenant's payouts, of one wallet, in some states, or all; newest first unless told; `after` is the last of the
    page before."""
    return await store.load_payouts(
        session, wallet_id=wallet_id, states=states, after=after, limit=limit, newest_first=newest_first
    )


async def claim(
    uow: UnitOfWork, rails: tuple[str, ...], now: datetime, lease: timedelta
) -> PayoutAttempt | None:
    """Take the oldest ready payout of these rails that nothing stops, fix its reference, and write the attempt down. None when
    there is none.

    The caller commits before it sends. If it does not come back within `lease`, the payout becomes unknown.
    """
    payout = await _lock_next(uow, rails)
    if payout is None:
        return None
    claimed = await changes.apply(
        uow, payout, "claim", _actor(payout.rail), reference=build_reference(payout.id)
    )
    return await _open_attempt(uow, claimed, now + lease)


async def claim_resend(
    uow: UnitOfWork, payout_id: PayoutId, now: datetime, lease: timedelta
) -> PayoutAttempt | None:
    """The rail has never heard of the reference of an unknown payout: send the same instruction again, as a new attempt.

    None when the payout has moved on meanwhile, when it is one that the rail had accepted before, or while it is stopped.
    """
    payout = await _locked(uow, payout_id)
    if judge(payout.state, "resend") is not Judgement.MOVES:
        return None
    wallet = await wallets.get_wallet(uow, payout.wallet_id)
    if await switches.find_stopped(uow, _places(payout.rail, payout.amount, wallet.customer_id)) is not None:
        return None
    claimed = await changes.apply(uow, payout, "resend", _actor(payout.rail), next_poll_at=None)
    return await _open_attempt(uow, claimed, now + lease)


async def record_submission(
    uow: UnitOfWork, attempt: PayoutAttempt, report: SubmissionReport, now: datetime
) -> Payout:
    """Write how a sending ended. What a callback told meanwhile stands.

    A sending that was given up for lost and followed by a newer one can no longer say that nothing will be paid.
    """
    payout = await _locked(uow, attempt.payout_id)
    values: dict[str, object]
    match report:
        case Accepted(external_ref=external_ref):
            event, outcome, detail = "accept", "accepted", external_ref
            values = {"external_ref": external_ref, "next_poll_at": now + poll_delay(0)}
        case Declined(code=code):
            event, outcome, detail = "reject", "declined", code
            values = {"reason": code, "next_poll_at": None}
        case Mismatched(field=field, external_ref=external_ref):
            event, outcome, detail = "mismatch", "mismatched", field
            values = {"reason": field, "external_ref": external_ref, "next_poll_at": None}
        case Lost(cause=cause):
            event, outcome, detail = "lose", "lost", cause
            values = {"next_poll_at": now + poll_delay(payout.polls)}
    await store.close_attempt(uow, payout.id, attempt.number, outcome, detail)
    if event in ("reject", "lose") and await store.last_attempt(uow, payout.id) > attempt.number:
        return payout
    return await _take_news(uow, payout, event, values)


async def lose_expired(uow: UnitOfWork, now: datetime, limit: int = 100) -> int:
    """Sendings whose worker died: nobody knows whether they left, so their payouts become unknown. Returns how many."""
    expired = sorted(await store.expired_attempts(uow, now, limit))
    # Rows are locked in the order of their ids, before the first move takes ledger accounts.
    found = [(await _locked(uow, payout_id), number) for payout_id, number in expired]
    for payout, number in found:
        await store.close_attempt(uow, payout.id, number, "lost", "lease expired")
        await _take_news(uow, payout, "lose", {"next_poll_at": now + poll_delay(payout.polls)})
    return len(expired)


async def due_for_poll(
    session: ReadSession, rails: tuple[str, ...], now: datetime, limit: int = 100
) -> list[PollTarget]:
    """Payouts about which one of these rails should be asked now, by our own reference."""
    return await store.due_for_poll(session, rails, now, limit)


async def record_poll(uow: UnitOfWork, payout_id: PayoutId, now: datetime) -> None:
    """The rail was asked, whatever it said: the next question waits longer."""
    polls = (await _locked(uow, payout_id)).polls + 1
    await store.postpone_poll(uow, payout_id, polls, now + poll_delay(polls))


async def observe(uow: UnitOfWork, observation: RailObservation, now: datetime) -> ObservationResult:
    """Apply a fact about one of our payments. Idempotent by rail and event id; order does not matter.

    Raises UnknownReference when nothing was ever sent under the reference.
    """
    payout = await store.lock_by_reference(uow, observation.rail, observation.reference)
    if payout is None:
        raise UnknownReference(rail=observation.rail, reference=observation.reference)
    if await store.is_recorded(uow, observation.rail, observation.external_event_id):
        return ObservationResult.DUPLICATE
    field = difference(_instruction(payout), observation)
    event = EVENT_OF[observation.event] if field is None else "mismatch"
    verdict = judge(payout.state, event)
    result = _RESULT[verdict]
    await store.insert_observation(uow, payout.id, observation, result.value)
    if verdict is Judgement.MOVES:
        values: dict[str, object] = {
            "external_ref": observation.external_ref,
            "reason": field or observation.code,
            "next_poll_at": now + poll_delay(0) if event == "accept" else None,
        }
        await changes.apply(uow, payout, event, _actor(payout.rail), **values)
    elif verdict is Judgement.CONTRADICTS:
        await _raise_alarm(uow, payout, event, observation.external_event_id)
    return result


async def booked_movements(session: ReadSession, bank_account_id: BankAccountId) -> list[BookedMovement]:
    """What payouts have booked on a bank account, named as its statement names the lines."""
    return await store.booked_movements(session, bank_account_id)


_RESULT = {
    Judgement.MOVES: ObservationResult.APPLIED,
    Judgement.OLD: ObservationResult.OLD,
    Judgement.CONTRADICTS: ObservationResult.CONTRADICTS,
}


async def _take_news(uow: UnitOfWork, payout: Payout, event: str, values: dict[str, object]) -> Payout:
    match judge(payout.state, event):
        case Judgement.MOVES:
            return await changes.apply(uow, payout, event, _actor(payout.rail), **values)
        case Judgement.OLD:
            return payout
        case Judgement.CONTRADICTS:
            await _raise_alarm(uow, payout, event, "submission")
            return payout


async def _raise_alarm(uow: UnitOfWork, payout: Payout, event: str, source: str) -> None:
    """The rail says what cannot be true with our books. Nothing is changed; operators, examiners and recon see it."""
    told = {**changes.snapshot(payout), "contradicting_event": event, "source": source}
    _log.error("payout.contradicted", payout_id=str(payout.id), state=payout.state, contradicting_event=event)
    await outbox.emit(uow, "payout.contradicted", payout.id, told)
    await audit.record(uow, _actor(payout.rail), "payout.contradicted", payout.id, told)


async def _open_attempt(uow: UnitOfWork, payout: Payout, lease_until: datetime) -> PayoutAttempt:
    instruction = _instruction(payout)
    number = await store.open_attempt(uow, payout.id, instruction.reference, lease_until)
    return PayoutAttempt(payout_id=payout.id, number=number, instruction=instruction)


async def _locked(uow: UnitOfWork, payout_id: PayoutId) -> Payout:
    payout = await store.load_payout(uow, payout_id, lock=True)
    if payout is None:
        raise UnknownPayout(payout=str(payout_id))
    return payout


def _places(rail: str, amount: Amount, customer_id: CustomerId) -> list[Place]:
    """Whatever may stop a payout."""
    return [Place(Scope.RAIL, rail), *of_asset(amount.asset), of_customer(customer_id)]


async def _lock_next(uow: UnitOfWork, rails: tuple[str, ...]) -> Payout | None:
    """The oldest ready payout that nothing stops, locked. One that is stopped keeps nobody behind it waiting."""
    stopped = {switch.place for switch in await switches.list_stopped(uow)}
    rails = tuple(rail for rail in rails if Place(Scope.RAIL, rail) not in stopped)
    assets = [place.subject for place in stopped if place.scope is Scope.ASSET]
    waiting: list[WalletId] = []
    while True:
        payout = await store.lock_next_ready(uow, rails, assets=assets, wallets=waiting)
        if payout is None or not stopped:
            return payout
        wallet = await wallets.get_wallet(uow, payout.wallet_id)
        if stopped.isdisjoint(_places(payout.rail, payout.amount, wallet.customer_id)):
            return payout
        waiting.append(wallet.id)


def _instruction(payout: Payout) -> PaymentInstruction:
    return PaymentInstruction(
        rail=payout.rail,
        reference=build_reference(payout.id),
        account_iban=payout.account_iban,
        beneficiary_iban=payout.beneficiary_iban,
        beneficiary_name=payout.beneficiary_name,
        amount=payout.amount,
        remittance=payout.remittance,
    )


def _same(payout: Payout, wanted: RequestPayout, beneficiary: str) -> Payout:
    """The payout that is already there, if it is the one that is wanted. Raises PayoutExistsDifferent."""
    found = (
        payout.wallet_id,
        payout.bank_account_id,
        payout.beneficiary_iban,
        payout.beneficiary_name,
        payout.amount,
        payout.remittance,
    )
    asked = (
        wanted.wallet_id,
        wanted.bank_account_id,
        beneficiary,
        wanted.beneficiary_name,
        wanted.amount,
        wanted.remittance,
    )
    if found != asked:
        raise PayoutExistsDifferent(payout=str(payout.id))
    return payout


def _payment_text(text: str, shortest: int, longest: int) -> str:
    if not shortest <= len(text) <= longest or not _SEPA_TEXT.fullmatch(text) or text != text.strip():
        raise BadPaymentText(text=text[:32])
    return text


def _actor(rail: str) -> str:
    return f"rail:{rail}"
