"""A higher fee for what is stuck: the fee account wraps the very transaction that was signed before. Source: CAP-15.

A fee bump changes nothing of what it is wrapped around, so it can pay no second time: the inner transaction keeps its hash, its
sequence and its bounds, and our own ingestion ends the inner attempt whichever of the two envelopes a ledger takes. The bump is
a withdrawal of its own, without amount: its intent goes through the policy, its outer hash is an attempt of the fee account, and
the fee is booked there.
"""

from __future__ import annotations

from dataclasses import replace

import structlog

from custody.chain_settings import STELLAR_RESERVE
from custody.chains.address import STELLAR, namespace
from custody.db.session import ReadSession, UnitOfWork
from custody.kernel.assetid import ChainId, native
from custody.kernel.errors import Refused, Unavailable
from custody.kernel.ids import TenantId, WithdrawalId, derived_uuid
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.settings import ChainSettings
from custody.signing import intents
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from custody.withdrawals import attempt_store, channel_store, drafts, store
from custody.withdrawals.model import Attempt, Memo, Withdrawal
from custody.withdrawals.operations import Operation, new_operation
from custody.withdrawals.ports import Means
from custody.withdrawals.refills import FEES
from custody.withdrawals.slots_stellar import bump_due

_BUMPED = ("payment", "return")
"""Kinds that are worth a higher fee; a refill is simply asked for again."""

_log = structlog.get_logger(__name__)


async def bump_if_stuck(means: Means, tenant: TenantId, withdrawal: Withdrawal) -> WithdrawalId | None:
    """Ask for a fee bump when an attempt that was sent is stuck for its fee. Returns the bump, or None.

    Safe to call at any time and by several at once: a bump's id follows from its attempt and number.
    """
    chain_id = withdrawal.asset.chain
    if namespace(chain_id) != STELLAR or withdrawal.kind not in _BUMPED:
        return None
    chain = means.settings.chain(chain_id)
    if not chain.fee_bump_max_stroops:
        return None
    async with means.db.read(tenant) as session:
        attempt = await attempt_store.load_open(session, withdrawal.id)
        payer = await _payer(session, chain_id, chain)
        height = await store.load_height(session, chain_id)
        bumps = len(await channel_store.load_bumps(session, withdrawal.digest))
    if payer is None or attempt is None or not await _is_due(means, chain, attempt, height, bumps):
        return None
    return await _request(means, tenant, withdrawal, attempt, payer, chain, bumps)


async def _payer(session: ReadSession, chain_id: ChainId, chain: ChainSettings) -> Vault | None:
    """The fee account, if it can pay the dearest bump."""
    for vault in await wallets.list_vaults(session, chain_id, FEES):
        held = await ledger.balance(session, postings.vault_account(vault.id, native(chain_id)))
        if held.available >= STELLAR_RESERVE + chain.fee_bump_max_stroops:
            return vault
    return None


async def _is_due(
    means: Means, chain: ChainSettings, attempt: Attempt, height: int | None, bumps: int
) -> bool:
    """Whether it is stuck. The node is asked only about an attempt that has waited long enough."""
    client = means.clients.get(ChainId(chain.id))
    waited = height is not None and attempt.max_ledger is not None
    if client is None or not waited or attempt.state != "broadcast":
        return False
    try:
        quote = await client.fees()
    except Unavailable as error:
        _log.info("withdrawal.bump_waits", attempt_id=str(attempt.id), reason=str(error))
        return False
    return bump_due(
        attempt, own_height=height, valid_ledgers=chain.tx_valid_ledgers, bumps=bumps, quote=quote
    )


async def _request(
    means: Means,
    tenant: TenantId,
    inner: Withdrawal,
    attempt: Attempt,
    payer: Vault,
    chain: ChainSettings,
    bumps: int,
) -> WithdrawalId | None:
    bump_id = WithdrawalId(derived_uuid("fee_bump", attempt.id, bumps + 1))
    try:
        async with means.db.unit_of_work(tenant) as uow:
            await uow.lock(f"withdrawal/{tenant}/{bump_id}")
            if await store.load_withdrawal(uow, bump_id) is None:
                await _write(uow, means, bump_id, inner, attempt, payer, chain)
    except Refused as error:
        # The policy allows no bump, or none so dear: the inner transaction goes on as it is, and operators see why.
        _log.warning("withdrawal.bump_refused", withdrawal_id=str(inner.id), reason=error.code)
        return None
    _log.info("withdrawal.bumped", withdrawal_id=str(inner.id), bump_id=str(bump_id), number=bumps + 1)
    return bump_id


async def _write(
    uow: UnitOfWork,
    means: Means,
    bump_id: WithdrawalId,
    inner: Withdrawal,
    attempt: Attempt,
    payer: Vault,
    chain: ChainSettings,
) -> None:
    """The intent, valid no longer than what it is wrapped around. Raises PolicyDenies."""
    principal = drafts.worker_principal(uow.tenant)
    source = await drafts.source(uow, principal, bump_id, payer, means.settings, means.clock)
    source = replace(source, expires_at=min(source.expires_at, attempt.max_time or source.expires_at))
    caps = replace(drafts.stellar_caps(chain), max_fee=chain.fee_bump_max_stroops)
    intent = intents.build_fee_bump_intent(source, caps, inner=inner.digest)
    verdict = await drafts.allowed(uow, intent)
    operation = Operation(
        kind="fee_bump",
        asset=native(payer.chain),
        destination=payer.account,
        memo=Memo(type="hash", value=inner.digest.hex()),
        intent=intent,
    )
    await drafts.begin(uow, new_operation(principal, source, payer, operation, means.clock), verdict)
