"""What a ledger's entry changes say that holders had and have. Pure.

This is the other side of the proof: events say what moved, entries say what is there. Source: Stellar-ledger-entries.x.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from custody.kernel.errors import InvariantViolated
from ingestion.stellar.holders import NATIVE, account_name, asset_name, claimable_name, pool_name
from ingestion.stellar.scan.grammar import Struct, load_grammar
from ingestion.stellar.scan.ledger import walker
from ingestion.stellar.scan.walk import DEPTH_MAX, Skip

CREATED, UPDATED, REMOVED, STATE, RESTORED = range(5)
"""LedgerEntryChangeType."""
_ACCOUNT, _TRUST_LINE, _CLAIMABLE, _POOL = 0, 1, 4, 5
"""LedgerEntryType, those of classic money."""
_ASSET_SIZES = {0: 4, 1: 44, 2: 52}
"""Bytes of an Asset by its type. Of a TrustLineAsset, type 3 is a pool share: no money, but a part in a pool that holds some."""
_INT64 = struct.Struct(">q")

Holding = tuple[str, str]
"""Holder and asset."""


class Change(NamedTuple):
    """One change of an entry that holds classic money. A plain tuple: a ledger holds thousands."""

    kind: int
    """LedgerEntryChangeType."""
    entry: bytes
    """What names the entry."""
    amounts: dict[Holding, int]
    """What the entry holds from now on, or held until now for STATE; empty for REMOVED."""


def read_changes(data: bytes, begin: int, end: int) -> Iterator[Change]:
    """The changes of one list (which begins at its count and was walked before) that concern classic money, in order."""
    skip = walker().skip("LedgerEntryChange")
    at = begin + 4
    while at < end:
        after = skip(data, at, DEPTH_MAX)
        change = _removed(data, at, after) if data[at + 3] == REMOVED else _written(data, at)
        if change is not None:
            yield change
        at = after


def sum_changes(data: bytes, lists: Iterable[tuple[int, int, int]]) -> dict[Holding, int]:
    """What each holder gained, over lists of changes in the order in which they were applied. Nothing gained is left out."""
    sums: dict[Holding, int] = {}
    before: dict[bytes, dict[Holding, int]] = {}
    for begin, end, _ in lists:
        for kind, entry, amounts in read_changes(data, begin, end):
            if kind != STATE:
                for key, amount in before.get(entry, {}).items():
                    sums[key] = sums.get(key, 0) - amount
                for key, amount in amounts.items():
                    sums[key] = sums.get(key, 0) + amount
            before[entry] = amounts
    return {key: change for key, change in sums.items() if change}


def _written(data: bytes, at: int) -> Change | None:
    """A change that shows the entry: its type follows the ledger of its last change."""
    kind, entry_type, at = data[at + 3], data[at + 11], at + 12
    if entry_type == _ACCOUNT:
        key = data[at + 4 : at + 36]
        return Change(kind, b"a" + key, {(account_name(key), NATIVE): _int64(data, at + 36)})
    if entry_type == _TRUST_LINE:
        size = _ASSET_SIZES.get(data[at + 39])
        if size is None:
            return None
        key, asset, at = data[at + 4 : at + 36], data[at + 36 : at + 36 + size], at + 36 + size
        return Change(kind, b"t" + key + asset, {(account_name(key), asset_name(asset)): _int64(data, at)})
    if entry_type == _CLAIMABLE:
        return _claimable(kind, data, at)
    if entry_type == _POOL:
        return _pool(kind, data, at)
    return None


def _claimable(kind: int, data: bytes, at: int) -> Change:
    """The balance's id, whom it is for, its asset, its amount. The conditions of the claimants may be nested: they are walked."""
    balance_id = data[at + 4 : at + 36]
    begin = _claimants()(data, at + 36, DEPTH_MAX)
    end = begin + _ASSET_SIZES[data[begin + 3]]
    key = (claimable_name(balance_id), asset_name(data[begin:end]))
    return Change(kind, b"b" + balance_id, {key: _int64(data, end)})


@cache
def _claimants() -> Skip:
    """How to skip the claimants of a balance."""
    entry = load_grammar()["ClaimableBalanceEntry"]
    if not isinstance(entry, Struct):
        raise InvariantViolated("the grammar's ClaimableBalanceEntry is no struct")
    return walker().build(entry.fields[1], "ClaimableBalanceEntry")


def _pool(kind: int, data: bytes, at: int) -> Change:
    """The pool's id, its type, its two assets and fee, its two reserves."""
    pool_id = data[at : at + 32]
    name, first = pool_name(pool_id), at + 36
    second = first + _ASSET_SIZES[data[first + 3]]
    fee = second + _ASSET_SIZES[data[second + 3]]
    return Change(
        kind,
        b"l" + pool_id,
        {
            (name, asset_name(data[first:second])): _int64(data, fee + 4),
            (name, asset_name(data[second:fee])): _int64(data, fee + 12),
        },
    )


def _removed(data: bytes, at: int, end: int) -> Change | None:
    """A change that names an entry which is no more, by its key."""
    entry_type, at = data[at + 7], at + 8
    match entry_type:
        case 0:
            return Change(REMOVED, b"a" + data[at + 4 : at + 36], {})
        case 1:
            return Change(REMOVED, b"t" + data[at + 4 : end], {})
        case 4:
            return Change(REMOVED, b"b" + data[at + 4 : at + 36], {})
        case 5:
            return Change(REMOVED, b"l" + data[at : at + 32], {})
        case _:
            return None


def _int64(data: bytes, at: int) -> int:
    (value,) = _INT64.unpack_from(data, at)
    return int(value)
