"""Whether a request can be carried out on its chain at all. Pure; funds, policy and ownership are asked elsewhere."""

from __future__ import annotations

import re

from custody.chains import address
from custody.chains.address import EVM, STELLAR, Destination
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.money import MAX_ATOMIC, AmountNotPositive, AmountTooLarge
from custody.withdrawals.errors import InvalidMemo, MemoNotAllowed, NotATrustline, UnsupportedAsset
from custody.withdrawals.model import NO_MEMO, Memo

STELLAR_AMOUNT_MAX = 2**63 - 1
"""Amounts on Stellar are signed 64-bit integers of stroops. Source: Stellar XDR, Int64 amounts."""

_MEMO_FORMS = {
    "none": re.compile(r""),
    "id": re.compile(r"0|[1-9][0-9]{0,19}"),
    "text": re.compile(r"[\x20-\x7e]{1,28}"),
    "hash": re.compile(r"[0-9a-f]{64}"),
}
_MEMO_ID_MAX = 2**64 - 1


def check_destination(asset: AssetId, text: str, memo: Memo) -> Destination:
    """The address on the asset's chain, canonically spelled.

    Raises UnsupportedAsset (also for tokens of Stellar contracts, which no intent pays yet), InvalidAddress, InvalidMemo,
    MemoNotAllowed (EVM chains know no memo, and an M address carries the receiver's tag already). Source: SEP-23, SEP-29, EIP-55.
    """
    if address.namespace(asset.chain) not in {STELLAR, EVM} or asset.contract is not None:
        raise UnsupportedAsset(asset=asset.text)
    return check_receiver(asset.chain, text, memo)


def check_receiver(chain: ChainId, text: str, memo: Memo) -> Destination:
    """The same of any asset of a chain. Raises UnsupportedChain, InvalidAddress, InvalidMemo, MemoNotAllowed."""
    destination = address.parse(chain, text)
    check_memo(memo)
    if memo != NO_MEMO and (address.namespace(chain) == EVM or destination.tag is not None):
        raise MemoNotAllowed(destination=text, memo_type=memo.type)
    return destination


def check_memo(memo: Memo) -> None:
    """Raises InvalidMemo unless the value fits its type. Source: Stellar XDR, Memo."""
    fits = _MEMO_FORMS[memo.type].fullmatch(memo.value) is not None
    if not fits or (memo.type == "id" and int(memo.value) > _MEMO_ID_MAX):
        raise InvalidMemo(memo_type=memo.type, memo=memo.value[:80])


def check_amount(asset: AssetId, amount: int) -> None:
    """Raises AmountNotPositive or AmountTooLarge when the chain cannot carry the amount."""
    if amount <= 0:
        raise AmountNotPositive(amount=amount)
    largest = STELLAR_AMOUNT_MAX if address.namespace(asset.chain) == STELLAR else MAX_ATOMIC
    if amount > largest:
        raise AmountTooLarge(amount=amount, largest=largest)


def check_trustline(asset: AssetId, vault_chain: str, vault_account: str) -> None:
    """Raises NotATrustline unless this is a credit asset of the vault's own Stellar network, issued by somebody else."""
    foreign = asset.chain != vault_chain or address.namespace(asset.chain) != STELLAR
    if (
        foreign
        or asset.is_native
        or asset.contract is not None
        or asset.reference.partition(":")[2] == vault_account
    ):
        raise NotATrustline(asset=asset.text, vault_chain=vault_chain)
