"""Stellar addresses: an account (G…), or an account with a tag (M…), and how to make them. Pure.

Contract (C…), claimable-balance (B…) and pool (L…) addresses are no destinations of ours. Source: SEP-23, CAP-27.
"""

from __future__ import annotations

from dataclasses import dataclass

from stellar_sdk import MuxedAccount, StrKey

from custody.chains.errors import InvalidAddress

MAX_TAG = 2**64 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarDestination:
    """Where money can be sent on Stellar."""

    account: str
    """The G… account that holds the money on chain."""
    tag: int | None
    """The muxed id, where the address carries one."""

    @property
    def address(self) -> str:
        """The text form: M… with a tag, G… without."""
        return self.account if self.tag is None else muxed(self.account, self.tag)


def parse_destination(text: str) -> StellarDestination:
    """The destination that this text names. Raises InvalidAddress."""
    if len(text) == 56 and text.startswith("G") and StrKey.is_valid_ed25519_public_key(text):
        return StellarDestination(account=text, tag=None)
    if len(text) == 69 and text.startswith("M"):
        try:
            found = MuxedAccount.from_account(text)
        except ValueError as error:
            raise InvalidAddress(address=text) from error
        return StellarDestination(account=found.account_id, tag=found.account_muxed_id)
    raise InvalidAddress(address=text[:100])


def parse_account(text: str) -> str:
    """A plain G… account. Raises InvalidAddress for anything else, a muxed address too."""
    found = parse_destination(text)
    if found.tag is not None:
        raise InvalidAddress(address=text, expected="an account without tag")
    return found.account


def muxed(account: str, tag: int) -> str:
    """The M… address of an account and a tag. Raises InvalidAddress for a bad account or a tag outside 64 bits."""
    if not 0 <= tag <= MAX_TAG:
        raise InvalidAddress(tag=tag)
    if not StrKey.is_valid_ed25519_public_key(account):
        raise InvalidAddress(address=account[:100])
    return MuxedAccount(account, tag).account_muxed or account


def account_of_key(public_key: bytes) -> str:
    """The G… account of an Ed25519 public key. Raises InvalidAddress when it is not 32 bytes."""
    try:
        return StrKey.encode_ed25519_public_key(public_key)
    except ValueError as error:
        raise InvalidAddress(public_key_bytes=len(public_key)) from error
