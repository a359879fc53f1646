"""The intent of a payment to somebody outside: on which road it goes, and whether the policy could ever allow it."""

from __future__ import annotations

from dataclasses import dataclass

from custody.chains.address import Destination
from custody.chains.stellar.receivers import Receiver
from custody.db.session import UnitOfWork
from custody.kernel.ids import VaultId
from custody.policy.errors import PolicyDenies
from custody.policy.model import Verdict
from custody.signing import intents
from custody.signing.intent_fields import Caps, Source, StellarCaps
from custody.wallets import service as wallets
from custody.withdrawals import channel_store, drafts, receivers
from custody.withdrawals.errors import (
    DestinationFull,
    DestinationMissing,
    TrustlineMissing,
    TrustlineUnauthorized,
)
from custody.withdrawals.model import RequestWithdrawal


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An intent that the policy could allow."""

    intent: bytes
    """Canonical bytes that approvers sign."""
    verdict: Verdict
    """How the policy stands before anybody has decided."""
    channel_id: VaultId | None = None
    """Stellar: the channel that the intent names. Approvers sign for it too, so it serves this payment for good."""


async def draft_payment(
    uow: UnitOfWork,
    command: RequestWithdrawal,
    destination: Destination,
    source: Source,
    caps: Caps,
    receiver: Receiver | None,
) -> Draft:
    """The intent of a payment: it opens the receiver's account where that is missing, is set aside for a receiver that cannot
    take it, and takes a channel where one is open.

    Raises PolicyUnknown, PolicyDenies, DestinationMissing (also where the policy opens no account), and what
    `receivers.opens_account` raises (also where the policy sets nothing aside).
    """
    try:
        opens = receivers.opens_account(command.asset, command.amount, command.memo, destination, receiver)
    except (TrustlineMissing, TrustlineUnauthorized, DestinationFull) as refusal:
        return await _set_aside(uow, command, destination, source, caps, refusal)
    if opens and isinstance(caps, StellarCaps):
        intent = intents.build_create_account_intent(
            source, caps, amount=command.amount, destination=destination.account
        )
        try:
            return Draft(intent=intent, verdict=await drafts.allowed(uow, intent))
        except PolicyDenies as error:
            raise DestinationMissing(account=destination.account, policy=error.values["reason"]) from error
    channel_id, channel = None, ""
    if isinstance(caps, StellarCaps):
        channel_id = await channel_store.find_idlest(uow, source.chain)
    if channel_id is not None:
        channel = (await wallets.get_vault(uow, channel_id)).account
    intent = intents.build_payment_intent(
        source,
        caps,
        asset=command.asset,
        amount=command.amount,
        destination=destination.address,
        memo_type=command.memo.type,
        memo=command.memo.value,
        channel=channel,
    )
    return Draft(intent=intent, verdict=await drafts.allowed(uow, intent), channel_id=channel_id)


async def _set_aside(
    uow: UnitOfWork,
    command: RequestWithdrawal,
    destination: Destination,
    source: Source,
    caps: Caps,
    refusal: TrustlineMissing | TrustlineUnauthorized | DestinationFull,
) -> Draft:
    """The intent of a claimable balance for a receiver that cannot take the payment; the refusal, where the policy has no rule
    for that. Who is meant by the id in an M address could not be said there. Source: CAP-23."""
    if destination.tag is not None or command.asset.is_native:
        raise refusal
    intent = intents.build_payment_intent(
        source,
        caps,
        asset=command.asset,
        amount=command.amount,
        destination=destination.account,
        memo_type=command.memo.type,
        memo=command.memo.value,
        claimable=True,
    )
    try:
        return Draft(intent=intent, verdict=await drafts.allowed(uow, intent))
    except PolicyDenies as denied:
        refusal.values["policy"] = denied.values["reason"]
        raise refusal from denied
