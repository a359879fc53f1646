"""What an operation sees while it applies, and the two moves of money that all operations are made of."""

from dataclasses import dataclass, replace
from enum import Enum, auto

from stellar_sdk import xdr

from devnet.stellar.entries import BASE_RESERVE_STROOPS, INT64_MAX, Account, AssetRef
from devnet.stellar.envelope import Frame, muxed_raw
from devnet.stellar.events import EventLog
from devnet.stellar.state import Layer

MAX_SUBENTRIES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OpContext:
    """One operation of one transaction, with the layer it writes to."""

    frame: Frame
    index: int
    layer: Layer
    log: EventLog
    close_time: int
    """Unix seconds of the ledger being closed."""

    @property
    def body(self) -> xdr.OperationBody:
        return self.frame.tx.operations[self.index].body

    @property
    def muxed_source(self) -> xdr.MuxedAccount:
        return self.frame.operation_source(self.index)

    @property
    def source(self) -> bytes:
        return muxed_raw(self.muxed_source)

    @property
    def memo(self) -> xdr.Memo:
        return self.frame.tx.memo

    def source_account(self) -> Account:
        """The operation's source; the caller has checked that it exists."""
        account = self.layer.account(self.source)
        if account is None:
            raise LookupError("operation source vanished between check and apply")
        return account


class Refusal(Enum):
    """Why one side of a move cannot happen."""

    NO_ACCOUNT = auto()
    """The holder of native money does not exist."""
    NO_LINE = auto()
    NOT_AUTHORIZED = auto()
    UNDERFUNDED = auto()
    FULL = auto()
    """The trustline's limit, or the range of int64 for native."""


def debit(layer: Layer, holder: bytes, asset: AssetRef, amount: int) -> Refusal | None:
    """Take amount from holder; an issuer of the asset creates it from nothing."""
    if asset.is_native:
        account = layer.account(holder)
        if account is None:
            return Refusal.NO_ACCOUNT
        if account.available < amount:
            return Refusal.UNDERFUNDED
        layer.put(replace(account, balance=account.balance - amount))
        return None
    if asset.issuer == holder:
        return None
    line = layer.trustline(holder, asset)
    if line is None:
        return Refusal.NO_LINE
    if not line.authorized:
        return Refusal.NOT_AUTHORIZED
    if line.balance < amount:
        return Refusal.UNDERFUNDED
    layer.put(replace(line, balance=line.balance - amount))
    return None


def credit(layer: Layer, holder: bytes, asset: AssetRef, amount: int) -> Refusal | None:
    """Give amount to holder; at the issuer of the asset it ceases to exist."""
    if asset.is_native:
        account = layer.account(holder)
        if account is None:
            return Refusal.NO_ACCOUNT
        if account.balance > INT64_MAX - amount:
            return Refusal.FULL
        layer.put(replace(account, balance=account.balance + amount))
        return None
    if asset.issuer == holder:
        return None
    line = layer.trustline(holder, asset)
    if line is None:
        return Refusal.NO_LINE
    if not line.authorized:
        return Refusal.NOT_AUTHORIZED
    if line.limit - line.balance < amount:
        return Refusal.FULL
    layer.put(replace(line, balance=line.balance + amount))
    return None


class SubentryRefusal(Enum):
    """Why an account cannot own one more entry."""

    TOO_MANY = auto()
    LOW_RESERVE = auto()


def add_subentry(account: Account) -> Account | SubentryRefusal:
    """The account with one more subentry, or why not: 1,000 at most, and a reserve for each."""
    if account.subentries >= MAX_SUBENTRIES:
        return SubentryRefusal.TOO_MANY
    if account.available < BASE_RESERVE_STROOPS:
        return SubentryRefusal.LOW_RESERVE
    return replace(account, subentries=account.subentries + 1)


def drop_subentry(account: Account) -> Account:
    return replace(account, subentries=account.subentries - 1)
