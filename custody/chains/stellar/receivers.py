"""How an account stands towards money that is to be sent to it: whether the network would take the payment. Pure.

Source: Stellar-ledger-entries.x (AccountEntry, TrustLineEntry); CAP-18 (authorization); SEP-29 (memo required).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from stellar_sdk import xdr

_INT64_MAX = 2**63 - 1
_AUTHORIZED = 1
"""AUTHORIZED_FLAG of a trustline; a line that may only keep its offers takes no payment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """One account and one asset, as the ledger has them."""

    exists: bool
    """Whether there is such an account."""
    trusts: bool
    """Whether it has a line for the asset; true where none is needed: native money, and what it issues itself."""
    authorized: bool
    """Whether the issuer lets it hold the asset."""
    room: int
    """Atomic units that it can still take."""
    memo_required: bool
    """Whether it asks its senders for a memo."""
    height: int
    """Ledger at which this is true."""


def read_receiver(entries: Mapping[str, xdr.LedgerEntryData], *, needs_line: bool, height: int) -> Receiver:
    """From the entries `account`, `line` and `data` (of `config.memo_required`), as far as they exist."""
    account, line, data = (entries.get(name) for name in ("account", "line", "data"))
    trust = None if line is None else line.trust_line
    if trust is not None:
        room = trust.limit.int64 - trust.balance.int64 - _buying(trust.ext.v1)
    elif account is not None and account.account is not None and not needs_line:
        room = _INT64_MAX - account.account.balance.int64 - _buying(account.account.ext.v1)
    else:
        room = 0
    wants = None if data is None or data.data is None else data.data.data_value.data_value
    return Receiver(
        exists=account is not None,
        trusts=trust is not None or not needs_line,
        authorized=not needs_line or (trust is not None and bool(trust.flags.uint32 & _AUTHORIZED)),
        room=max(room, 0),
        memo_required=wants == b"1",
        height=height,
    )


def _buying(extension: xdr.AccountEntryExtensionV1 | xdr.TrustLineEntryV1 | None) -> int:
    """What offers may still bring: the network keeps room for it."""
    return 0 if extension is None else extension.liabilities.buying.int64
