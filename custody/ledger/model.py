"""What the ledger is told and what it answers. The same command again, by the id that its caller chose, is carried out once.
A transfer debits one account and credits another by the same amount; a hold reserves it for a transfer that is not certain
yet."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal, NamedTuple
from uuid import UUID

from custody.kernel.assetid import AssetId
from custody.kernel.ids import TenantId, derived_uuid
from custody.kernel.money import MAX_ATOMIC, Amount, AssetMismatch
from custody.ledger.errors import LimitsExcludeZero


class AccountKind(StrEnum):
    """What an account stands for. The chart of accounts (`chart.py`) gives each its side and guard, and says why."""

    WALLET = "wallet"
    """What we owe a customer in one wallet."""
    VAULT = "vault"
    """What a key of ours holds on chain."""
    BANK = "bank"
    """What lies in a bank account of ours."""
    IN_TRANSIT = "in_transit"
    """What has left one place of ours and not yet reached the next. At rest it is zero."""
    NETWORK_FEES = "network_fees"
    """What chains have cost us."""
    SUSPENSE = "suspense"
    """Money that came in and belongs to nobody known yet."""
    ISSUANCE = "issuance"
    """What of a token that we issue is outstanding."""
    EQUITY = "equity"
    """Our own money put in or taken out."""
    CLEARING = "clearing"
    """Our open position in an asset from exchanges: above zero we have bought of it, below zero we have sold."""
    FEE_INCOME = "fee_income"
    """What we have charged."""


class Side(StrEnum):
    """The side on which an account's balance grows."""

    DEBIT = "debit"
    """Assets and expenses."""
    CREDIT = "credit"
    """Liabilities, equity and income."""


class Guard(StrEnum):
    """When an account refuses to fall below its floor."""

    ALWAYS = "always"
    """By any transfer or hold."""
    HOLDS = "holds"
    """By a new hold, which is a promise; a transfer records what has already happened outside."""
    NEVER = "never"
    """It may be overdrawn."""


class TransferCode(StrEnum):
    """Why money moved: the reason shown on statements."""

    DEPOSIT = "deposit"
    """A final deposit on chain: into the vault, or out of suspense to its wallet; or out of both when the chain took it back."""
    DEPOSIT_SUSPENDED = "deposit_suspended"
    """A final deposit that names no wallet."""
    WALLET_TRANSFER = "wallet_transfer"
    """From one wallet to another."""
    WITHDRAWAL = "withdrawal"
    """From a wallet out to the chain."""
    VAULT_TRANSFER = "vault_transfer"
    """From one vault of ours to another, on chain."""
    NETWORK_FEE = "network_fee"
    """What a chain charged for a transaction of ours."""
    PAYOUT = "payout"
    """From a wallet out through a bank."""
    RECEIPT = "receipt"
    """In from a bank."""
    EXCHANGE = "exchange"
    """One leg of an exchange of one asset for another: into clearing, or out of it."""
    FEE = "fee"
    """What we charged a wallet, beside what it moved."""
    ADJUSTMENT = "adjustment"
    """A correction by two people: between a wallet and our own capital."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountKey:
    """Which account, in the words of the domain: there is exactly one per key and tenant."""

    kind: AccountKind
    """What it stands for."""
    owner: UUID | None
    """The wallet, vault or bank account. None for the tenant's own accounts: one per kind and asset."""
    asset: AssetId
    """What it holds."""
    _known: tuple[TenantId, UUID] | None = field(default=None, init=False, repr=False, compare=False)
    """The id that was asked for last: whoever keeps a key to post with it often has it derived once."""

    def id_for(self, tenant: TenantId) -> UUID:
        """The account's id, which follows from the key, so that no lookup is needed to post."""
        if self._known is None or self._known[0] != tenant:
            derived = derived_uuid("ledger.account", tenant, self.kind.value, self.owner, self.asset.text)
            object.__setattr__(self, "_known", (tenant, derived))  # no part of what the key says
            return derived
        return self._known[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account as it stands."""

    id: UUID
    """Derived from the key."""
    key: AccountKey
    """What it stands for."""
    normal_side: Side
    """Where its balance grows."""
    guard: Guard
    """When it refuses to go below zero."""
    floor: int
    """What its guard keeps: available money never falls below this. Zero, or below it where an overdraft is granted."""
    ceiling: int | None
    """What balance and incoming holds together never exceed. None for no limit."""
    state: str
    """A state of `transitions.ACCOUNTS`."""
    version: int
    """How many entries it has: the version of the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAccount:
    """Make sure that an account exists. Idempotent, hence without an id; it stays, also when its chain is refused."""

    key: AccountKey
    """Which. Its asset must be listed."""
    floor: int | None = None
    """Atomic units, zero or less; None for zero, or for whatever it was opened with. Limits do not change: others are refused."""
    ceiling: int | None = None
    """Atomic units, zero or more; None for no limit, or for whatever it was opened with."""

    def __post_init__(self) -> None:
        if not -MAX_ATOMIC <= (self.floor or 0) <= 0 <= (self.ceiling or 0) <= MAX_ATOMIC:
            raise LimitsExcludeZero("", floor=self.floor, ceiling=self.ceiling)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Movement:
    """Money from the account debited to the account credited. Raises AssetMismatch when the three assets are not one."""

    id: UUID
    """The caller's id of this command: the idempotency key and the transfer's id."""
    debit: AccountKey
    """Account debited."""
    credit: AccountKey
    """Account credited."""
    amount: Amount
    """How much. Zero, negative and too large amounts are refused by the ledger, not here."""
    code: TransferCode
    """Why."""
    reference: UUID
    """The deposit, withdrawal, payout or request it belongs to."""

    def __post_init__(self) -> None:
        debit, credit, amount = self.debit.asset, self.credit.asset, self.amount.asset
        if not debit == credit == amount:
            raise AssetMismatch(debit=debit.text, credit=credit.text, amount=amount.text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(_Movement):
    """Move money now."""

    effective_at: datetime | None = None
    """Value date: from when it counts, which may be past or future. None for the time of booking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(_Movement):
    """Reserve money for a transfer that may follow. What is held is not available to anything else."""

    expires_at: datetime | None = None
    """From when a sweeper may expire it. Time alone releases nothing: an expired hold that nobody swept still holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _HoldStep:
    """What happens to a hold."""

    id: UUID
    """The caller's id of this command."""
    hold_id: UUID
    """Id of the Hold command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PostHold(_HoldStep):
    """Turn held money into a transfer, wholly or in part, once or several times."""

    amount: Amount | None = None
    """How much; None for all that remains."""
    final: bool = False
    """Whether what remains after this is released. Without it, the rest stays held."""
    effective_at: datetime | None = None
    """Value date of what is posted. None for the time of booking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidHold(_HoldStep):
    """Release what remains of a hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireHold(_HoldStep):
    """Release what remains of a hold because its time has passed."""

    as_of: datetime
    """The time that the caller's clock shows; not part of the command's identity."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reverse:
    """Book the mirror of a transfer or of a posted hold. Each can be reversed once, a reversal never."""

    id: UUID
    """The caller's id of this command."""
    transfer_id: UUID
    """Id of the Transfer or PostHold command."""
    effective_at: datetime | None = None
    """Value date of the mirror. None for the time of booking."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeAccount:
    """Freeze an account (no new money leaves; what comes in and holds made before go on), thaw it, or close it for good."""

    id: UUID
    """The caller's id of this command."""
    key: AccountKey
    """Which account."""
    event: Literal["freeze", "unfreeze", "close"]
    """An event of `transitions.ACCOUNTS`."""


Command = OpenAccount | Transfer | Hold | PostHold | VoidHold | ExpireHold | Reverse | ChangeAccount


class ResultCode(StrEnum):
    """What became of a command. All but the first are refusals, which change nothing."""

    APPLIED = "applied"
    """Done."""
    CHAIN_REFUSED = "chain_refused"
    """Another command of the same chain was refused."""
    TRANSFER_EXISTS_DIFFERENT = "transfer_exists_different"
    """The id was used for another command. Use a new id."""
    AMOUNT_NOT_POSITIVE = "amount_not_positive"
    """Zero or less."""
    AMOUNT_TOO_LARGE = "amount_too_large"
    """More than 2^256-1, or one side of an account would in sum exceed it."""
    SAME_ACCOUNT = "same_account"
    """Debit and credit are one account."""
    UNKNOWN_ACCOUNT = "unknown_account"
    """The account was never opened."""
    UNKNOWN_ASSET = "unknown_asset"
    """An account cannot be opened in an asset that is not listed."""
    ACCOUNT_EXISTS_DIFFERENT = "account_exists_different"
    """The account was opened with other limits."""
    ASSET_MISMATCH = "asset_mismatch"
    """The two accounts hold different assets."""
    ACCOUNT_CLOSED = "account_closed"
    """A closed account takes part in nothing."""
    ACCOUNT_FROZEN = "account_frozen"
    """Money would leave a frozen account."""
    ACCOUNT_NOT_FROZEN = "account_not_frozen"
    """There is nothing to thaw."""
    ACCOUNT_NOT_EMPTY = "account_not_empty"
    """Only an account without balance and holds can be closed."""
    INSUFFICIENT_FUNDS = "insufficient_funds"
    """Less is available than is asked for."""
    EXCEEDS_CEILING = "exceeds_ceiling"
    """The balance with what may still come in would be above the account's ceiling."""
    HOLD_NOT_FOUND = "hold_not_found"
    """No such hold."""
    HOLD_NOT_OPEN = "hold_not_open"
    """The hold is wholly posted, voided or expired."""
    HOLD_EXCEEDED = "hold_exceeded"
    """More is posted than remains held."""
    HOLD_NOT_DUE = "hold_not_due"
    """The hold has not reached its time, or has none."""
    TRANSFER_NOT_FOUND = "transfer_not_found"
    """No such transfer."""
    TRANSFER_ARCHIVED = "transfer_archived"
    """The transfer's month has been archived: what it did is mirrored by a new transfer, not by a reversal."""
    NOT_REVERSIBLE = "not_reversible"
    """Only transfers and posted holds have a mirror."""
    ALREADY_REVERSED = "already_reversed"
    """The mirror is booked already."""


class Outcome(NamedTuple):
    """The answer to one command. A tuple, since one is made for each of tens of thousands of transfers a second."""

    command_id: UUID | None
    """Which. None for OpenAccount."""
    result: ResultCode
    """What became of it."""
    replayed: bool
    """Whether this is the recorded answer to an earlier command of the same id and content."""
    account_id: UUID | None = None
    """The account that a refusal or an account's change is about."""
    debit_version: int | None = None
    """Version of the debited account after it."""
    debit_balance: int | None = None
    """Posted balance of the debited account after it, atomic units, positive on its normal side."""
    credit_version: int | None = None
    """Version of the credited account after it."""
    credit_balance: int | None = None
    """Posted balance of the credited account after it."""
    booked_at: datetime | None = None
    """When it was booked, by the database's clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """An account's money now, in atomic units, positive on its normal side. An account never opened has zeros."""

    key: AccountKey
    """Which account."""
    posted: int
    """What has been booked."""
    pending_in: int
    """What holds may still bring."""
    pending_out: int
    """What holds may still take."""
    version: int
    """The last entry's version; 0 before the first."""

    @property
    def available(self) -> int:
        """What a new transfer or hold may use: posted, less what is held. Money that may still come does not count."""
        return self.posted - self.pending_out


@dataclass(frozen=True, slots=True, kw_only=True)
class PastBalance:
    """An account's money as booked at a moment."""

    version: int
    """Version of the last entry then; 0 when there was none."""
    posted: int
    """Booked balance, atomic units, positive on the normal side."""
    pending_out: int
    """What was held."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of an account's statement."""

    version: int
    """Its place in the account's history, counted from 1 without gaps."""
    transfer_id: UUID
    """The command that made it."""
    kind: str
    """transfer, hold, post_hold, void_hold, expire_hold or reverse."""
    code: str
    """Why: a TransferCode."""
    reference: UUID
    """What it belongs to."""
    side: Side
    """Which side of this account it is on."""
    posted: int
    """Atomic units moved."""
    pending: int
    """Change of what is held: positive when reserved, negative when released."""
    balance: int
    """Posted balance after it, positive on the normal side."""
    held: int
    """What was held from the account after it."""
    booked_at: datetime
    """When it was booked."""
    effective_at: datetime
    """Its value date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenHold:
    """A hold that still reserves money."""

    id: UUID
    """The Hold command's id."""
    remaining: int
    """Atomic units still held."""
    expires_at: datetime | None
    """From when it may be expired."""
