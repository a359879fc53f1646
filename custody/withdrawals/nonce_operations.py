"""What is asked of an EVM nonce: to be used up for nothing, instead of a transaction that is stuck or because it is nobody's.

Each is an intent of its own, under policy: a rule that asks nobody lets it through at once, any other has people decide.
"""

from __future__ import annotations

from custody.assets import service as assets
from custody.chains.address import EVM, namespace
from custody.chains.errors import UnsupportedChain
from custody.db.session import UnitOfWork
from custody.identity.model import Principal
from custody.kernel.assetid import native
from custody.kernel.clock import Clock
from custody.kernel.ids import VaultId, WithdrawalId
from custody.settings import ChainSettings, Settings
from custody.signing import intents
from custody.signing.intent_fields import EvmCaps
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from custody.withdrawals import attempt_store, drafts, store
from custody.withdrawals.errors import NonceNotPending, UnknownWithdrawal, WithdrawalExistsDifferent
from custody.withdrawals.evm_slots import bumped
from custody.withdrawals.model import NO_MEMO, Attempt, Kind, Withdrawal
from custody.withdrawals.operations import Operation, new_operation


async def request_cancel(
    uow: UnitOfWork,
    principal: Principal,
    withdrawal_id: WithdrawalId,
    target_id: WithdrawalId,
    *,
    settings: Settings,
    clock: Clock,
) -> Withdrawal:
    """Write the intent of using up the nonce on which a withdrawal waits for its block, by nothing that the vault sends itself.

    The withdrawal may be mined all the same: it ends when one of the two is final, unpaid if that is the cancel. Nothing is held.
    Idempotent by id. Raises UnknownWithdrawal, NonceNotPending, UnsupportedChain, PolicyUnknown, PolicyDenies,
    WithdrawalExistsDifferent. Locks the target.
    """
    await uow.lock(f"withdrawal/{uow.tenant}/{withdrawal_id}")
    earlier = await store.load_withdrawal(uow, withdrawal_id)
    if earlier is not None:
        if (earlier.kind, earlier.target_id) != ("evm_cancel", target_id):
            raise WithdrawalExistsDifferent(id=str(withdrawal_id))
        return earlier
    target = await store.lock_withdrawal(uow, target_id)
    if target is None:
        raise UnknownWithdrawal(id=str(target_id))
    newest = await attempt_store.load_open(uow, target_id)
    if namespace(target.asset.chain) != EVM or target.kind == "evm_cancel":
        raise NonceNotPending(id=str(target_id), kind=target.kind)
    if target.state != "broadcasting" or newest is None:
        raise NonceNotPending(id=str(target_id), state=target.state)
    if await store.has_cancel_under_way(uow, target_id):
        raise NonceNotPending(id=str(target_id), reason="a cancel is asked for already")
    vault = await wallets.get_vault(uow, target.vault_id)
    chain = _configured(settings, vault)
    source = await drafts.source(uow, principal, withdrawal_id, vault, settings, clock)
    bids = await attempt_store.load_alternatives(uow, newest)
    intent = intents.build_cancel_intent(
        source, _caps_above(chain, target, bids), cancels=intents.digest(target.intent)
    )
    verdict = await drafts.allowed(uow, intent)
    operation = _operation(vault, "evm_cancel", intent, target_id)
    return await drafts.begin(uow, new_operation(principal, source, vault, operation, clock), verdict)


async def request_fill(
    uow: UnitOfWork,
    principal: Principal,
    withdrawal_id: WithdrawalId,
    vault_id: VaultId,
    *,
    settings: Settings,
    clock: Clock,
) -> Withdrawal:
    """Write the intent of a transfer of nothing to the vault itself, on the lowest nonce that is free when it is carried out.

    It takes a nonce only while something waits behind it, and ends by itself when nothing does. Nothing is held. Idempotent
    by id. Raises UnknownVault, UnsupportedChain, PolicyUnknown, PolicyDenies, WithdrawalExistsDifferent.
    """
    await uow.lock(f"withdrawal/{uow.tenant}/{withdrawal_id}")
    earlier = await store.load_withdrawal(uow, withdrawal_id)
    if earlier is not None:
        if (earlier.kind, earlier.vault_id) != ("evm_fill", vault_id):
            raise WithdrawalExistsDifferent(id=str(withdrawal_id))
        return earlier
    vault = await wallets.get_vault(uow, vault_id)
    chain = _configured(settings, vault)
    await assets.get(uow, native(vault.chain))
    source = await drafts.source(uow, principal, withdrawal_id, vault, settings, clock)
    caps = _caps(chain, chain.max_fee_per_gas_wei, chain.max_priority_fee_per_gas_wei)
    intent = intents.build_fill_intent(source, caps)
    verdict = await drafts.allowed(uow, intent)
    operation = _operation(vault, "evm_fill", intent, None)
    return await drafts.begin(uow, new_operation(principal, source, vault, operation, clock), verdict)


def _configured(settings: Settings, vault: Vault) -> ChainSettings:
    chain = drafts.configured(settings, native(vault.chain))
    if chain.kind != "evm":
        raise UnsupportedChain(chain=vault.chain)
    return chain


def _operation(vault: Vault, kind: Kind, intent: bytes, target_id: WithdrawalId | None) -> Operation:
    return Operation(
        kind=kind,
        asset=native(vault.chain),
        destination=vault.account,
        memo=NO_MEMO,
        intent=intent,
        target_id=target_id,
    )


def _caps_above(chain: ChainSettings, target: Withdrawal, bids: list[Attempt]) -> EvmCaps:
    """Caps that reach above whatever is, or may still be, bid for the target: its own caps, and cancels before."""
    fee, tip = intents.price_caps(target.intent)
    percent = chain.evm.bump_percent
    return _caps(
        chain,
        max(
            chain.max_fee_per_gas_wei,
            *(bumped(price, percent) for price in (fee, *(one.fee_bid for one in bids))),
        ),
        max(
            chain.max_priority_fee_per_gas_wei,
            *(bumped(price, percent) for price in (tip, *(one.priority_fee for one in bids))),
        ),
    )


def _caps(chain: ChainSettings, fee: int, tip: int) -> EvmCaps:
    return EvmCaps(
        chain_id=chain.chain_id,
        gas_limit=chain.gas_limit_native,
        max_fee_per_gas=max(fee, tip),
        max_priority_fee_per_gas=tip,
    )
