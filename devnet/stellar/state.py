"""The ledger's entries and the nested layers in which a transaction changes them.

A layer collects writes above its parent and is either committed into it or dropped, which gives all-or-nothing
operations, transactions and ledgers. What a layer changed is also exactly what the meta has to show.
"""

from dataclasses import dataclass, replace
from typing import Protocol, TypeAlias, TypeVar

from stellar_sdk import xdr

from devnet.stellar.entries import (
    Account,
    AssetRef,
    ClaimableBalance,
    DataEntry,
    Entry,
    TrustLine,
    account_id_xdr,
    asset_from_xdr,
    balance_id_xdr,
    raw_account,
)


@dataclass(frozen=True, slots=True)
class AccountKey:
    """Names an account entry."""

    account: bytes


@dataclass(frozen=True, slots=True)
class TrustKey:
    """Names a trustline entry."""

    account: bytes
    asset: AssetRef


@dataclass(frozen=True, slots=True)
class BalanceKey:
    """Names a claimable balance entry."""

    balance_id: bytes


@dataclass(frozen=True, slots=True)
class DataKey:
    """Names a data entry."""

    account: bytes
    name: bytes


Key: TypeAlias = AccountKey | TrustKey | BalanceKey | DataKey
E_ = TypeVar("E_", Account, TrustLine, ClaimableBalance, DataEntry)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One entry before and after a layer; None stands for absent."""

    key: Key
    before: Entry | None
    after: Entry | None


class Reader(Protocol):
    """Where a layer looks for what it has not written itself."""

    def get(self, key: Key) -> Entry | None: ...


class LedgerState:
    """All entries as of the last closed ledger."""

    def __init__(self) -> None:
        self._entries: dict[Key, Entry] = {}

    def get(self, key: Key) -> Entry | None:
        return self._entries.get(key)

    def write(self, key: Key, entry: Entry | None) -> None:
        if entry is None:
            self._entries.pop(key, None)
        else:
            self._entries[key] = entry

    def entries(self) -> list[Entry]:
        return list(self._entries.values())


class Layer:
    """Uncommitted writes above a parent, stamped with the ledger that makes them."""

    def __init__(self, parent: Reader, ledger: int) -> None:
        self._parent = parent
        self.ledger = ledger
        self._writes: dict[Key, Entry | None] = {}

    def get(self, key: Key) -> Entry | None:
        if key in self._writes:
            return self._writes[key]
        return self._parent.get(key)

    def write(self, key: Key, entry: Entry | None) -> None:
        self._writes[key] = entry

    def put(self, entry: Entry) -> None:
        """Write an entry; its last-modified ledger becomes this layer's."""
        self._writes[key_of(entry)] = replace(entry, modified=self.ledger)

    def remove(self, key: Key) -> None:
        self._writes[key] = None

    def changes(self) -> list[Change]:
        """Every written entry in order of first write, also where it ended as it began (core shows those too)."""
        found = [Change(key=k, before=self._parent.get(k), after=v) for k, v in self._writes.items()]
        return [c for c in found if c.before is not None or c.after is not None]

    def account(self, account: bytes) -> Account | None:
        return _expect(self.get(AccountKey(account)), Account)

    def trustline(self, account: bytes, asset: AssetRef) -> TrustLine | None:
        return _expect(self.get(TrustKey(account, asset)), TrustLine)

    def claimable(self, balance_id: bytes) -> ClaimableBalance | None:
        return _expect(self.get(BalanceKey(balance_id)), ClaimableBalance)

    def data(self, account: bytes, name: bytes) -> DataEntry | None:
        return _expect(self.get(DataKey(account, name)), DataEntry)

    def commit_into(self, target: "Layer | LedgerState") -> None:
        for key, entry in self._writes.items():
            target.write(key, entry)


def key_of(entry: Entry) -> Key:
    match entry:
        case Account():
            return AccountKey(entry.account)
        case TrustLine():
            return TrustKey(entry.account, entry.asset)
        case ClaimableBalance():
            return BalanceKey(entry.balance_id)
        case DataEntry():
            return DataKey(entry.account, entry.name)


def key_to_xdr(key: Key) -> xdr.LedgerKey:
    kind = xdr.LedgerEntryType
    match key:
        case AccountKey():
            return xdr.LedgerKey(kind.ACCOUNT, account=xdr.LedgerKeyAccount(account_id_xdr(key.account)))
        case TrustKey():
            line = xdr.LedgerKeyTrustLine(account_id_xdr(key.account), key.asset.to_trust_xdr())
            return xdr.LedgerKey(kind.TRUSTLINE, trust_line=line)
        case BalanceKey():
            balance = xdr.LedgerKeyClaimableBalance(balance_id_xdr(key.balance_id))
            return xdr.LedgerKey(kind.CLAIMABLE_BALANCE, claimable_balance=balance)
        case DataKey():
            data = xdr.LedgerKeyData(account_id_xdr(key.account), xdr.String64(key.name))
            return xdr.LedgerKey(kind.DATA, data=data)


def key_from_xdr(key: xdr.LedgerKey) -> Key | None:
    """None for kinds of entry that this network never has (offers, pools, contracts)."""
    if key.account is not None:
        return AccountKey(raw_account(key.account.account_id))
    if key.trust_line is not None:
        if key.trust_line.asset.type == xdr.AssetType.ASSET_TYPE_POOL_SHARE:
            return None
        return TrustKey(raw_account(key.trust_line.account_id), asset_from_xdr(key.trust_line.asset))
    if key.claimable_balance is not None and key.claimable_balance.balance_id.v0 is not None:
        return BalanceKey(key.claimable_balance.balance_id.v0.hash)
    if key.data is not None:
        return DataKey(raw_account(key.data.account_id), key.data.data_name.string64)
    return None


def _expect(entry: Entry | None, kind: type[E_]) -> E_ | None:
    if entry is None or isinstance(entry, kind):
        return entry
    raise TypeError(f"{kind.__name__} key leads to {type(entry).__name__}")
