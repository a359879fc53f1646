"""Whether a final arrival is credited, and if not, why not. Pure.

The order of the reasons is the order of the questions: each presumes that those before it were answered well.
"""

from __future__ import annotations

from dataclasses import dataclass

from custody.chains.address import EVM, STELLAR, namespace
from custody.chains.stellar.memo import number_in
from custody.deposits.model import DepositRule, ObservedTransfer, Reason
from custody.kernel.ids import WalletId

NO_RULE = DepositRule()
"""Every amount is welcome."""
_EMPTY = frozenset({"", "text:"})
"""Words of somebody who wrote nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known about an arrival when its block is final."""

    transfer: ObservedTransfer
    """What arrived."""
    wallet_id: WalletId | None
    """The wallet that it names."""
    listed: bool
    """Whether its asset is."""
    rule: DepositRule
    """The tenant's rule for that asset."""
    closed: bool = False
    """Whether the wallet's account was closed."""
    refused: bool = False
    """Whether the wallet's account refused it: its ceiling."""
    holder_id: WalletId | None = None
    """Where no wallet is named: the wallet whose address it is on other chains."""


def judge(seen: Standing) -> Reason | None:
    """Why the arrival cannot be credited; None when it can."""
    if not seen.listed:
        return Reason.UNSUPPORTED_ASSET
    if seen.transfer.amount < seen.rule.dust:
        return Reason.DUST
    if seen.transfer.doubt:
        return Reason.DISTRUSTED
    if seen.wallet_id is None:
        return _unnamed(seen)
    if seen.closed:
        return Reason.ACCOUNT_CLOSED
    if seen.transfer.amount < seen.rule.minimum:
        return Reason.BELOW_MINIMUM
    return Reason.ACCOUNT_REFUSED if seen.refused else None


def is_ignored(reason: Reason, transfer: ObservedTransfer) -> bool:
    """Whether nobody is asked. On EVM chains anybody can make a token and send it; on Stellar it takes a trustline of ours."""
    spam = reason is Reason.UNSUPPORTED_ASSET and namespace(transfer.chain) == EVM
    return spam or reason is Reason.DUST


def named_by(transfer: ObservedTransfer) -> tuple[int | None, str | None]:
    """What of a deposit address the sender named: a tag, or the words of a memo.

    A muxed id has beaten the memo already (SEP-23, CAP-67). Text that spells a number is taken as an id memo: many senders have
    only a field for text, and no such text can be registered for anybody else.
    """
    if transfer.tag is not None:
        return transfer.tag, None
    number = number_in(transfer.memo)
    if number is not None:
        return number, None
    return None, None if transfer.memo in _EMPTY else transfer.memo


def _unnamed(seen: Standing) -> Reason:
    if seen.holder_id is not None:
        return Reason.CHAIN_NOT_ENABLED
    if namespace(seen.transfer.chain) != STELLAR:
        return Reason.UNATTRIBUTED
    missing = named_by(seen.transfer) == (None, None)
    return Reason.MEMO_MISSING if missing else Reason.UNKNOWN_MEMO
