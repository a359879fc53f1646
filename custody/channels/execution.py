"""See to it that each tenant has as many channels as are configured, and a fee account, and that these can pay.

Each round looks at what is there and asks for what is missing: a key in the HSM, an account on chain, money. Nothing is
remembered between rounds, and every request has an id that follows from what it is for, so a round may die anywhere, and several
may run at once. What is asked for goes through the policy like all else; where that wants people, the round waits for them.
"""

from __future__ import annotations

from datetime import datetime

import structlog

from custody.channels.plan import Refill, next_refill
from custody.db.session import Database, ReadSession
from custody.deposits import execution as vaults
from custody.deposits.ports import KeyMaker
from custody.kernel.assetid import ChainId, native
from custody.kernel.clock import Clock
from custody.kernel.errors import CustodyError
from custody.kernel.ids import TenantId, WithdrawalId, derived_uuid
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.settings import ChainSettings, Settings
from custody.wallets import service as wallets
from custody.wallets.errors import NoOmnibusVault
from custody.wallets.model import Vault
from custody.withdrawals import service as withdrawals
from custody.withdrawals.drafts import worker_principal
from custody.withdrawals.refills import CHANNELS, FEES, list_refills

_log = structlog.get_logger(__name__)


async def tend(
    db: Database, keys: KeyMaker, settings: Settings, clock: Clock, tenant: TenantId
) -> list[WithdrawalId]:
    """One round for one tenant, on every Stellar chain. Returns the refills that it asked for.

    What the signer, the policy or the ledger refuses is told to operators and tried again in a later round; it keeps nothing else
    waiting. Idempotent.
    """
    asked: list[WithdrawalId] = []
    for chain in settings.chains:
        if not chain.channels and not chain.fee_bump_max_stroops:
            continue
        async with db.read(tenant) as session:
            try:
                await wallets.omnibus(session, ChainId(chain.id))
            except NoOmnibusVault:
                continue
        for purpose, count in ((FEES, int(chain.fee_bump_max_stroops > 0)), (CHANNELS, chain.channels)):
            try:
                asker = worker_principal(tenant)
                for vault in await vaults.find_or_make(db, keys, asker, ChainId(chain.id), purpose, count):
                    refill = await _fill(db, settings, clock, tenant, vault, _full(chain, purpose))
                    asked += [] if refill is None else [refill]
            except CustodyError as error:
                _log.warning(
                    "channels.waiting", tenant=tenant, chain=chain.id, purpose=purpose, reason=str(error)
                )
    return asked


def _full(chain: ChainSettings, purpose: str) -> tuple[int, int]:
    """What such an account holds when it is full, and the highest fee that it pays at once."""
    if purpose == FEES:
        return chain.fee_account_balance_stroops, chain.fee_bump_max_stroops
    return chain.channel_balance_stroops, chain.max_fee_stroops


async def _fill(
    db: Database, settings: Settings, clock: Clock, tenant: TenantId, vault: Vault, full: tuple[int, int]
) -> WithdrawalId | None:
    async with db.read(tenant) as session:
        refill = await _missing(session, vault, full, clock.now())
    if refill is None:
        return None
    refill_id = WithdrawalId(derived_uuid("refill", vault.id, refill.number))
    async with db.unit_of_work(tenant) as uow:
        made = await withdrawals.request_refill(
            uow,
            worker_principal(tenant),
            refill_id,
            vault,
            refill.amount,
            opens=refill.opens,
            settings=settings,
            clock=clock,
        )
    return made.id


async def _missing(session: ReadSession, vault: Vault, full: tuple[int, int], now: datetime) -> Refill | None:
    balance = await ledger.balance(session, postings.vault_account(vault.id, native(vault.chain)))
    return next_refill(
        await list_refills(session, vault.id), held=balance.posted, full=full[0], fee_max=full[1], now=now
    )
