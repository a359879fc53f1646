"""Carry a withdrawal out on an EVM chain: a nonce for it, a dearer bid where it is stuck, a filler where a nonce is nobody's.

Alternatives on one nonce exclude each other, because the account's nonce passes once. So a replacement can pay nobody twice,
whichever of them a block takes; `settlement` ends the others with it.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from custody.audit import service as audit
from custody.chains.ports import ChainClient, FeeQuote, Submission
from custody.db.session import UnitOfWork
from custody.kernel.assetid import native
from custody.kernel.errors import Refused
from custody.kernel.ids import TenantId, WithdrawalId, new_uuid
from custody.policy import service as policies
from custody.signing import intents
from custody.signing.model import EvmSlot
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from custody.withdrawals import attempt_store, drafts, nonce_operations, stops, store, stray_store
from custody.withdrawals.attempt_slots import new_attempt
from custody.withdrawals.evm_slots import (
    EvmView,
    Pending,
    Prices,
    choose_evm,
    judge,
    lowest_free,
    outbid,
)
from custody.withdrawals.model import Attempt, Withdrawal
from custody.withdrawals.moves import WORKER
from custody.withdrawals.ports import Means
from custody.withdrawals.reservation import drop, flag, hold_off, take
from custody.withdrawals.slots import Wait

_log = structlog.get_logger(__name__)

_CANCEL_WAITS_S = 30
"""When to look again for a cancel whose caps no longer reach above what is on the nonce."""
_DEFERS_S = 60
"""When to look again at what stands back behind a cancel of its nonce."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a node said about a vault just before a reservation."""

    sequence: int
    """Next nonce, what is queued counted."""
    holds: int
    """Wei."""
    quote: FeeQuote
    """Going price."""


async def ask(client: ChainClient, vault: Vault) -> Asked:
    """What the node says now. Network only."""
    return Asked(
        sequence=await client.next_sequence(vault.account),
        holds=(await client.balance(vault.account, native(vault.chain), None)).amount,
        quote=await client.fees(),
    )


async def reserve(uow: UnitOfWork, means: Means, withdrawal: Withdrawal, vault: Vault, asked: Asked) -> bool:
    """Commit a nonce for it, or have it wait. Returns whether it has one. The caller has locked the vault's slots, and it."""
    if withdrawal.kind == "evm_cancel":
        return await _reserve_cancel(uow, means, withdrawal, vault, asked)
    taken = await _taken(uow, vault, asked.sequence)
    if withdrawal.kind == "evm_fill" and not await _is_gap(uow, vault, lowest_free(asked.sequence, taken)):
        await drop(uow, withdrawal, "no gap is left")
        return False
    chosen = choose_evm(
        EvmView(
            next_nonce=asked.sequence,
            taken=taken,
            in_flight=await attempt_store.count_in_flight(uow, vault.id),
            in_flight_max=means.settings.chain(vault.chain).evm.in_flight_max,
            spendable=asked.holds - await attempt_store.load_commitments(uow, vault.id),
            quote=asked.quote,
        ),
        spend_at=lambda price: intents.evm_spend(withdrawal.intent, price),
        caps=_caps(withdrawal),
    )
    if isinstance(chosen, Wait):
        await hold_off(uow, withdrawal, chosen)
        return False
    spends = intents.evm_spend(withdrawal.intent, chosen.max_fee_per_gas) + asked.quote.layer_one_fee_wei
    number = len(await attempt_store.load_attempts(uow, withdrawal.id)) + 1
    await take(
        uow, withdrawal, new_attempt(withdrawal, vault, number, chosen, spends=spends), exclusive=False
    )
    return True


async def _reserve_cancel(
    uow: UnitOfWork, means: Means, withdrawal: Withdrawal, vault: Vault, asked: Asked
) -> bool:
    """A cancel takes the nonce of its target, above all that is bid for it; if that still waits for its block."""
    target = withdrawal.target_id and await store.load_withdrawal(uow, withdrawal.target_id)
    newest = target and await attempt_store.load_open(uow, target.id)
    if not target or not newest or target.state != "broadcasting":
        await drop(uow, withdrawal, "the nonce is used")
        return False
    alternatives = await attempt_store.load_alternatives(uow, newest)
    if any(each.state == "reserved" for each in alternatives):
        await hold_off(uow, withdrawal, Wait(reason="nonce_busy", look_in_s=2))
        return False
    bump = means.settings.chain(vault.chain).evm.bump_percent
    slot = outbid(alternatives, asked.quote, _caps(withdrawal), bump)
    if slot is None:
        await hold_off(uow, withdrawal, Wait(reason="fee_over_cap", look_in_s=_CANCEL_WAITS_S))
        return False
    number = len(await attempt_store.load_attempts(uow, withdrawal.id)) + 1
    attempt = new_attempt(
        withdrawal,
        vault,
        number,
        slot,
        alternative_of=newest.alternative_of or newest.id,
        spends=intents.evm_spend(withdrawal.intent, slot.max_fee_per_gas) + asked.quote.layer_one_fee_wei,
    )
    await take(uow, withdrawal, attempt, exclusive=False)
    return True


async def stands_back(means: Means, tenant: TenantId, withdrawal: Withdrawal, attempt: Attempt) -> bool:
    """Whether a signed cancel of its nonce is under way: then it is not sent, lest it be mined instead."""
    async with means.db.unit_of_work(tenant) as uow:
        alternatives = await attempt_store.load_alternatives(uow, attempt)
        cancelled = withdrawal.kind != "evm_cancel" and any(
            each.withdrawal_id != withdrawal.id and each.state in ("signed", "broadcast")
            for each in alternatives
        )
        if cancelled:
            await store.look_again(uow, withdrawal, _DEFERS_S)
    return cancelled


async def follow(
    means: Means,
    client: ChainClient,
    tenant: TenantId,
    withdrawal: Withdrawal,
    attempt: Attempt,
    answer: Submission,
) -> bool:
    """Look after bytes that were sent before and are in no block of ours. Returns whether they are bid for again."""
    async with means.db.read(tenant) as session:
        vault = await wallets.get_vault(session, attempt.vault_id)
    mined = await client.mined_sequence(vault.account)
    head, quote = (await client.head()).height, await client.fees()
    async with means.db.unit_of_work(tenant) as uow:
        await uow.lock(f"slots/{tenant}/{vault.id}")
        locked = await store.lock_withdrawal(uow, withdrawal.id)
        newest = await attempt_store.load_open(uow, withdrawal.id)
        if locked is None or locked.state != withdrawal.state or newest is None or newest.id != attempt.id:
            return True
        alternatives = await attempt_store.load_alternatives(uow, newest)
        lost = await attempt_store.is_lost(uow, vault.id, mined)
        sending = means.settings.chain(vault.chain).evm
        judgement = judge(
            Pending(
                attempt=newest,
                alternatives=alternatives,
                replaceable=intents.is_replaceable(withdrawal.intent)
                and all(each.withdrawal_id == withdrawal.id for each in alternatives),
                caps=_caps(withdrawal),
                head=head,
                mined=mined,
                lowest=await attempt_store.lowest_in_flight(uow, vault.id, mined),
                gap=lost or mined not in await _taken(uow, vault, mined),
                lost=lost,
                quote=quote,
                answer=answer,
                stuck_after=sending.stuck_after_blocks,
                bump_percent=sending.bump_percent,
            )
        )
        if judgement.watch:
            await attempt_store.watch(uow, newest, head)
        stopped = "" if judgement.replace is None else await stops.find_stop(uow, means, locked)
        replace = None if stopped else judgement.replace
        await flag(uow, locked, stopped or judgement.stuck)
        if replace is not None:
            await _replace(uow, means, locked, vault, newest, replace, quote)
    if judgement.fill:
        await _fill(means, tenant, vault)
    return replace is not None


async def replacement_refused(uow: UnitOfWork, withdrawal: Withdrawal, attempt: Attempt, reason: str) -> None:
    """The signer did not sign a replacement: what was sent before goes on being sent, and a person should look."""
    await attempt_store.change_attempt(uow, attempt, "refuse", holds_slot=False)
    detail = {"number": attempt.number, "reason": reason}
    await audit.record(uow, WORKER, "withdrawal.replacement_refused", withdrawal.id, detail)
    await flag(uow, withdrawal, "replacement_refused")
    await store.look_again(uow, withdrawal, _DEFERS_S)


async def _replace(
    uow: UnitOfWork,
    means: Means,
    withdrawal: Withdrawal,
    vault: Vault,
    newest: Attempt,
    slot: EvmSlot,
    quote: FeeQuote,
) -> None:
    """Commit a dearer attempt on the same nonce, with an intent of its own that names the first and allows no higher price."""
    now = int(means.clock.now().timestamp())
    attempts = await attempt_store.load_attempts(uow, withdrawal.id)
    intent = intents.build_replacement_intent(
        withdrawal.intent,
        request_id=new_uuid(),
        policy_version=(await policies.current(uow)).version,
        not_before=now - drafts.CLOCK_SKEW_S,
        expires_at=now + means.settings.intent_valid_s,
    )
    attempt = new_attempt(
        withdrawal,
        vault,
        len(attempts) + 1,
        slot,
        alternative_of=newest.alternative_of or newest.id,
        intent=intent,
        spends=intents.evm_spend(withdrawal.intent, slot.max_fee_per_gas) + quote.layer_one_fee_wei,
    )
    await take(uow, withdrawal, attempt, exclusive=False)
    detail = {
        "nonce": slot.nonce,
        "fee": str(slot.max_fee_per_gas),
        "tip": str(slot.max_priority_fee_per_gas),
    }
    _log.info("withdrawal.replaced", withdrawal_id=str(withdrawal.id), **detail)
    await audit.record(uow, WORKER, "withdrawal.replace", withdrawal.id, detail)


async def _fill(means: Means, tenant: TenantId, vault: Vault) -> None:
    """Ask for something on the nonce that the chain waits for, unless whoever is next in line takes it anyway."""
    try:
        async with means.db.unit_of_work(tenant) as uow:
            await uow.lock(f"slots/{tenant}/{vault.id}")
            if await store.has_fill_under_way(uow, vault.id):
                return
            await nonce_operations.request_fill(
                uow,
                drafts.worker_principal(tenant),
                WithdrawalId(new_uuid()),
                vault.id,
                settings=means.settings,
                clock=means.clock,
            )
    except Refused as refusal:
        _log.warning("vault.gap_not_filled", vault_id=str(vault.id), reason=str(refusal))


async def _taken(uow: UnitOfWork, vault: Vault, at_least: int) -> set[int]:
    """Nonces that ours hold or strays have used."""
    ours = await attempt_store.taken_slots(uow, vault.id, at_least)
    return ours | await stray_store.used_sequences(uow, vault.id, at_least)


async def _is_gap(uow: UnitOfWork, vault: Vault, nonce: int) -> bool:
    return await attempt_store.highest_in_flight(uow, vault.id) > nonce


def _caps(withdrawal: Withdrawal) -> Prices:
    fee, tip = intents.price_caps(withdrawal.intent)
    return Prices(fee=fee, tip=tip)
