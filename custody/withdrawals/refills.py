"""Money of the omnibus vault for another Stellar vault of ours: it opens a channel or the fee account, and fills it up later.

An intent and a posting like any other: the hold is on the omnibus vault's own account, and what arrives is no deposit.
"""

from __future__ import annotations

from collections.abc import Collection

from custody.assets import service as assets
from custody.db.session import ReadSession, UnitOfWork
from custody.identity.model import Principal
from custody.kernel.assetid import AssetId, ChainId, native
from custody.kernel.clock import Clock
from custody.kernel.ids import VaultId, WithdrawalId
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.settings import Settings
from custody.signing import intents
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from custody.withdrawals import channel_store, drafts, store
from custody.withdrawals.errors import NotRefillable, WithdrawalExistsDifferent
from custody.withdrawals.model import NO_MEMO, PastRefill, Withdrawal
from custody.withdrawals.operations import Operation, new_operation
from custody.withdrawals.transitions import WITHDRAWALS

CHANNELS = "channels"
"""Purpose of vaults that lend their sequence numbers; also the signer's name of the group of their keys."""
FEES = "fees"
"""Purpose of the vault that pays for fee bumps."""
_OPENS = "stellar_create_account"


async def request_refill(
    uow: UnitOfWork,
    principal: Principal,
    withdrawal_id: WithdrawalId,
    into: Vault,
    amount: int,
    *,
    opens: bool,
    settings: Settings,
    clock: Clock,
) -> Withdrawal:
    """Write the intent of paying native money into a channel or the fee account; `opens` when its account is not there yet.

    Idempotent by id. Raises NotRefillable, NoOmnibusVault, UnknownAsset, UnsupportedAsset, PolicyUnknown, PolicyDenies,
    InsufficientFunds, WithdrawalExistsDifferent. Locks the ledger accounts of both vaults.
    """
    await uow.lock(f"withdrawal/{uow.tenant}/{withdrawal_id}")
    earlier = await store.load_withdrawal(uow, withdrawal_id)
    if earlier is not None:
        if (earlier.kind, earlier.into_id, earlier.amount) != ("refill", into.id, amount):
            raise WithdrawalExistsDifferent(id=str(withdrawal_id))
        return earlier
    if into.purpose not in (CHANNELS, FEES):
        raise NotRefillable(purpose=into.purpose)
    asset = native(into.chain)
    caps = drafts.stellar_caps(drafts.configured(settings, asset))
    await assets.get(uow, asset)
    vault = await wallets.omnibus(uow, into.chain)
    source = await drafts.source(uow, principal, withdrawal_id, vault, settings, clock)
    if opens:
        intent = intents.build_create_account_intent(source, caps, amount=amount, destination=into.account)
    else:
        intent = intents.build_payment_intent(
            source, caps, asset=asset, amount=amount, destination=into.account
        )
    verdict = await drafts.allowed(uow, intent)
    await ledger.post(
        uow,
        *postings.refill_held(
            withdrawal_id=withdrawal_id,
            vault_id=vault.id,
            into_vault_id=into.id,
            amount=Amount(asset, amount),
        ),
    )
    operation = Operation(
        kind="refill",
        asset=asset,
        destination=into.account,
        memo=NO_MEMO,
        intent=intent,
        amount=amount,
        into_id=into.id,
    )
    return await drafts.begin(uow, new_operation(principal, source, vault, operation, clock), verdict)


async def find_refills(
    session: ReadSession, chain: ChainId, tx_hashes: Collection[str]
) -> set[tuple[str, VaultId, AssetId, int]]:
    """Which of these transactions move money between vaults of ours: hash, receiving vault, asset and atomic units."""
    return await channel_store.find_refills(session, chain, tx_hashes) if tx_hashes else set()


async def list_refills(session: ReadSession, into_id: VaultId) -> list[PastRefill]:
    """What was asked for to fill this vault, oldest first."""
    return [
        PastRefill(
            is_open=state not in WITHDRAWALS.terminal,
            paid=state == WITHDRAWALS.target_of("settle"),
            opens=_kind(intent) == _OPENS,
            changed_at=changed_at,
        )
        for state, intent, changed_at in await channel_store.load_refills(session, into_id)
    ]


def opens_account(withdrawal: Withdrawal) -> bool:
    """Whether a refill makes the account that it fills."""
    return withdrawal.kind == "refill" and _kind(withdrawal.intent) == _OPENS


def _kind(intent: bytes) -> str:
    return intents.show(intent)["kind"]
