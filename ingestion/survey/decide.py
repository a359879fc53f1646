"""What a person says about a break that nothing explains: money that arrived, or money that lay there before all history.

For where the survey could not find the block, because no node keeps the state to search in. At most once for each break, and only
as much as books and chain differ by when it is booked: so what is found otherwise meanwhile is not booked again.
"""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from custody.audit import service as audit
from custody.chains.address import EVM, namespace
from custody.db.session import Database, UnitOfWork
from custody.deposits import service as deposits
from custody.deposits.model import Caution, ObservedTransfer
from custody.holdings import service as holdings
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.ids import TenantId, VaultId
from custody.wallets import service as wallets
from custody.wallets.model import VaultRef
from ingestion import cursor, settling
from ingestion.bookings import waiting_bookings
from ingestion.errors import BreakNotOurs

Way = Literal["arrival", "opening"]
"""What it was: a payment to the account, credited by the rules for any other; or there before all that we read."""


async def settle_break(
    db: Database,
    chain: ChainId,
    tenant: TenantId,
    actor: str,
    break_id: UUID,
    way: Way,
    note: str,
    caution: Caution,
) -> int:
    """Book what the chain has more than the books; what `caution` holds back is left to the live loop. Returns the amount in
    atomic units.

    Raises BreakNotOurs unless the break is open and the chain has more, ChainHalted.
    """
    settled = 0

    async def observe(uow: UnitOfWork) -> list[tuple[VaultId, AssetId]]:
        nonlocal settled
        found = await holdings.find_open_break(uow, break_id)
        stands = await deposits.final_height(uow, chain)
        if found is None or stands is None or found.chain != chain or namespace(chain) != EVM:
            raise BreakNotOurs
        key = (found.opened.vault_id, found.opened.asset)
        waiting = waiting_bookings(await deposits.find_waiting(uow, chain, stands.height))
        now = await holdings.compare_now(uow, key, stands.height, waiting)
        if now is None or now.difference >= 0:
            raise BreakNotOurs
        settled = -now.difference
        told = {"way": way, "amount": str(settled), "asset": key[1].text, "note": note}
        await audit.record(uow, actor, "holding.break_settled", break_id, told)
        if way == "opening":
            await holdings.set_opening(uow, actor, key, now.opening + settled, note)
        else:
            await _observe_arrival(uow, chain, break_id, key, now.state_height, settled)
        return [key]

    await settling.settle_late(db, chain, tenant, observe, caution)
    return settled


async def _observe_arrival(
    uow: UnitOfWork, chain: ChainId, break_id: UUID, key: tuple[VaultId, AssetId], height: int, amount: int
) -> None:
    """An arrival placed by its break, in the block that showed the difference."""
    vault = await wallets.get_vault(uow, key[0])
    block = (await cursor.recorded(uow, chain, height, height)).get(height)
    if block is None:
        raise BreakNotOurs
    transfer = ObservedTransfer(
        chain=chain,
        height=height,
        block_hash=block.hash,
        tx_hash=f"break:{break_id.hex}",
        ordinal=0,
        asset=key[1],
        source="",
        account=vault.account,
        tag=None,
        amount=amount,
        occurred_at=block.closed_at,
    )
    ref = VaultRef(tenant=uow.tenant, vault_id=vault.id, account=vault.account)
    await deposits.observe(uow, ref, transfer)
