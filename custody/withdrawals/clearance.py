"""Whether a receiver may be paid at all, found out before approvers are asked, and looked at once more before a key is touched.

The tenant's own list is judged at once, in the request's transaction. An outside screener, where one is configured, is asked by
the worker: decide and commit, ask with no transaction open, record. Nothing but its own clear word moves a withdrawal on; while
nothing is known it stays in `screening`, is asked about again under the same reference, and is shown as stuck once that lasts.
"""

from __future__ import annotations

from custody.chains import address as addresses
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.ids import TenantId, derived_uuid
from custody.ledger import service as ledger
from custody.policy import service as policies
from custody.policy.evaluate import evaluate
from custody.policy.model import Standing, Verdict
from custody.screening import service as screening
from custody.screening.model import Finding, Question
from custody.signing import batches as documents
from custody.signing import intents
from custody.withdrawals import batch_store, cooling, cooling_store, store
from custody.withdrawals.model import OUTSIDE, Withdrawal
from custody.withdrawals.moves import announce, move
from custody.withdrawals.ports import Means
from custody.withdrawals.reservation import flag
from custody.withdrawals.settlement import release
from custody.withdrawals.stops import refuse_stopped
from custody.withdrawals.transitions import WITHDRAWALS

SCREENING = "screening"
"""Actor of what the list and outside screeners decide."""
_ASK_AGAIN_MIN_S = 2
_ASK_AGAIN_MAX_S = 60


async def write(uow: UnitOfWork, new: Withdrawal) -> None:
    """Write a new payment and tell of it; its receiver is still to be judged. Before its hold, as switches go before accounts.

    Raises StoppedBySwitch."""
    await refuse_stopped(uow, new)
    await store.insert_withdrawal(uow, new)
    await announce(uow, new, new.initiator)


async def screen(
    uow: UnitOfWork, withdrawal: Withdrawal, verdict: Verdict, *, asks_outside: bool
) -> Withdrawal:
    """From `requested` on: blocked by the list, cleared by it, or still to be asked about outside.

    `verdict` is how the policy stands before anybody has decided."""
    moved = await move(uow, withdrawal, "screen", actor=SCREENING)
    answer = await screening.judge(uow, moved.id, question_about(moved))
    if answer.finding is Finding.HIT:
        return await _block(uow, moved, f"refused by the list, {answer.detail}")
    return moved if asks_outside else await _clear(uow, moved, verdict)


async def ask(means: Means, tenant: TenantId, withdrawal: Withdrawal) -> bool:
    """The worker's step in `requested` and `screening`. Returns whether another may follow at once."""
    if withdrawal.state == "requested" or means.screener is None:
        async with means.db.unit_of_work(tenant) as uow:
            locked = await store.lock_withdrawal(uow, withdrawal.id)
            if locked is None or locked.state != withdrawal.state:
                return True
            if locked.state == "requested":
                verdict = await _undecided(uow, locked)
                await screen(uow, locked, verdict, asks_outside=means.screener is not None)
                return True
            # It was asked for while somebody outside was to be asked. That this worker knows nobody clears nothing.
            await _wait(uow, means, locked)
            return False
    question = question_about(withdrawal)
    answer = await means.screener.screen(question)
    async with means.db.unit_of_work(tenant) as uow:
        locked = await store.lock_withdrawal(uow, withdrawal.id)
        if locked is None or locked.state != withdrawal.state:
            return True
        await screening.record(uow, locked.id, means.screener.name, question, answer)
        match answer.finding:
            case Finding.CLEAR:
                await _clear(uow, locked, await _undecided(uow, locked))
            case Finding.HIT:
                await _block(uow, locked, f"refused by {means.screener.name}")
            case Finding.UNKNOWN:
                await _wait(uow, means, locked)
        return answer.finding is not Finding.UNKNOWN


async def is_clear(session: ReadSession, withdrawal: Withdrawal) -> bool:
    """Whether the list still lets it pass, looked at once more before a slot is reserved."""
    if withdrawal.kind not in OUTSIDE or withdrawal.state not in WITHDRAWALS.sources("reserve"):
        return True
    return await screening.find_refusal(session, question_about(withdrawal)) is None


async def block_refused(uow: UnitOfWork, withdrawal: Withdrawal) -> None:
    """Block what the list names now. The caller has locked the row, and the signer knows already that it is not to be signed."""
    answer = await screening.judge(uow, withdrawal.id, question_about(withdrawal))
    if answer.finding is Finding.HIT:
        await _block(uow, withdrawal, f"refused by the list, {answer.detail}")


def question_about(withdrawal: Withdrawal) -> Question:
    """What is asked about its receiver, under a reference that follows from the withdrawal."""
    chain = withdrawal.asset.chain
    return Question(
        reference=derived_uuid("screening", withdrawal.id),
        chain=chain,
        account=addresses.parse(chain, withdrawal.destination).account,
        asset=withdrawal.asset,
        amount=withdrawal.amount,
    )


async def _undecided(uow: UnitOfWork, withdrawal: Withdrawal) -> Verdict:
    """How the intent's policy stands towards it, or towards the batch that it is a line of, before anybody has decided."""
    policy = await policies.at_version(uow, withdrawal.policy_version)
    batch = await batch_store.find_batch_of(uow, withdrawal.id)
    if batch is not None:
        ids = await batch_store.load_line_ids(uow, batch.id)
        lines = await store.load_withdrawals_of_ids(uow, ids)
        return documents.judge(policy, [line.intent for line in lines], ())
    return evaluate(policy, intents.facts_of(withdrawal.intent), ())


async def _clear(uow: UnitOfWork, withdrawal: Withdrawal, verdict: Verdict) -> Withdrawal:
    """Approvers are asked now; approved at once when the policy asks nobody."""
    cleared = await move(uow, withdrawal, "clear", actor=SCREENING)
    if verdict.standing is Standing.APPROVED:
        return await cooling.approve(uow, cleared, actor="policy", rule=verdict.rule)
    return cleared


async def _block(uow: UnitOfWork, withdrawal: Withdrawal, reason: str) -> Withdrawal:
    if commands := release(withdrawal):
        await ledger.post(uow, *commands)
    return await move(uow, withdrawal, "block", actor=SCREENING, reason=reason)


async def _wait(uow: UnitOfWork, means: Means, withdrawal: Withdrawal) -> None:
    """Ask again, less and less often; tell operators once it lasts."""
    age_s = await cooling_store.load_age_s(uow, withdrawal)
    limits = means.settings.screening
    if limits is None or age_s >= limits.stuck_after_s:
        await flag(uow, withdrawal, "screening_unknown")
    await store.look_again(uow, withdrawal, min(max(_ASK_AGAIN_MIN_S, age_s), _ASK_AGAIN_MAX_S))
