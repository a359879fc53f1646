"""Money of one vault of ours for another: it opens and fills channels and fee accounts, sweeps deposit addresses, pays their gas.

An intent and a posting like any other: the hold is on the paying vault's own account, and what arrives is no deposit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime

from custody.assets import service as assets
from custody.db.session import ReadSession, UnitOfWork
from custody.identity.model import Principal
from custody.kernel.assetid import AssetId, ChainId, native
from custody.kernel.clock import Clock
from custody.kernel.ids import VaultId, WithdrawalId
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger import service as ledger
from custody.settings import ChainSettings, Settings
from custody.signing import intents
from custody.signing.intent_fields import Source
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from custody.withdrawals import channel_store, drafts, store
from custody.withdrawals.errors import NotRefillable, WithdrawalExistsDifferent
from custody.withdrawals.model import NO_MEMO, PastRefill, VaultMove, Withdrawal
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

    Raises NotRefillable, NoOmnibusVault, and what `request_move` raises.
    """
    if into.purpose not in (CHANNELS, FEES):
        raise NotRefillable(purpose=into.purpose)
    move = VaultMove(
        id=withdrawal_id,
        kind="refill",
        vault=await wallets.omnibus(uow, into.chain),
        into=into,
        asset=native(into.chain),
        amount=amount,
        opens=opens,
    )
    return await request_move(uow, principal, move, settings=settings, clock=clock)


async def request_move(
    uow: UnitOfWork, principal: Principal, move: VaultMove, *, settings: Settings, clock: Clock
) -> Withdrawal:
    """Write the intent of moving money from one vault of ours to another, under the same policy as a payment.

    On EVM it is a sweep to the signer, whoever the vaults are: it looks the receiving key up by itself. Idempotent by id. Raises
    UnknownAsset, UnsupportedAsset, PolicyUnknown, PolicyDenies, InsufficientFunds, WithdrawalExistsDifferent. Locks the ledger
    accounts of both vaults.
    """
    await uow.lock(f"withdrawal/{uow.tenant}/{move.id}")
    earlier = await store.load_withdrawal(uow, move.id)
    if earlier is not None:
        kept = (earlier.kind, earlier.vault_id, earlier.into_id, earlier.asset, earlier.amount)
        if kept != (move.kind, move.vault.id, move.into.id, move.asset, move.amount):
            raise WithdrawalExistsDifferent(id=str(move.id))
        return earlier
    chain = drafts.configured(settings, move.asset)
    await assets.get(uow, move.asset)
    source = await drafts.source(uow, principal, move.id, move.vault, settings, clock)
    operation = Operation(
        kind=move.kind,
        asset=move.asset,
        destination=move.into.account,
        memo=NO_MEMO,
        intent=_build_intent(move, chain, source),
        amount=move.amount,
        into_id=move.into.id,
    )
    verdict = await drafts.allowed(uow, operation.intent)
    begun = await drafts.begin(uow, new_operation(principal, source, move.vault, operation, clock), verdict)
    await ledger.post(
        uow,
        *postings.refill_held(
            withdrawal_id=move.id,
            vault_id=move.vault.id,
            into_vault_id=move.into.id,
            amount=Amount(move.asset, move.amount),
        ),
    )
    return begun


def _build_intent(move: VaultMove, chain: ChainSettings, source: Source) -> bytes:
    if chain.kind == "evm":
        caps = drafts.evm_caps(chain, move.asset)
        if move.fee_per_gas is not None:
            tip = min(caps.max_priority_fee_per_gas, move.fee_per_gas)
            caps = replace(caps, max_fee_per_gas=move.fee_per_gas, max_priority_fee_per_gas=tip)
        return intents.build_payment_intent(
            source,
            caps,
            asset=move.asset,
            amount=move.amount,
            destination=move.into.account,
            into_vault=move.into.purpose,
        )
    caps_stellar = drafts.stellar_caps(chain)
    if move.opens:
        return intents.build_create_account_intent(
            source, caps_stellar, amount=move.amount, destination=move.into.account
        )
    return intents.build_payment_intent(
        source, caps_stellar, asset=move.asset, amount=move.amount, destination=move.into.account
    )


async def find_refills(
    session: ReadSession, chain: ChainId, tx_hashes: Collection[str]
) -> set[tuple[str, VaultId, AssetId, int]]:
    """Which of these transactions move money between vaults of ours: hash, receiving vault, asset and atomic units."""
    return await channel_store.find_refills(session, chain, tx_hashes) if tx_hashes else set()


async def list_refills(session: ReadSession, into_id: VaultId) -> list[PastRefill]:
    """What was asked for to fill this vault, oldest first."""
    return _past(await channel_store.load_refills(session, into_id))


async def list_refills_of(
    session: ReadSession, into_ids: Collection[VaultId], asset: AssetId, vault_id: VaultId | None = None
) -> list[PastRefill]:
    """What was asked for to bring an asset into any of these vaults, oldest first; only out of one vault where it is named."""
    return _past(await channel_store.load_refills_of(session, into_ids, asset, vault_id))


async def list_sweeps(session: ReadSession, vault_id: VaultId, asset: AssetId) -> list[PastRefill]:
    """The sweeps that were asked for of a deposit address, oldest first."""
    return _past(await channel_store.load_sweeps(session, vault_id, asset))


async def list_lines(session: ReadSession, vault_id: VaultId, asset: AssetId) -> list[PastRefill]:
    """The trustlines that were asked for of a Stellar vault, by whomever, oldest first."""
    return _past(await channel_store.load_sweeps(session, vault_id, asset, "change_trust"))


def _past(rows: Iterable[tuple[str, bytes, datetime]]) -> list[PastRefill]:
    return [
        PastRefill(
            is_open=state not in WITHDRAWALS.terminal,
            paid=state == WITHDRAWALS.target_of("settle"),
            opens=_kind(intent) == _OPENS,
            changed_at=changed_at,
        )
        for state, intent, changed_at in rows
    ]


def opens_account(withdrawal: Withdrawal) -> bool:
    """Whether a refill makes the account that it fills."""
    return withdrawal.kind == "refill" and _kind(withdrawal.intent) == _OPENS


def _kind(intent: bytes) -> str:
    return intents.show(intent)["kind"]
