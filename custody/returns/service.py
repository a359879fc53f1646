"""Send suspended money back to where it came from: a withdrawal paid by suspense, through the same quorum as any other.

The case's row and the withdrawal move in one transaction, so that a case is returned once at most: it is `returning` while its
withdrawal may still pay, and open again only after that has ended unpaid.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from custody.chains import address as addresses
from custody.chains.errors import InvalidAddress
from custody.chains.stellar.receivers import Receiver
from custody.db.session import UnitOfWork
from custody.deposits import cases
from custody.deposits.model import DepositCase
from custody.deposits.transitions import DEPOSIT_CASES
from custody.identity.model import Principal
from custody.kernel.assetid import ChainId
from custody.kernel.clock import Clock
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import CaseId, WithdrawalId
from custody.returns.errors import NoSender, NotTheSender
from custody.settings import Settings
from custody.withdrawals import service as withdrawals
from custody.withdrawals.model import UNPAID, Memo, RequestWithdrawal, Withdrawal
from custody.withdrawals.moves import WORKER


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestReturn:
    """What an operator asks for. The destination is said again, with its memo: many senders share one account, and an exchange's
    must be told whose money comes back."""

    id: WithdrawalId
    """Chosen by the edge: the withdrawal's."""
    case_id: CaseId
    """Whose money."""
    destination: str
    """The sender's account, or a muxed address of it."""
    memo: Memo
    """What the sender wants to read; `NO_MEMO` when the operator says that none is needed."""
    note: str = ""
    """Why, for the audit log."""


async def request(
    uow: UnitOfWork,
    principal: Principal,
    command: RequestReturn,
    *,
    settings: Settings,
    clock: Clock,
    receiver: Receiver | None = None,
) -> tuple[DepositCase, Withdrawal]:
    """Ask for a return of all of a case's money. Idempotent by the withdrawal's id. `receiver` is what was looked up just before.

    Raises UnknownCase, CaseDecided, CaseNotBooked, NotTheSender, NoSender, BadNote and whatever a withdrawal raises. Locks the
    deposit, its case, the ledger accounts of suspense and vault.
    """
    case, deposit = await cases.lock(uow, command.case_id)
    if case.withdrawal_id == command.id:
        return case, await withdrawals.get(uow, command.id)
    if case.withdrawal_id is not None:
        case = await _look_again(uow, principal.subject, case)
    cases.demand_movable(case, "return")
    _demand_sender(case.asset.chain, deposit.transfer.source, command.destination)
    wanted = RequestWithdrawal(
        id=command.id,
        wallet_id=None,
        asset=case.asset,
        destination=command.destination,
        amount=case.amount,
        memo=command.memo,
    )
    made = await withdrawals.request(
        uow, principal, wanted, settings=settings, clock=clock, receiver=receiver
    )
    case = await cases.begin_return(uow, principal.subject, case, made.id, command.note)
    return case, made


async def settle(uow: UnitOfWork, actor: str, settled: Collection[Withdrawal]) -> None:
    """These withdrawals are final on chain, in this transaction: the cases that they return end. Others are passed over.

    Raises InvariantViolated when one has paid without its case: suspense is then other people's money.
    """
    ids = {each.id for each in settled if each.kind == "return"}
    if not ids:
        return
    found = await cases.cases_of_withdrawals(uow, ids)
    if strange := ids - {case.withdrawal_id for case in found}:
        raise InvariantViolated("a return has paid without its case", withdrawal_id=min(map(str, strange)))
    for case in found:
        await cases.settle_return(uow, actor, case)


async def reopen_unpaid(uow: UnitOfWork, limit: int = 100) -> int:
    """Open the cases again whose withdrawal has ended unpaid. Returns how many. Idempotent: the worker's sweep calls it."""
    under_way = await cases.list_cases(uow, states=("returning",), limit=limit)
    opened = [await _look_again(uow, WORKER, case) for case in under_way]
    return sum(case.state == DEPOSIT_CASES.target_of("reopen") for case in opened)


async def _look_again(uow: UnitOfWork, actor: str, case: DepositCase) -> DepositCase:
    """The case, open again if its withdrawal has ended unpaid."""
    if case.withdrawal_id is None:
        raise InvariantViolated("a case is being returned by nothing", id=case.id)
    withdrawal = await withdrawals.get(uow, case.withdrawal_id)
    return await cases.reopen(uow, actor, case) if withdrawal.state in UNPAID else case


def _demand_sender(chain: ChainId, source: str, destination: str) -> None:
    """Raises NoSender, NotTheSender, InvalidAddress."""
    wanted = addresses.parse(chain, destination)
    try:
        sender = addresses.parse(chain, source)
    except InvalidAddress as error:
        raise NoSender(source=source) from error
    if wanted.account != sender.account:
        raise NotTheSender(source=source)
