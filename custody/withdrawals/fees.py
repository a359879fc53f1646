"""What a withdrawal costs its wallet: held with the amount, charged or released with it, as ledger legs of its own. Mostly pure.

The fee stands on the withdrawal's row. Its legs are part of the postings that hold, settle or release the amount, so that neither
is without the other: held = charged + released, to the unit, in every end.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from custody.db.session import UnitOfWork
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger.model import Command
from custody.tariffs import service as tariffs
from custody.tariffs.errors import QuoteUsed
from custody.tariffs.model import HeldFee
from custody.withdrawals import fee_store
from custody.withdrawals.model import Attempt, RequestWithdrawal, Withdrawal
from custody.withdrawals.transitions import WITHDRAWALS

_SETTLED = WITHDRAWALS.target_of("settle")


async def agree(uow: UnitOfWork, command: RequestWithdrawal, now: datetime) -> HeldFee | None:
    """What it may cost, by the quote that it names or by the tariff in force; None for what costs nothing.

    Raises what `tariffs.service.agree` raises, and QuoteUsed. Locks the quote.
    """
    if command.wallet_id is None:
        return None
    if command.quote_id is not None:
        await uow.lock(f"withdrawal_quote/{uow.tenant}/{command.quote_id}")
        if await fee_store.is_quote_used(uow, command.quote_id):
            raise QuoteUsed(id=str(command.quote_id))
    amount = Amount(command.asset, command.amount)
    return await tariffs.agree(uow, command.wallet_id, amount, command.quote_id, now)


def held(command: RequestWithdrawal, fee: HeldFee | None) -> tuple[Command, ...]:
    """The legs that hold it, to be posted with the amount's."""
    if fee is None or fee.held == 0 or command.wallet_id is None:
        return ()
    return postings.withdrawal_fee_held(
        withdrawal_id=command.id, wallet_id=command.wallet_id, fee=Amount(command.asset, fee.held)
    )


def released(withdrawal: Withdrawal) -> tuple[Command, ...]:
    """The legs that give all of it back: what ends unpaid costs nothing, whatever the network took."""
    if withdrawal.fee is None or withdrawal.fee.held == 0:
        return ()
    return postings.withdrawal_fee_released(withdrawal_id=withdrawal.id)


def charged(withdrawal: Withdrawal, network_cost: int) -> tuple[Command, ...]:
    """The legs that charge a settled one, and release the rest of what was held."""
    fee = withdrawal.fee
    if fee is None or fee.held == 0:
        return ()
    charge = fee.charge_for(network_cost)
    if charge == 0:
        return postings.withdrawal_fee_released(withdrawal_id=withdrawal.id)
    return postings.withdrawal_fee_charged(
        withdrawal_id=withdrawal.id, charge=Amount(withdrawal.asset, charge)
    )


def ended(withdrawal: Withdrawal, event: str, network_cost: int) -> dict[str, int]:
    """What the withdrawal's row notes with a move: what was charged, once it has ended."""
    target = WITHDRAWALS.target_of(event)
    if withdrawal.fee is None or target not in WITHDRAWALS.terminal:
        return {}
    return {"fee_charged": withdrawal.fee.charge_for(network_cost) if target == _SETTLED else 0}


def network_costs(included: Iterable[tuple[Withdrawal, Attempt]]) -> dict[str, int]:
    """What the chain took for each intent, by its digest, in atomic units of its own currency. A fee bump is in the same ledger
    as what it is wrapped around, and part of its cost."""
    costs: dict[str, int] = {}
    for withdrawal, attempt in included:
        key = cost_key(withdrawal)
        costs[key] = costs.get(key, 0) + (attempt.fee_paid or 0)
    return costs


def cost_key(withdrawal: Withdrawal) -> str:
    """Under which digest its cost is counted."""
    return withdrawal.memo.value if withdrawal.kind == "fee_bump" else withdrawal.digest.hex()
