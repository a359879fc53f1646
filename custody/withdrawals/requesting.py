"""A payment that is asked for, before anything is written: checked, its intent built, and held against the policy."""

from __future__ import annotations

from dataclasses import dataclass

from custody.address_book import service as address_book
from custody.address_book.model import Receiver as BookReceiver
from custody.assets import service as assets
from custody.chains.address import Destination
from custody.chains.stellar.receivers import Receiver
from custody.db.session import UnitOfWork
from custody.identity.model import Principal
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.clock import Clock
from custody.kernel.money import Amount
from custody.ledger import postings
from custody.ledger.model import Command
from custody.policy.model import Verdict
from custody.settings import ChainSettings, Settings
from custody.signing import intents
from custody.signing.intent_fields import Caps
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from custody.withdrawals import cooling, drafts, fees
from custody.withdrawals.errors import DestinationIsOurs
from custody.withdrawals.model import RequestWithdrawal, Withdrawal
from custody.withdrawals.payments import draft_payment
from custody.withdrawals.transitions import WITHDRAWALS


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted:
    """A withdrawal as it would begin."""

    withdrawal: Withdrawal
    verdict: Verdict
    """How the policy stands before anybody has decided."""
    holds: tuple[Command, ...]
    """What the ledger is to hold for it."""


async def draft(
    uow: UnitOfWork,
    principal: Principal,
    command: RequestWithdrawal,
    destination: Destination,
    *,
    settings: Settings,
    clock: Clock,
    receiver: Receiver | None,
) -> Drafted:
    """The withdrawal, its intent and its hold. `destination` is what `check_destination` found; the amount is checked too.

    Raises UnknownAsset, UnsupportedAsset, UnknownWallet, NoOmnibusVault, DestinationIsOurs, DestinationNotListed, WindowTooShort,
    PolicyUnknown, PolicyDenies, and what `payments.draft_payment` and `fees.agree` raise.
    """
    await assets.get(uow, command.asset)
    chain = drafts.configured(settings, command.asset)
    if command.wallet_id is not None:
        await wallets.get_own_wallet(uow, principal, command.wallet_id)
    vault = await wallets.omnibus(uow, command.asset.chain)
    await _refuse_own_vault(uow, command.asset.chain, destination.account)
    await _demand_listed(uow, command, destination, vault)
    source = await drafts.source(uow, principal, command.id, vault, settings, clock)
    source = await cooling.schedule(uow, command, source, settings, clock)
    payment = await draft_payment(uow, command, destination, source, _caps(chain, command.asset), receiver)
    fee = await fees.agree(uow, command, clock.now())
    new = Withdrawal(
        id=command.id,
        kind=command.kind,
        state=WITHDRAWALS.initial,
        wallet_id=command.wallet_id,
        vault_id=vault.id,
        asset=command.asset,
        destination=destination.address,
        memo=command.memo,
        amount=command.amount,
        intent=payment.intent,
        digest=intents.digest(payment.intent),
        policy_version=source.policy_version,
        initiator=principal.subject,
        principal_id=principal.id,
        reason="",
        expires_at=drafts.moment(source.expires_at),
        created_at=clock.now(),
        changed_at=clock.now(),
        channel_id=payment.channel_id,
        execute_after=command.execute_after,
        fee=fee,
    )
    holds = postings.withdrawal_held(
        withdrawal_id=command.id,
        wallet_id=command.wallet_id,
        vault_id=vault.id,
        amount=Amount(command.asset, command.amount),
    )
    return Drafted(withdrawal=new, verdict=payment.verdict, holds=(*holds, *fees.held(command, fee)))


async def _refuse_own_vault(uow: UnitOfWork, chain: ChainId, account: str) -> None:
    refs = await wallets.find_vaults(uow, chain, [account])
    if any(ref.tenant == uow.tenant for ref in refs):
        raise DestinationIsOurs(account=account)


async def _demand_listed(
    uow: UnitOfWork, command: RequestWithdrawal, destination: Destination, vault: Vault
) -> None:
    receiver = BookReceiver(
        chain=command.asset.chain,
        address=destination.address,
        memo_type=command.memo.type,
        memo=command.memo.value,
    )
    await address_book.demand_listed(uow, receiver, vault_id=vault.id, wallet_id=command.wallet_id)


def _caps(chain: ChainSettings, asset: AssetId) -> Caps:
    if chain.kind == "stellar":
        return drafts.stellar_caps(chain)
    return drafts.evm_caps(chain, asset)
