"""What a batch's root is made of: the bytes of a transfer, its leaf, and the tree above the leaves. Pure.

The posting function computes the same in SQL, in the transaction that writes the transfers; whoever holds the rows can compute
it again and see whether any of them was changed since. The tree is that of RFC 6962 section 2.1 (split at the largest power of
two below the number of leaves), which is the same as hashing neighbours level by level and carrying an odd last node up.
Leaves and nodes are hashed under different first bytes, so that neither can be passed off as the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

FIELDS = (
    "tenant_id",
    "id",
    "chain_id",
    "kind",
    "code",
    "reference",
    "debit_account",
    "credit_account",
    "posted",
    "pending",
    "target_id",
    "debit_version",
    "debit_balance",
    "debit_held",
    "credit_version",
    "credit_balance",
    "credit_held",
    "booked_at",
    "effective_at",
)
"""Columns of `ledger_transfers` that a leaf covers, in the order in which they are written."""

_MARK = "ledger-transfer-v1"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WHOLE = frozenset(("posted", "pending", "debit_balance", "debit_held", "credit_balance", "credit_held"))


def transfer_encoding(row: Mapping[str, Any]) -> bytes:
    """The bytes of one row of `ledger_transfers`: a mark and the fields, joined by `|`. No field can contain a `|`.

    Amounts are decimal integers, ids lower-case with hyphens, moments microseconds since 1970 in UTC, an absent target empty.
    """
    return "|".join((_MARK, *(_written(name, row[name]) for name in FIELDS))).encode()


def _written(name: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return str((value - _EPOCH) // _MICROSECOND)
    return str(int(value)) if name in _WHOLE else str(value)


def leaf_hash(encoding: bytes) -> bytes:
    """The leaf of a transfer's encoding. Source: RFC 6962 section 2.1."""
    return sha256(b"\x00" + encoding).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The node above two others. Source: RFC 6962 section 2.1."""
    return sha256(b"\x01" + left + right).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over leaf hashes, in order. Raises ValueError when there are none: a batch without transfers has no root."""
    if not leaves:
        raise ValueError("no leaves")
    level = list(leaves)
    while len(level) > 1:
        paired = [node_hash(level[n], level[n + 1]) for n in range(0, len(level) - 1, 2)]
        level = paired + level[len(paired) * 2 :]
    return level[0]
