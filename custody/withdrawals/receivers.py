"""Whether the receiver of a Stellar payment would get it, asked before anybody is asked to approve it.

The node is asked first (no transaction open); the judgement is pure. What it says is true for one ledger: a receiver that changes
afterwards makes the transaction fail on chain, which costs its fee and releases the hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

from custody.chain_settings import STELLAR_RESERVE
from custody.chains import address
from custody.chains.address import Destination
from custody.chains.errors import InvalidAddress
from custody.chains.stellar.receivers import Receiver
from custody.kernel.assetid import AssetId, ChainId
from custody.withdrawals.errors import (
    BelowReserve,
    DestinationFull,
    DestinationMissing,
    MemoRequired,
    TrustlineMissing,
    TrustlineUnauthorized,
)
from custody.withdrawals.model import NO_MEMO, Memo


@runtime_checkable
class ReceiverReader(Protocol):
    """A client of a chain on which a receiver must be ready: Stellar."""

    async def receiver(self, account: str, asset: AssetId) -> Receiver:
        """How the account stands towards a payment of this asset."""
        ...


async def look_up(clients: Mapping[ChainId, object], asset: AssetId, destination: str) -> Receiver | None:
    """What the node says of the receiver; None on chains where everybody can be paid, and for what the request itself refuses.

    Network only. Raises RpcUnreachable, RpcRefused, RpcUnreadable.
    """
    client = clients.get(asset.chain)
    if not isinstance(client, ReceiverReader) or asset.contract is not None:
        return None
    try:
        parsed = address.parse(asset.chain, destination)
    except InvalidAddress:
        return None
    return await client.receiver(parsed.account, asset)


def opens_account(
    asset: AssetId, amount: int, memo: Memo, destination: Destination, receiver: Receiver | None
) -> bool:
    """Whether the payment has to open the receiver's account; False when it can simply be paid.

    Raises DestinationMissing, BelowReserve, MemoRequired, and last of all TrustlineMissing, TrustlineUnauthorized and
    DestinationFull, which a claimable balance gets around. Only native money opens an account, and nobody has yet said there
    whose a tag or memo is.
    """
    if receiver is None:
        return False
    if not receiver.exists:
        if not asset.is_native or memo != NO_MEMO or destination.tag is not None:
            raise DestinationMissing(account=destination.account, height=receiver.height)
        if amount < STELLAR_RESERVE:
            raise BelowReserve(amount=amount, least=STELLAR_RESERVE)
        return True
    if receiver.memo_required and memo == NO_MEMO and destination.tag is None:
        raise MemoRequired(account=destination.account)
    if not receiver.trusts:
        raise TrustlineMissing(account=destination.account, asset=asset.text)
    if not receiver.authorized:
        raise TrustlineUnauthorized(account=destination.account, asset=asset.text)
    if receiver.room < amount:
        raise DestinationFull(account=destination.account, room=receiver.room)
    return False
