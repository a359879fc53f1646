"""The event for outsiders and the entry for examiners, of each change of a deposit's state."""

from __future__ import annotations

from custody.audit import service as audit
from custody.db.session import UnitOfWork
from custody.deposits.model import ObservedTransfer
from custody.events import outbox
from custody.kernel.ids import DepositId, WalletId

ACTOR = "ingestion"
"""Who the audit log names: nobody asked for a deposit, the chain brought it."""


async def tell(
    uow: UnitOfWork,
    fact: str,
    deposit_id: DepositId,
    transfer: ObservedTransfer,
    wallet_id: WalletId | None,
    actor: str = ACTOR,
) -> None:
    """Say what became of a deposit. Heard only if the transaction commits."""
    data = {
        "chain": transfer.chain,
        "height": transfer.height,
        "block_hash": transfer.block_hash,
        "tx_hash": transfer.tx_hash,
        "ordinal": transfer.ordinal,
        "asset": transfer.asset.text,
        "amount": str(transfer.amount),
        "wallet_id": None if wallet_id is None else str(wallet_id),
    }
    await outbox.emit(uow, f"deposit.{fact}", deposit_id, data)
    await audit.record(uow, actor, f"deposit.{fact}", deposit_id, data)
