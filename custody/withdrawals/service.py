"""Withdrawals: ask for one, decide about it, take it back, let it expire, read it.

What is asked of a vault itself is in `operations`, execution in `execution`, what the chain shows in `settlement`; callers find
all but execution here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from custody.approvals import service as approvals
from custody.approvals.errors import DecisionExistsDifferent
from custody.audit import service as audit
from custody.chains.stellar.receivers import Receiver
from custody.db.session import ReadSession, UnitOfWork
from custody.events import outbox
from custody.identity.model import Principal
from custody.kernel.assetid import ChainId
from custody.kernel.clock import Clock
from custody.kernel.ids import WalletId, WithdrawalId
from custody.ledger import service as ledger
from custody.policy import service as policies
from custody.policy.evaluate import evaluate
from custody.policy.model import Decision, Standing, Verdict, Word
from custody.screening import service as screening
from custody.settings import Settings
from custody.signing import intents
from custody.signing.decisions import verify_decision
from custody.wallets import service as wallets
from custody.wallets.errors import UnknownWallet
from custody.withdrawals import (
    attempt_store,
    batch_store,
    batches,
    clearance,
    cooling,
    requesting,
    store,
)
from custody.withdrawals.checks import check_amount, check_destination
from custody.withdrawals.errors import (
    CancelTooLate,
    DecisionTooEarly,
    DecisionTooLate,
    LineOfBatch,
    UnknownWithdrawal,
    WithdrawalExistsDifferent,
)
from custody.withdrawals.model import (
    Attempt,
    RequestWithdrawal,
    Withdrawal,
    WithdrawalView,
)
from custody.withdrawals.moves import move, snapshot
from custody.withdrawals.nonce_operations import request_cancel, request_fill
from custody.withdrawals.operations import request_anchor, request_memo_required, request_trustline
from custody.withdrawals.refills import find_refills, request_move, request_refill
from custody.withdrawals.settlement import (
    concede,
    end,
    find_final,
    observe_transaction,
    orphan_above,
    release,
)
from custody.withdrawals.transitions import BEFORE_APPROVERS, WITHDRAWALS

__all__ = [
    "cancel",
    "concede",
    "decide",
    "due",
    "end",
    "expire_due",
    "find_final",
    "find_refills",
    "find_withdrawals",
    "get",
    "list_attempts",
    "list_withdrawals",
    "observe_transaction",
    "orphan_above",
    "request",
    "request_anchor",
    "request_cancel",
    "request_fill",
    "request_memo_required",
    "request_move",
    "request_refill",
    "request_trustline",
    "view",
]


async def request(
    uow: UnitOfWork,
    principal: Principal,
    command: RequestWithdrawal,
    *,
    settings: Settings,
    clock: Clock,
    receiver: Receiver | None = None,
) -> Withdrawal:
    """Hold the money and its fee, and write the intent that approvers sign. `receiver`: what `receivers.look_up` just said.

    Idempotent by id; raises WithdrawalExistsDifferent for other content. Raises InvalidAddress, InvalidMemo, MemoNotAllowed,
    UnknownAsset, UnsupportedAsset, AmountNotPositive, AmountTooLarge, UnknownWallet, NoOmnibusVault, DestinationIsOurs,
    DestinationNotListed, WindowTooShort, what `receivers.opens_account` raises, PolicyUnknown, PolicyDenies, what `fees.agree`
    raises, InsufficientFunds. Locks the ledger accounts of wallet (or suspense) and vault.
    """
    await uow.lock(f"withdrawal/{uow.tenant}/{command.id}")
    destination = check_destination(command.asset, command.destination, command.memo)
    check_amount(command.asset, command.amount)
    earlier = await store.load_withdrawal(uow, command.id)
    if earlier is not None:
        return _same(earlier, command, destination.address)
    drafted = await requesting.draft(
        uow, principal, command, destination, settings=settings, clock=clock, receiver=receiver
    )
    await clearance.write(uow, drafted.withdrawal)
    await ledger.post(uow, *drafted.holds)
    return await clearance.screen(
        uow, drafted.withdrawal, drafted.verdict, asks_outside=settings.screening is not None
    )


async def decide(uow: UnitOfWork, withdrawal_id: WithdrawalId, decision: Decision) -> Withdrawal:
    """Record one approver's signed word, and move on when the policy says so.

    The same word again gets the same answer, also after the withdrawal has moved on. A line of a batch can be rejected by itself
    and not approved. Raises InvalidDecision (signature, key, person), DecisionExistsDifferent, DecisionTooEarly, DecisionTooLate,
    LineOfBatch, UnknownWithdrawal. Locks the withdrawal.
    """
    withdrawal = await _lock(uow, withdrawal_id)
    batch = await batch_store.find_batch_of(uow, withdrawal_id)
    if batch is not None and decision.word is Word.APPROVE:
        raise LineOfBatch(batch=str(batch.id))
    policy = await policies.at_version(uow, withdrawal.policy_version)
    verify_decision(withdrawal.intent, policy, decision)
    given = await approvals.list_for(uow, withdrawal.digest)
    earlier = next((each for each in given if each.approver == decision.approver), None)
    if earlier is not None and earlier.word is not decision.word:
        raise DecisionExistsDifferent(approver=decision.approver, decided=earlier.word.value)
    if earlier is not None:
        return withdrawal
    if withdrawal.state in BEFORE_APPROVERS:
        raise DecisionTooEarly(state=withdrawal.state)
    if withdrawal.state not in WITHDRAWALS.sources("reject"):
        raise DecisionTooLate(state=withdrawal.state)
    await approvals.record(uow, withdrawal.digest, decision)
    verdict = evaluate(policy, intents.facts_of(withdrawal.intent), [*given, decision])
    if verdict.standing is Standing.REJECTED:
        await _release(uow, withdrawal)
    await _announce_decision(uow, withdrawal, decision, verdict)
    actor = f"approver:{decision.approver}"
    if verdict.standing is Standing.REJECTED:
        return await move(uow, withdrawal, "reject", actor=actor, reason=f"rejected by {decision.approver}")
    if verdict.standing is Standing.APPROVED and withdrawal.state in WITHDRAWALS.sources("approve"):
        return await cooling.approve(uow, withdrawal, actor=actor, rule=verdict.rule)
    return withdrawal


async def cancel(uow: UnitOfWork, principal: Principal, withdrawal_id: WithdrawalId) -> Withdrawal:
    """Take a withdrawal back before a key is touched; the hold is released. Cancelling again changes nothing.

    Edges come here by `voids.cancel`, which tells the signer first. Raises CancelTooLate, UnknownWithdrawal. Locks the
    withdrawal.
    """
    withdrawal = await _lock(uow, withdrawal_id)
    if principal.customer is not None:
        await _refuse_others(uow, principal, withdrawal)
    if withdrawal.state == WITHDRAWALS.target_of("cancel"):
        return withdrawal
    if withdrawal.state not in WITHDRAWALS.sources("cancel"):
        raise CancelTooLate(state=withdrawal.state)
    await _release(uow, withdrawal)
    return await move(uow, withdrawal, "cancel", actor=principal.subject, reason="cancelled by requester")


async def _refuse_others(uow: UnitOfWork, principal: Principal, withdrawal: Withdrawal) -> None:
    """A customer takes back its own withdrawals only; others look as if they were not there."""
    if withdrawal.wallet_id is None:
        raise UnknownWithdrawal
    try:
        await wallets.get_own_wallet(uow, principal, withdrawal.wallet_id)
    except UnknownWallet as error:
        raise UnknownWithdrawal from error


async def expire_due(
    uow: UnitOfWork, now: datetime, limit: int = 100, *, but: Collection[WithdrawalId] = ()
) -> int:
    """End the withdrawals whose window has closed before a key was touched, `but` some. Returns how many.

    The worker comes here by `voids.expire_due`, which tells the signer first.
    """
    overdue = [
        await _lock(uow, found) for found in await store.load_overdue(uow, now, limit) if found not in but
    ]
    still = [each for each in overdue if each.state in WITHDRAWALS.sources("expire")]
    for withdrawal in still:
        await _release(uow, withdrawal)
    for withdrawal in still:
        await move(uow, withdrawal, "expire", actor="worker", reason="window closed")
    return len(still)


async def due(session: ReadSession, limit: int = 100) -> list[WithdrawalId]:
    """Withdrawals that a worker should advance now."""
    return await store.load_due(session, limit)


async def get(session: ReadSession, withdrawal_id: WithdrawalId) -> Withdrawal:
    """One withdrawal. Raises UnknownWithdrawal."""
    found = await store.load_withdrawal(session, withdrawal_id)
    if found is None:
        raise UnknownWithdrawal
    return found


async def view(session: ReadSession, withdrawal_id: WithdrawalId) -> WithdrawalView:
    """One withdrawal with its decisions, who is missing, its intent's fields and its attempts. Raises UnknownWithdrawal."""
    (alone,) = await views(session, [await get(session, withdrawal_id)])
    batch = await batch_store.find_batch_of(session, withdrawal_id)
    if batch is None:
        return alone
    whole = await batches.view(session, batch.id)
    return replace(alone, decisions=whole.decisions, verdict=whole.verdict)


async def views(session: ReadSession, found: Sequence[Withdrawal]) -> list[WithdrawalView]:
    """The same for withdrawals that are lines of no batch: as many questions for a page as for one."""
    ids = [each.id for each in found]
    versions = {each.policy_version for each in found}
    policy = {version: await policies.at_version(session, version) for version in versions}
    decisions = await approvals.list_for_all(session, [each.digest for each in found])
    attempts = await attempt_store.load_attempts_of(session, ids)
    screenings = await screening.list_results(session, ids)
    return [
        WithdrawalView(
            withdrawal=each,
            decisions=tuple(decided := decisions.get(each.digest, [])),
            verdict=evaluate(policy[each.policy_version], intents.facts_of(each.intent), decided),
            approver_set_version=policy[each.policy_version].approver_set_version,
            approvers=policy[each.policy_version].approvers,
            fields=intents.show(each.intent),
            attempts=tuple(one for one in attempts if one.withdrawal_id == each.id),
            screenings=tuple(one for one in screenings if one.withdrawal_id == each.id),
        )
        for each in found
    ]


def intent_kind(withdrawal: Withdrawal) -> str:
    """By what form it pays: a payment, the opening of an account, money set aside to be claimed. Source: SPEC.md section 2."""
    return intents.show(withdrawal.intent)["kind"]


async def find_withdrawals(session: ReadSession, ids: Collection[WithdrawalId]) -> list[Withdrawal]:
    """Those of these withdrawals that are this tenant's: one question for a whole page of references."""
    return await store.load_withdrawals_of_ids(session, ids)


async def list_attempts(session: ReadSession, ids: Collection[WithdrawalId]) -> list[Attempt]:
    """The attempts of some withdrawals, oldest first: one question for a whole page."""
    return await attempt_store.load_attempts_of(session, ids)


async def list_ended_above(session: ReadSession, chain: ChainId, height: int) -> list[Attempt]:
    """Transactions of ours that ended in blocks above a height: what is at stake when they are replaced."""
    return await attempt_store.load_ended_above(session, chain, height)


async def list_withdrawals(
    session: ReadSession,
    after: WithdrawalId | None = None,
    limit: int = 50,
    *,
    wallet_id: WalletId | None = None,
    states: Sequence[str] = (),
    alone: bool = False,
    newest_first: bool = False,
) -> list[Withdrawal]:
    """A page in order of arrival or the reverse, after one of them; of one wallet, in some states, and without lines of batches,
    when told."""
    return await store.load_page(
        session, after, limit, wallet_id, states, alone=alone, newest_first=newest_first
    )


def _same(earlier: Withdrawal, command: RequestWithdrawal, destination: str) -> Withdrawal:
    asked = (command.kind, command.wallet_id, command.asset, destination, command.memo, command.amount)
    kept = (earlier.kind, earlier.wallet_id, earlier.asset, earlier.destination, earlier.memo, earlier.amount)
    quoted = None if earlier.fee is None else earlier.fee.quote_id
    if asked != kept or (command.execute_after, command.quote_id) != (earlier.execute_after, quoted):
        raise WithdrawalExistsDifferent(id=str(command.id))
    return earlier


async def _announce_decision(
    uow: UnitOfWork, withdrawal: Withdrawal, decision: Decision, verdict: Verdict
) -> None:
    detail = {"approver": decision.approver, "decision": decision.word.value, "missing": verdict.missing}
    await outbox.emit(uow, "withdrawal.decided", withdrawal.id, snapshot(withdrawal) | detail)
    await audit.record(
        uow,
        f"approver:{decision.approver}",
        "withdrawal.decide",
        withdrawal.id,
        {**detail, "public_key": decision.public_key, "signature": decision.signature},
    )


async def _release(uow: UnitOfWork, withdrawal: Withdrawal) -> None:
    commands = release(withdrawal)
    if commands:
        await ledger.post(uow, *commands)


async def _lock(uow: UnitOfWork, withdrawal_id: WithdrawalId) -> Withdrawal:
    found = await store.lock_withdrawal(uow, withdrawal_id)
    if found is None:
        raise UnknownWithdrawal
    return found
