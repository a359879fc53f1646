"""What a ledger's entry changes say that holders had and have. Pure.

This is the other side of the proof: events say what moved, entries say what is there. Source: Stellar-ledger-entries.x.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from functools import cache
from typing import NamedTuple

from custody.kernel.errors import InvariantViolated
from ingestion.stellar.holders import (
    NATIVE,
    account_name,
    asset_name,
    claimable_name,
    contract_name,
    pool_name,
)
from ingestion.stellar.scan.grammar import Struct, load_grammar
from ingestion.stellar.scan.ledger import walker
from ingestion.stellar.scan.patterns import any_of, compile_pattern, symbol
from ingestion.stellar.scan.walk import DEPTH_MAX, Skip

CREATED, UPDATED, REMOVED, STATE, RESTORED = range(5)
"""LedgerEntryChangeType."""
FOUND = frozenset((STATE, RESTORED))
"""Changes that show an entry as it is found, and alter nothing of it. What comes back from the archive comes back as it went
there; if it is changed as well, another change follows. Source: CAP-62, CAP-66; stellar-core, TransactionMeta.cpp."""
_ACCOUNT, _TRUST_LINE, _DATA, _CLAIMABLE, _POOL, _CONTRACT_DATA = 0, 1, 3, 4, 5, 6
"""LedgerEntryType: classic money, data entries, and what contracts keep."""
MEMO_REQUIRED = "config.memo_required"
"""The only data entry that is read. Source: SEP-29."""
_ASSET_SIZES = {0: 4, 1: 44, 2: 52}
"""Bytes of an Asset by its type. Of a TrustLineAsset, type 3 is a pool share: no money, but a part in a pool that holds some."""
_INT64 = struct.Struct(">q")
_MEMO_REQUIRED = len(MEMO_REQUIRED).to_bytes(4, "big") + MEMO_REQUIRED.encode()
"""That name in XDR."""

Holding = tuple[str, str]
"""Holder and asset."""


class Change(NamedTuple):
    """One change of an entry that holds money. A plain tuple: a ledger holds thousands."""

    kind: int
    """LedgerEntryChangeType."""
    entry: bytes
    """What names the entry: a letter for its kind, then its owner's key where it has one, then what tells it from others."""
    amounts: dict[Holding, int]
    """What the entry holds from now on, or held until now where it is found; empty for REMOVED. A contract's holding names the
    token's contract in place of the asset. A data entry holds nothing, under its name."""
    begin: int = 0
    """Where its LedgerEntry begins; not for REMOVED."""
    end: int = 0
    """Where that ends."""


def read_changes(data: bytes, begin: int, end: int) -> Iterator[Change]:
    """The changes of one list (which begins at its count and was walked before) that concern money, in order."""
    skip = walker().skip("LedgerEntryChange")
    at = begin + 4
    while at < end:
        after = skip(data, at, DEPTH_MAX)
        change = _removed(data, at, after) if data[at + 3] == REMOVED else _written(data, at, after)
        if change is not None:
            yield change
        at = after


def sum_changes(data: bytes, lists: Iterable[tuple[int, int, int]]) -> dict[Holding, int]:
    """What each holder gained, over lists of changes in the order in which they were applied. Nothing gained is left out."""
    sums: dict[Holding, int] = {}
    before: dict[bytes, dict[Holding, int]] = {}
    for begin, end, _ in lists:
        for kind, entry, amounts, _, _ in read_changes(data, begin, end):
            if kind not in FOUND:
                for key, amount in before.get(entry, {}).items():
                    sums[key] = sums.get(key, 0) - amount
                for key, amount in amounts.items():
                    sums[key] = sums.get(key, 0) + amount
            before[entry] = amounts
    return {key: change for key, change in sums.items() if change}


def _written(data: bytes, at: int, end: int) -> Change | None:
    """A change that shows the entry: its type follows the ledger of its last change."""
    kind, entry_type, begin, at = data[at + 3], data[at + 11], at + 4, at + 12
    if entry_type == _ACCOUNT:
        key = data[at + 4 : at + 36]
        return Change(kind, b"a" + key, {(account_name(key), NATIVE): _int64(data, at + 36)}, begin, end)
    if entry_type == _TRUST_LINE:
        size = _ASSET_SIZES.get(data[at + 39])
        if size is None:
            return None
        key, asset, at = data[at + 4 : at + 36], data[at + 36 : at + 36 + size], at + 36 + size
        held = {(account_name(key), asset_name(asset)): _int64(data, at)}
        return Change(kind, b"t" + key + asset, held, begin, end)
    if entry_type == _CLAIMABLE:
        return _claimable(kind, data, at)
    if entry_type == _POOL:
        return _pool(kind, data, at)
    if entry_type == _CONTRACT_DATA:
        return _contract_balance(kind, data, at, begin, end)
    if entry_type == _DATA and data.startswith(_MEMO_REQUIRED, at + 36):
        key = data[at + 4 : at + 36]
        return Change(kind, b"d" + key, {(account_name(key), MEMO_REQUIRED): 0}, begin, end)
    return None


def _contract_balance(kind: int, data: bytes, at: int, begin: int, end: int) -> Change | None:
    """What a contract holds by an asset's contract; None for whatever else a contract keeps, or keeps otherwise."""
    found = contract_balances().match(data, at)
    if found is None:
        return None
    token, holder, amount = found[1], found[2], int.from_bytes(found[3], "big", signed=True)
    return Change(
        kind, b"c" + token + holder, {(contract_name(holder), contract_name(token)): amount}, begin, end
    )


@cache
def contract_balances() -> re.Pattern[bytes]:
    """The balance of a contract as an asset's own contract keeps it: its groups are token, holder, amount, authorized, clawback.

    Other contracts may write the same form: whose contract it is must be known before it is believed. Source: CAP-46-6.
    """
    flag = any_of((0,)) + rb"\0\0\0([\0\1])"
    fields = ((b"amount", any_of((10,)) + b"(.{16})"), (b"authorized", flag), (b"clawback", flag))
    table = any_of((17,)) + any_of((1,)) + any_of((len(fields),))
    rows = b"".join(any_of((15,)) + symbol(name) + value for name, value in fields)
    return compile_pattern(any_of((0,)) + _of_contract_balance() + any_of((1,)) + table + rows)


@cache
def _contract_balance_keys() -> re.Pattern[bytes]:
    """The same entry's key."""
    return compile_pattern(_of_contract_balance())


def _of_contract_balance() -> bytes:
    """The token's contract, then [Balance, the holding contract]."""
    address = any_of((1,)) + b"(.{32})"
    vector = any_of((16,)) + any_of((1,)) + any_of((2,))
    return address + vector + any_of((15,)) + symbol(b"Balance") + any_of((18,)) + address


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
        case 1 if data[at + 39] in _ASSET_SIZES:
            return Change(REMOVED, b"t" + data[at + 4 : end], {})
        case 4:
            return Change(REMOVED, b"b" + data[at + 4 : at + 36], {})
        case 5:
            return Change(REMOVED, b"l" + data[at : at + 32], {})
        case 3 if data.startswith(_MEMO_REQUIRED, at + 36):
            return Change(REMOVED, b"d" + data[at + 4 : at + 36], {})
        case 6 if (found := _contract_balance_keys().match(data, at)) is not None:
            return Change(REMOVED, b"c" + found[1] + found[2], {})
        case _:
            return None


def _int64(data: bytes, at: int) -> int:
    (value,) = _INT64.unpack_from(data, at)
    return int(value)
