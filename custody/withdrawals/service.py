"""Withdrawals: ask for one, decide about it, take it back, let it expire, read it.

What is asked of a vault itself is in `operations`, execution in `execution`, what the chain shows in `settlement`; callers find
all but execution here.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from custody.approvals import service as approvals
from custody.approvals.errors import DecisionExistsDifferent
from custody.assets import service as assets
from custody.audit import service as audit
from custody.chains.stellar.receivers import Receiver
from custody.db.session import ReadSession, UnitOfWork
from custody.events import outbox
from custody.identity.model import Principal
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.clock import Clock
from custody.kernel.ids import WalletId, WithdrawalId
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.policy import service as policies
from custody.policy.evaluate import evaluate
from custody.policy.model import Decision, Standing, Verdict
from custody.settings import ChainSettings, Settings
from custody.signing import intents
from custody.signing.decisions import verify_decision
from custody.signing.intents import Caps, EvmCaps
from custody.wallets import service as wallets
from custody.withdrawals import attempt_store, drafts, store
from custody.withdrawals.checks import check_amount, check_destination
from custody.withdrawals.errors import (
    CancelTooLate,
    DecisionTooLate,
    DestinationIsOurs,
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
from custody.withdrawals.payments import draft_payment
from custody.withdrawals.refills import find_refills, request_refill
from custody.withdrawals.settlement import (
    concede,
    end,
    find_final,
    observe_transaction,
    orphan_above,
    release,
)
from custody.withdrawals.transitions import WITHDRAWALS

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
    """Hold the money and write the intent that approvers sign. `receiver` is what `receivers.look_up` said just before.

    Idempotent by id; raises WithdrawalExistsDifferent for other content. Raises InvalidAddress, InvalidMemo, MemoNotAllowed,
    UnknownAsset, UnsupportedAsset, AmountNotPositive, AmountTooLarge, UnknownWallet, NoOmnibusVault, DestinationIsOurs,
    what `receivers.opens_account` raises, PolicyUnknown, PolicyDenies, InsufficientFunds. Locks the ledger accounts of wallet (or
    suspense) and vault.
    """
    await uow.lock(f"withdrawal/{uow.tenant}/{command.id}")
    destination = check_destination(command.asset, command.destination, command.memo)
    check_amount(command.asset, command.amount)
    earlier = await store.load_withdrawal(uow, command.id)
    if earlier is not None:
        return _same(earlier, command, destination.address)
    await assets.get(uow, command.asset)
    chain = drafts.configured(settings, command.asset)
    if command.wallet_id is not None:
        await wallets.get_wallet(uow, command.wallet_id)
    vault = await wallets.omnibus(uow, command.asset.chain)
    await _refuse_own_vault(uow, command.asset.chain, destination.account)
    source = await drafts.source(uow, principal, command.id, vault, settings, clock)
    draft = await draft_payment(uow, command, destination, source, _caps(chain, command.asset), receiver)
    intent, verdict = draft.intent, draft.verdict
    await ledger.post(
        uow,
        *postings.withdrawal_held(
            withdrawal_id=command.id,
            wallet_id=command.wallet_id,
            vault_id=vault.id,
            amount=Amount(command.asset, command.amount),
        ),
    )
    new = Withdrawal(
        id=command.id,
        kind=command.kind,
        state=WITHDRAWALS.initial,
        wallet_id=command.wallet_id,
        vault_id=vault.id,
        asset=command.asset,
        destination=destination.address,
        memo=command.memo,
        amount=command.amount,
        intent=intent,
        digest=intents.digest(intent),
        policy_version=source.policy_version,
        initiator=principal.subject,
        principal_id=principal.id,
        reason="",
        expires_at=drafts.moment(source.expires_at),
        created_at=clock.now(),
        changed_at=clock.now(),
        channel_id=draft.channel_id,
    )
    return await drafts.begin(uow, new, verdict)


async def decide(uow: UnitOfWork, withdrawal_id: WithdrawalId, decision: Decision) -> Withdrawal:
    """Record one approver's signed word, and move on when the policy says so.

    The same word again gets the same answer, also after the withdrawal has moved on. Raises InvalidDecision (signature, key,
    person), DecisionExistsDifferent, DecisionTooLate, UnknownWithdrawal. Locks the withdrawal.
    """
    withdrawal = await _lock(uow, withdrawal_id)
    policy = await policies.at_version(uow, withdrawal.policy_version)
    verify_decision(withdrawal.intent, policy, decision)
    given = await approvals.list_for(uow, withdrawal.digest)
    earlier = next((each for each in given if each.approver == decision.approver), None)
    if earlier is not None and earlier.word is not decision.word:
        raise DecisionExistsDifferent(approver=decision.approver, decided=earlier.word.value)
    if earlier is not None:
        return withdrawal
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
        return await move(uow, withdrawal, "approve", actor=actor, detail={"rule": verdict.rule})
    return withdrawal


async def cancel(uow: UnitOfWork, principal: Principal, withdrawal_id: WithdrawalId) -> Withdrawal:
    """Take a withdrawal back before a key is touched; the hold is released. Cancelling again changes nothing.

    Raises CancelTooLate, UnknownWithdrawal. Locks the withdrawal.
    """
    withdrawal = await _lock(uow, withdrawal_id)
    if withdrawal.state == WITHDRAWALS.target_of("cancel"):
        return withdrawal
    if withdrawal.state not in WITHDRAWALS.sources("cancel"):
        raise CancelTooLate(state=withdrawal.state)
    await _release(uow, withdrawal)
    return await move(uow, withdrawal, "cancel", actor=principal.subject, reason="cancelled by requester")


async def expire_due(uow: UnitOfWork, now: datetime, limit: int = 100) -> int:
    """End the withdrawals whose window has closed before a key was touched. Returns how many."""
    overdue = [await _lock(uow, found) for found in await store.load_overdue(uow, now, limit)]
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
    withdrawal = await get(session, withdrawal_id)
    decisions = await approvals.list_for(session, withdrawal.digest)
    policy = await policies.at_version(session, withdrawal.policy_version)
    return WithdrawalView(
        withdrawal=withdrawal,
        decisions=tuple(decisions),
        verdict=evaluate(policy, intents.facts_of(withdrawal.intent), decisions),
        approver_set_version=policy.approver_set_version,
        approvers=policy.approvers,
        fields=intents.show(withdrawal.intent),
        attempts=tuple(await attempt_store.load_attempts(session, withdrawal_id)),
    )


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
    newest_first: bool = False,
) -> list[Withdrawal]:
    """A page in order of arrival or the reverse, after one of them; of one wallet, and in some states, when told."""
    return await store.load_page(session, after, limit, wallet_id, states, newest_first=newest_first)


def _same(earlier: Withdrawal, command: RequestWithdrawal, destination: str) -> Withdrawal:
    asked = (command.kind, command.wallet_id, command.asset, destination, command.memo, command.amount)
    kept = (earlier.kind, earlier.wallet_id, earlier.asset, earlier.destination, earlier.memo, earlier.amount)
    if asked != kept:
        raise WithdrawalExistsDifferent(id=str(command.id))
    return earlier


async def _refuse_own_vault(uow: UnitOfWork, chain: ChainId, account: str) -> None:
    refs = await wallets.find_vaults(uow, chain, [account])
    if any(ref.tenant == uow.tenant for ref in refs):
        raise DestinationIsOurs(account=account)


def _caps(chain: ChainSettings, asset: AssetId) -> Caps:
    if chain.kind == "stellar":
        return drafts.stellar_caps(chain)
    return EvmCaps(
        chain_id=chain.chain_id,
        gas_limit=chain.gas_limit_native if asset.is_native else chain.gas_limit_erc20,
        max_fee_per_gas=chain.max_fee_per_gas_wei,
        max_priority_fee_per_gas=chain.max_priority_fee_per_gas_wei,
    )


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
