"""What our own ingestion tells: a transaction of ours is in a block, a block is final, a block was replaced.

Nothing else ends a withdrawal whose bytes exist. All of it runs inside the block's transaction, or in the one that books what
became final.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from custody.audit import service as audit
from custody.db.session import UnitOfWork
from custody.events import outbox
from custody.identity.model import Principal
from custody.kernel.assetid import ChainId, native
from custody.kernel.errors import InvariantViolated
from custody.kernel.ids import VaultId, WithdrawalId, derived_uuid
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.ledger.model import Command
from custody.wallets import service as wallets
from custody.withdrawals import attempt_store, channel_store, fees, refills, store, stray_store
from custody.withdrawals.errors import NotOvertaken, UnknownWithdrawal
from custody.withdrawals.model import PAYING, Attempt, Ending, OwnTransaction, Stray, Taken, Withdrawal
from custody.withdrawals.moves import INGESTION, move
from custody.withdrawals.transitions import ATTEMPTS

_SEQUENCE_SHIFT = 32


async def observe_transaction(uow: UnitOfWork, seen: OwnTransaction) -> Taken | None:
    """A vault of the transaction's tenant sent this, and our own ingestion saw it in a block. Idempotent by hash and height.
    Returns what its withdrawal takes beside the fee; None when it takes nothing.

    A transaction that no attempt explains is kept as a stray and told to operators; it does not stop ingestion. Raises
    InvariantViolated when a transaction that was proved absent, or that has ended otherwise, appears. Locks the hash, then the
    withdrawal.
    """
    await lock_hash(uow, seen.chain, seen.tx_hash)
    found = await attempt_store.find_by_hash(uow, seen.chain, seen.tx_hash)
    if found is None:
        await channel_store.raise_sequence(uow, await _observe_stray(uow, seen), seen.sequence)
        return None
    await channel_store.raise_sequence(uow, found.vault_id, seen.sequence)
    withdrawal = await _lock(uow, found)
    attempt = await attempt_store.find_by_hash(uow, seen.chain, seen.tx_hash) or found
    if attempt.state in ATTEMPTS.sources("include"):
        await include(uow, withdrawal, attempt, seen)
    elif attempt.state == "included":
        await attempt_store.move_inclusion(uow, attempt, seen)
    elif attempt.state == "lapsed" or attempt.succeeded is not seen.succeeded:
        raise InvariantViolated(
            "a transaction that had ended appears on chain",
            attempt=str(attempt.id),
            state=attempt.state,
            tx_hash=seen.tx_hash,
        )
    if not seen.succeeded or withdrawal.kind not in PAYING:
        return None
    return Taken(vault_id=withdrawal.vault_id, amount=Amount(withdrawal.asset, withdrawal.amount))


async def include(uow: UnitOfWork, withdrawal: Withdrawal, attempt: Attempt, seen: OwnTransaction) -> None:
    """Note the block that holds an attempt's transaction. The caller has locked the withdrawal."""
    await attempt_store.change_attempt(uow, attempt, "include", **attempt_store.inclusion(seen))
    await move(
        uow,
        withdrawal,
        "include",
        actor=INGESTION,
        detail={"tx_hash": seen.tx_hash, "height": seen.height, "succeeded": seen.succeeded},
    )


async def find_final(uow: UnitOfWork, chain: ChainId, height_final: int) -> Ending:
    """Every block of this chain up to this height is ingested and final: what that decides. Idempotent.

    Finds what is included up to there, the attempts that can no longer be (past their bound, or on a nonce that is used), and the
    fees of strays. Call it after
    `observe_transaction` of the same blocks, post the commands together with all else that the height decides, then call `end`.
    Locks the withdrawals.
    """
    await store.raise_height(uow, chain, height_final)
    included = await _with_withdrawals(uow, await attempt_store.load_included(uow, chain, height_final))
    lapsed = await _with_withdrawals(uow, await attempt_store.load_lapsed(uow, chain, height_final))
    overtaken = await _with_withdrawals(uow, await attempt_store.load_overtaken(uow, chain, height_final))
    strays = await stray_store.load_final(uow, chain, height_final)
    costs = fees.network_costs(included)
    return Ending(
        included=tuple(included),
        lapsed=tuple(lapsed),
        overtaken=tuple(overtaken),
        strays=tuple(strays),
        commands=(
            *(command for pair in included for command in _ending(*pair, costs)),
            *(command for withdrawal, _ in lapsed for command in release(withdrawal)),
            *(command for withdrawal in _left_unpaid(overtaken) for command in release(withdrawal)),
            *(command for stray in strays for command in _stray_fee(stray)),
        ),
    )


async def end(uow: UnitOfWork, ending: Ending) -> None:
    """The commands are posted: withdrawals settle, fail or lapse."""
    costs = fees.network_costs(ending.included)
    for withdrawal, attempt in ending.included:
        await _end(uow, withdrawal, attempt, costs[fees.cost_key(withdrawal)])
    for withdrawal, attempt in ending.lapsed:
        await _lapse(uow, withdrawal, attempt)
    for _, attempt in ending.overtaken:
        await _give_up(uow, attempt)
    for withdrawal in _left_unpaid(ending.overtaken):
        event = "lapse" if withdrawal.state == "broadcasting" else "refuse"
        await move(uow, withdrawal, event, actor=INGESTION, reason="another transaction used its nonce")
    for stray in ending.strays:
        await _change_stray(uow, stray, "book")


async def orphan_above(uow: UnitOfWork, chain: ChainId, height: int) -> None:
    """Blocks above this height were replaced: what they held is in flight again, and the same bytes go on being sent."""
    for attempt in await attempt_store.load_included_above(uow, chain, height):
        withdrawal = await _lock(uow, attempt)
        await attempt_store.change_attempt(
            uow, attempt, "orphan", height=None, succeeded=None, fee_paid=None, included_at=None
        )
        await move(uow, withdrawal, "orphan", actor=INGESTION, detail={"tx_hash": attempt.tx_hash})
    for stray in await stray_store.load_above(uow, chain, height):
        await _change_stray(uow, stray, "orphan")


async def concede(
    uow: UnitOfWork, principal: Principal, withdrawal_id: WithdrawalId, tx_hash: str
) -> Withdrawal:
    """A person states that a final transaction which is none of ours used this withdrawal's nonce and did not pay it.

    The hold is released: nothing that was signed for it can be mined any more. Nothing but a person can know what a transaction
    that we did not make was for; the same bytes may have been made from a copy of our books. Raises UnknownWithdrawal,
    NotOvertaken. Locks the withdrawal.
    """
    withdrawal = await store.lock_withdrawal(uow, withdrawal_id)
    if withdrawal is None:
        raise UnknownWithdrawal(id=str(withdrawal_id))
    newest = await attempt_store.load_open(uow, withdrawal_id)
    stray = await stray_store.find(uow, withdrawal.asset.chain, tx_hash)
    if withdrawal.state != "broadcasting" or newest is None or stray is None:
        raise NotOvertaken(id=str(withdrawal_id), state=withdrawal.state)
    rivals = await attempt_store.load_alternatives(uow, newest)
    used = (stray.state, stray.vault_id, stray.sequence) == ("booked", newest.vault_id, newest.sequence)
    unsettled = [each for each in rivals if each.state == "reserved" or each.withdrawal_id != withdrawal_id]
    if not used or newest.max_ledger is not None or unsettled:
        raise NotOvertaken(id=str(withdrawal_id), tx_hash=tx_hash)
    if commands := release(withdrawal):
        await ledger.post(uow, *commands)
    for attempt in rivals:
        await _give_up(uow, attempt)
    reason = f"transaction {tx_hash} used its nonce"
    return await move(uow, withdrawal, "lapse", actor=principal.subject, reason=reason)


async def lock_hash(uow: UnitOfWork, chain: ChainId, tx_hash: str) -> None:
    """Wait for whoever stores or observes this very transaction. Both sides lock before they look, and before they lock any row,
    so that the second of them sees the work of the first."""
    await uow.lock(f"transaction/{chain}/{tx_hash}")


async def claim_stray(uow: UnitOfWork, withdrawal: Withdrawal, attempt: Attempt) -> None:
    """Just-stored bytes may be on chain already, sent by somebody else who had them from the signer: take that over."""
    if attempt.tx_hash is None:
        raise InvariantViolated("an attempt without bytes cannot be on chain", attempt=str(attempt.id))
    stray = await stray_store.find(uow, attempt.chain, attempt.tx_hash)
    if stray is None:
        return
    await _change_stray(uow, stray, "match")
    seen = OwnTransaction(
        chain=stray.chain,
        height=stray.height,
        tx_hash=stray.tx_hash,
        account="",
        succeeded=stray.succeeded,
        fee_atomic=stray.fee_paid,
        sequence=stray.sequence,
        occurred_at=stray.occurred_at,
    )
    await include(uow, withdrawal, attempt, seen)


def release(withdrawal: Withdrawal) -> tuple[Command, ...]:
    """The postings that give wallet or suspense its money back; none for an operation on a vault, which held nothing."""
    if withdrawal.kind not in PAYING:
        return ()
    return (*postings.withdrawal_released(withdrawal_id=withdrawal.id), *fees.released(withdrawal))


def _ending(withdrawal: Withdrawal, attempt: Attempt, costs: Mapping[str, int]) -> tuple[Command, ...]:
    """The postings of a final transaction: the hold is posted or given back, the network's fee is booked in any case."""
    if not attempt.succeeded:
        held = release(withdrawal)
    elif withdrawal.kind in PAYING:
        charged = fees.charged(withdrawal, costs[fees.cost_key(withdrawal)])
        held = (*postings.withdrawal_settled(withdrawal_id=withdrawal.id), *charged)
    else:
        held = ()
    return held + _fee(attempt.chain, attempt.tx_hash, attempt.vault_id, attempt.fee_paid)


async def _end(uow: UnitOfWork, withdrawal: Withdrawal, attempt: Attempt, network_cost: int) -> None:
    detail = {"tx_hash": attempt.tx_hash, "height": attempt.height, "fee": str(attempt.fee_paid)}
    if attempt.succeeded:
        await attempt_store.change_attempt(uow, attempt, "confirm")
        await move(uow, withdrawal, "settle", actor=INGESTION, detail=detail, network_cost=network_cost)
        await _open_channel(uow, withdrawal, attempt)
    else:
        await attempt_store.change_attempt(uow, attempt, "fail")
        reason = f"failed on chain: {attempt.last_answer}" if attempt.last_answer else "failed on chain"
        await move(uow, withdrawal, "fail", actor=INGESTION, reason=reason, detail=detail)


async def _open_channel(uow: UnitOfWork, withdrawal: Withdrawal, attempt: Attempt) -> None:
    """A channel whose account was made by this transaction may serve. Source: CAP-19, a new account's sequence number is the
    ledger's number in the upper 32 bits."""
    if withdrawal.into_id is None or attempt.height is None or not refills.opens_account(withdrawal):
        return
    if (await wallets.get_vault(uow, withdrawal.into_id)).purpose == refills.CHANNELS:
        await channel_store.open_channel(
            uow,
            withdrawal.into_id,
            attempt.chain,
            sequence=attempt.height << _SEQUENCE_SHIFT,
            height=attempt.height,
        )


async def _lapse(uow: UnitOfWork, withdrawal: Withdrawal, attempt: Attempt) -> None:
    await attempt_store.change_attempt(uow, attempt, "lapse", holds_slot=False)
    detail = {"tx_hash": attempt.tx_hash, "max_ledger": attempt.max_ledger}
    await move(uow, withdrawal, "lapse", actor=INGESTION, reason="lapsed", detail=detail)


def _left_unpaid(overtaken: Sequence[tuple[Withdrawal, Attempt]]) -> list[Withdrawal]:
    """Those of them that end with it: not the one whose other attempt was mined, which is `confirming`."""
    ending = {
        withdrawal.id: withdrawal
        for withdrawal, _ in overtaken
        if withdrawal.state in ("broadcasting", "signing")
    }
    return list(ending.values())


async def _give_up(uow: UnitOfWork, attempt: Attempt) -> None:
    """Its nonce is final with other bytes. Of one that was never signed, or whose bytes were never stored, none can count now."""
    event = "refuse" if attempt.state == "reserved" else "lapse"
    await attempt_store.change_attempt(uow, attempt, event, holds_slot=False)


async def _with_withdrawals(uow: UnitOfWork, attempts: Sequence[Attempt]) -> list[tuple[Withdrawal, Attempt]]:
    """Each attempt with its withdrawal, locked, in the order of the withdrawals' ids."""
    return [(await _lock(uow, attempt), attempt) for attempt in attempts]


async def _observe_stray(uow: UnitOfWork, seen: OwnTransaction) -> VaultId:
    """Keep it, tell of it once, and return the vault that sent it."""
    refs = await wallets.find_vaults(uow, seen.chain, [seen.account])
    vault = next((ref.vault_id for ref in refs if ref.tenant == uow.tenant), None)
    if vault is None:
        raise InvariantViolated("the sender is no vault of this tenant", account=seen.account)
    if not await stray_store.observe(uow, vault, seen):
        return vault
    detail = {
        "chain": str(seen.chain),
        "tx_hash": seen.tx_hash,
        "height": seen.height,
        "sequence": seen.sequence,
        "fee": str(seen.fee_atomic),
    }
    await outbox.emit(uow, "vault.unknown_transaction", vault, detail)
    await audit.record(uow, INGESTION, "vault.unknown_transaction", vault, detail)
    return vault


async def _change_stray(uow: UnitOfWork, stray: Stray, event: str) -> None:
    await stray_store.change(uow, stray, event)
    detail = {
        "chain": str(stray.chain),
        "tx_hash": stray.tx_hash,
        "height": stray.height,
        "fee": str(stray.fee_paid),
    }
    await audit.record(uow, INGESTION, f"vault.unknown_transaction.{event}", stray.vault_id, detail)


def _stray_fee(stray: Stray) -> tuple[Command, ...]:
    return _fee(stray.chain, stray.tx_hash, stray.vault_id, stray.fee_paid)


def _fee(chain: ChainId, tx_hash: str | None, vault_id: VaultId, fee_paid: int | None) -> tuple[Command, ...]:
    """The posting of one transaction's fee, named after its hash: once, whoever books it."""
    if tx_hash is None or fee_paid is None:
        raise InvariantViolated("an included transaction has a hash and a fee", chain=chain)
    if fee_paid == 0:
        return ()
    return postings.network_fee_paid(
        reference=transaction_reference(chain, tx_hash),
        vault_id=vault_id,
        fee=Amount(native(chain), fee_paid),
    )


def transaction_reference(chain: ChainId, tx_hash: str) -> UUID:
    """The id under which the ledger knows a transaction of ours."""
    return derived_uuid("chain_transaction", chain, tx_hash)


async def _lock(uow: UnitOfWork, attempt: Attempt) -> Withdrawal:
    withdrawal = await store.lock_withdrawal(uow, attempt.withdrawal_id)
    if withdrawal is None:
        raise UnknownWithdrawal(attempt=str(attempt.id))
    return withdrawal
