"""What is asked of a vault itself: it holds no wallet's money and goes through the same quorum as a payment."""

from __future__ import annotations

from dataclasses import dataclass

from custody.assets import service as assets
from custody.db.session import UnitOfWork
from custody.identity.model import Principal
from custody.kernel.assetid import AssetId, ChainId, native
from custody.kernel.clock import Clock
from custody.kernel.ids import VaultId, WithdrawalId
from custody.settings import Settings
from custody.signing import intents
from custody.signing.intent_fields import Source
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from custody.withdrawals import drafts, store
from custody.withdrawals.checks import check_trustline
from custody.withdrawals.errors import NotPooled, WithdrawalExistsDifferent
from custody.withdrawals.model import NO_MEMO, Kind, Memo, Withdrawal
from custody.withdrawals.transitions import WITHDRAWALS


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is asked for, and the bytes that approvers will sign."""

    kind: Kind
    asset: AssetId
    destination: str
    memo: Memo
    intent: bytes
    amount: int = 0
    into_id: VaultId | None = None
    target_id: WithdrawalId | None = None


async def request_trustline(
    uow: UnitOfWork,
    principal: Principal,
    withdrawal_id: WithdrawalId,
    vault_id: VaultId,
    asset: AssetId,
    *,
    settings: Settings,
    clock: Clock,
) -> Withdrawal:
    """Write the intent of opening a vault's trustline, under the same quorum as a payment; nothing is held.

    Idempotent by id. Raises UnknownVault, UnknownAsset, NotATrustline, PolicyDenies, WithdrawalExistsDifferent.
    """
    await uow.lock(f"withdrawal/{uow.tenant}/{withdrawal_id}")
    earlier = await store.load_withdrawal(uow, withdrawal_id)
    if earlier is not None:
        if (earlier.kind, earlier.vault_id, earlier.asset) != ("change_trust", vault_id, asset):
            raise WithdrawalExistsDifferent(id=str(withdrawal_id))
        return earlier
    await assets.get(uow, asset)
    vault = await wallets.get_vault(uow, vault_id)
    check_trustline(asset, vault.chain, vault.account)
    caps = drafts.stellar_caps(drafts.configured(settings, asset))
    source = await drafts.source(uow, principal, withdrawal_id, vault, settings, clock)
    operation = Operation(
        kind="change_trust",
        asset=asset,
        destination=asset.reference.partition(":")[2],
        memo=NO_MEMO,
        intent=intents.build_trustline_intent(source, caps, asset=asset),
    )
    verdict = await drafts.allowed(uow, operation.intent)
    return await drafts.begin(uow, new_operation(principal, source, vault, operation, clock), verdict)


async def request_anchor(
    uow: UnitOfWork,
    principal: Principal,
    withdrawal_id: WithdrawalId,
    chain: ChainId,
    seal_hash: bytes,
    *,
    settings: Settings,
    clock: Clock,
) -> Withdrawal:
    """Write the intent of writing a seal's hash to a Stellar chain, by the omnibus vault, under the same quorum as a payment.

    The vault pays itself, so nothing is held and nothing but the fee is booked. Idempotent by id. Raises NoOmnibusVault,
    UnsupportedAsset, UnsupportedChain, UnknownAsset, PolicyUnknown, PolicyDenies, WithdrawalExistsDifferent.
    """
    await uow.lock(f"withdrawal/{uow.tenant}/{withdrawal_id}")
    asset, memo = native(chain), Memo(type="hash", value=seal_hash.hex())
    earlier = await store.load_withdrawal(uow, withdrawal_id)
    if earlier is not None:
        if (earlier.kind, earlier.asset, earlier.memo) != ("anchor", asset, memo):
            raise WithdrawalExistsDifferent(id=str(withdrawal_id))
        return earlier
    caps = drafts.stellar_caps(drafts.configured(settings, asset))
    await assets.get(uow, asset)
    vault = await wallets.omnibus(uow, chain)
    source = await drafts.source(uow, principal, withdrawal_id, vault, settings, clock)
    operation = Operation(
        kind="anchor",
        asset=asset,
        destination=vault.account,
        memo=memo,
        intent=intents.build_anchor_intent(source, caps, seal_hash=seal_hash),
    )
    verdict = await drafts.allowed(uow, operation.intent)
    return await drafts.begin(uow, new_operation(principal, source, vault, operation, clock), verdict)


async def request_memo_required(
    uow: UnitOfWork,
    principal: Principal,
    withdrawal_id: WithdrawalId,
    vault_id: VaultId,
    *,
    settings: Settings,
    clock: Clock,
) -> Withdrawal:
    """Write the intent of having a Stellar vault ask its senders for a memo, under the same quorum as a payment.

    Nothing is held; the entry raises the account's reserve by half a lumen. Idempotent by id. Raises UnknownVault, NotPooled,
    UnsupportedAsset, UnsupportedChain, UnknownAsset, PolicyDenies, WithdrawalExistsDifferent. Source: SEP-29.
    """
    await uow.lock(f"withdrawal/{uow.tenant}/{withdrawal_id}")
    earlier = await store.load_withdrawal(uow, withdrawal_id)
    if earlier is not None:
        if (earlier.kind, earlier.vault_id) != ("memo_required", vault_id):
            raise WithdrawalExistsDifferent(id=str(withdrawal_id))
        return earlier
    vault = await wallets.get_vault(uow, vault_id)
    if vault.purpose != "omnibus":
        raise NotPooled(purpose=vault.purpose)
    asset = native(vault.chain)
    caps = drafts.stellar_caps(drafts.configured(settings, asset))
    await assets.get(uow, asset)
    source = await drafts.source(uow, principal, withdrawal_id, vault, settings, clock)
    operation = Operation(
        kind="memo_required",
        asset=asset,
        destination=vault.account,
        memo=NO_MEMO,
        intent=intents.build_memo_required_intent(source, caps),
    )
    verdict = await drafts.allowed(uow, operation.intent)
    return await drafts.begin(uow, new_operation(principal, source, vault, operation, clock), verdict)


def new_operation(
    principal: Principal, source: Source, vault: Vault, operation: Operation, clock: Clock
) -> Withdrawal:
    """The operation as a withdrawal in its first state: no wallet's money."""
    return Withdrawal(
        id=WithdrawalId(source.request_id),
        kind=operation.kind,
        state=WITHDRAWALS.initial,
        wallet_id=None,
        vault_id=vault.id,
        asset=operation.asset,
        destination=operation.destination,
        memo=operation.memo,
        amount=operation.amount,
        intent=operation.intent,
        digest=intents.digest(operation.intent),
        policy_version=source.policy_version,
        initiator=principal.subject,
        principal_id=principal.id,
        reason="",
        expires_at=drafts.moment(source.expires_at),
        created_at=clock.now(),
        changed_at=clock.now(),
        into_id=operation.into_id,
        target_id=operation.target_id,
    )
