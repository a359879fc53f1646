"""Withdrawals, their attempts, and what the chain tells about them: frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

from custody.holdings.stop_model import CHAIN_STOPS
from custody.kernel.assetid import AssetId, ChainId
from custody.kernel.ids import AttemptId, PrincipalId, QuoteId, VaultId, WalletId, WithdrawalId
from custody.kernel.money import Amount
from custody.ledger.model import Command
from custody.policy.model import Approver, Decision, Verdict
from custody.screening.model import Result
from custody.tariffs.model import HeldFee
from custody.wallets.model import Vault

MemoType = Literal["none", "id", "text", "hash"]
Kind = Literal[
    "payment",
    "return",
    "refill",
    "sweep",
    "change_trust",
    "anchor",
    "memo_required",
    "fee_bump",
    "evm_cancel",
    "evm_fill",
]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""All of them."""
PAYING: tuple[Kind, ...] = ("payment", "return", "refill", "sweep")
"""Kinds that hold money until it is paid; the others are operations of a vault on itself."""
OUTSIDE: tuple[Kind, ...] = ("payment", "return")
"""Kinds that pay somebody outside: screened, held to the address book, and cooled down."""
STOPPED = ("stopped", "stopped_by_signer")
"""Held back by one of our kill switches, or by an approver's order to the signer; `docs/kill-switches.md`."""
BOOKS_DIFFER = "books_differ"
"""Why a payment waits whose vault does not hold what the books say; it goes on by itself."""
STUCK = (
    *STOPPED,
    *CHAIN_STOPS,
    "screening_unknown",
    "fee_over_cap",
    "vault_lacks_gas",
    "fee_cap_reached",
    "too_many_replacements",
    "replacement_refused",
    "not_mined",
    "nonce_gap",
    "nonce_used_elsewhere",
    "node_refuses",
    BOOKS_DIFFER,
)
"""Why a withdrawal can be stuck; docs/evm-sending.md and docs/withdrawals.md say what to do about each of the others,
docs/reconciliation.md about `books_differ`, docs/kill-switches.md about `STOPPED`."""
UNPAID = ("blocked", "rejected", "expired", "cancelled", "failed")
"""States in which a withdrawal has ended and its hold is released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Memo:
    """What a Stellar payment says to its receiver."""

    type: MemoType
    """`none`, `id`, `text` or `hash`."""
    value: str
    """Empty, a decimal below 2^64, 1-28 printable ASCII characters, or 64 lower-case hex digits."""


NO_MEMO = Memo(type="none", value="")
"""A payment without a memo; the only one that EVM chains and M addresses know."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestWithdrawal:
    """What a custody app asks for."""

    id: WithdrawalId
    """Chosen by the edge; the same id with the same content is the same withdrawal."""
    wallet_id: WalletId | None
    """Wallet that pays; None for a return, which suspense pays (`custody.returns` asks for those)."""
    asset: AssetId
    """What is paid; its chain is where."""
    destination: str
    """Address of the receiver: G or M address, or EIP-55."""
    amount: int
    """Atomic units that the receiver gets; what the network takes is the tenant's, what the tariff says the wallet's."""
    memo: Memo = NO_MEMO
    """Stellar only."""
    execute_after: datetime | None = None
    """Before when it must not be carried out; None for as soon as it is approved."""
    quote_id: QuoteId | None = None
    """What it was agreed to cost; None for the tariff in force."""

    @property
    def kind(self) -> Kind:
        """What the withdrawal will be."""
        return "return" if self.wallet_id is None else "payment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdrawal:
    """One movement out of a vault, or one operation on a vault, from request to its end."""

    id: WithdrawalId
    """Our id, and the intent's request id."""
    kind: Kind
    """`payment` out of a wallet; `return` out of suspense; `refill` from one vault of ours to another; `sweep` of a deposit
    address to the omnibus vault; `change_trust`, `anchor`
    or `memo_required` by a vault for itself; `fee_bump` by the fee account for another withdrawal; `evm_cancel` and `evm_fill`,
    which use a nonce up for nothing."""
    state: str
    """One of `transitions.WITHDRAWALS`."""
    wallet_id: WalletId | None
    """Wallet that pays; none for a return or an operation on a vault."""
    vault_id: VaultId
    """Vault whose money moves and whose key signs."""
    asset: AssetId
    """What is paid, what the trustline is for, or the native asset of the chain that an anchor is written to."""
    destination: str
    """Address of the receiver; the issuer for a trustline, the vault's own for an anchor."""
    memo: Memo
    """Memo of a Stellar payment; of an anchor the hash that it writes down."""
    amount: int
    """Atomic units; 0 for an operation on a vault."""
    intent: bytes
    """Canonical bytes that approvers sign."""
    digest: bytes
    """SHA-256 name of the intent."""
    policy_version: int
    """Version of the policy that the intent names."""
    initiator: str
    """Subject of the principal who asked."""
    principal_id: PrincipalId
    """Credential that asked."""
    reason: str
    """Why it ended without being paid; empty otherwise."""
    expires_at: datetime
    """End of the intent's window."""
    created_at: datetime
    """When it was asked for."""
    changed_at: datetime
    """When its state last changed."""
    channel_id: VaultId | None = None
    """Stellar: the channel that lends its sequence number; None where the vault uses its own."""
    into_id: VaultId | None = None
    """Vault of ours that a refill or a sweep is for."""
    target_id: WithdrawalId | None = None
    """Withdrawal whose nonce an `evm_cancel` takes; none of any other kind."""
    stuck_reason: str = ""
    """Why it goes no further by itself and a person should look; empty while it moves. One of `STUCK`."""
    execute_after: datetime | None = None
    """Before when it must not be carried out, as it was asked for; the intent's window opens then."""
    approved_at: datetime | None = None
    """When the quorum was there."""
    cool_until: datetime | None = None
    """Until when it cooled, or cools, down; None where nothing had it wait."""
    fee: HeldFee | None = None
    """What it costs its wallet, on top of the amount; None where no tariff was in force."""

    @property
    def sender_id(self) -> VaultId:
        """The vault whose sequence or nonce the transaction uses and that pays its fee."""
        return self.vault_id if self.channel_id is None else self.channel_id


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultMove:
    """Money of one vault of ours for another one."""

    id: WithdrawalId
    """Chosen by who asks; the same id with the same content is the same withdrawal."""
    kind: Literal["refill", "sweep"]
    """A sweep empties a deposit address into the omnibus vault; all else is a refill."""
    vault: Vault
    """Vault that pays."""
    into: Vault
    """Vault that gets it, on the same chain."""
    asset: AssetId
    """What moves."""
    amount: int
    """Atomic units that arrive; the fee is the paying vault's."""
    opens: bool = False
    """Stellar: whether the receiving account is not there yet."""
    fee_per_gas: int | None = None
    """EVM: wei per gas that it may cost at most; None for what the chain's settings allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastRefill:
    """What was once asked for to move money from one vault of ours to another."""

    is_open: bool
    """Whether it may still arrive."""
    paid: bool
    """Whether it arrived."""
    opens: bool
    """Whether it was to make the account that it fills."""
    changed_at: datetime
    """When its state last changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What a transaction that is in a block takes from a vault for its withdrawal, beside the fee, once the block is final."""

    vault_id: VaultId
    """Vault that pays."""
    amount: Amount
    """More than zero."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One transaction of a withdrawal. Its slot and, once signed, its bytes never change."""

    id: AttemptId
    """Our id."""
    withdrawal_id: WithdrawalId
    """What it carries out."""
    vault_id: VaultId
    """Vault whose sequence or nonce it uses and that pays its fee: the withdrawal's own, or its channel."""
    chain: ChainId
    """Chain that it is for."""
    number: int
    """1 for the first attempt."""
    state: str
    """One of `transitions.ATTEMPTS`."""
    sequence: int
    """Stellar sequence number or EVM nonce; 0 of a fee bump, which has none of its own."""
    max_ledger: int | None
    """First Stellar ledger in which it can no longer apply; none on EVM, where nothing lapses."""
    max_time: int | None
    """Unix seconds after which it can no longer apply; none on EVM."""
    fee_bid: int
    """Stellar: stroops for the transaction. EVM: wei per gas."""
    priority_fee: int
    """EVM: wei per gas to the block's producer; 0 on Stellar."""
    tx: bytes | None
    """Signed bytes, stored before they are first sent."""
    tx_hash: str | None
    """Name of the transaction on chain."""
    sends: int
    """How often the bytes were sent."""
    last_answer: str
    """What the node said last, for operators only and never a proof; once it has failed in a block, the chain's word for why."""
    height: int | None
    """Block that holds it."""
    succeeded: bool | None
    """Whether its effect took place in that block."""
    fee_paid: int | None
    """Fee that the chain took, in atomic units of its own currency."""
    included_at: datetime | None
    """Time of that block."""
    alternative_of: AttemptId | None = None
    """First attempt on its nonce (EVM), of which this is an alternative: the chain takes one of them. None for the first."""
    intent: bytes | None = None
    """Canonical bytes of the replacement's own intent; None where the withdrawal's intent is signed."""
    spends: int = 0
    """EVM: wei that the vault must hold for it: value, all of its gas, and the fee of a layer below."""
    watched_from: int | None = None
    """EVM: newest block when it was first seen to be the next of its account, sent and not mined; none before."""

    @property
    def is_fee_bump(self) -> bool:
        """Whether it is a Stellar fee bump, which lives and ends with what it is wrapped around."""
        return self.sequence == 0 and self.max_ledger is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTransaction:
    """A transaction that one of our vaults sent, as our own ingestion saw it."""

    chain: ChainId
    """Where."""
    height: int
    """Ledger or block."""
    tx_hash: str
    """Hexadecimal; EVM hashes carry 0x."""
    account: str
    """Address of our vault that sent it and paid its fee."""
    succeeded: bool
    """Whether its effect took place; the fee is paid in any case."""
    fee_atomic: int
    """Fee in atomic units of the chain's own currency."""
    sequence: int
    """Stellar sequence number or EVM nonce."""
    occurred_at: datetime
    """Time of the block."""
    outcome: str = ""
    """Why its effect did not take place, in the chain's words (`op_no_trust`); empty where it did, or nothing is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A transaction of one of our vaults that no attempt explains: a break until a person has looked at it."""

    chain: ChainId
    """Where."""
    tx_hash: str
    """Hexadecimal; EVM hashes carry 0x."""
    state: str
    """One of `transitions.STRAYS`."""
    vault_id: VaultId
    """Vault that sent it."""
    height: int
    """Ledger or block."""
    succeeded: bool
    """Whether its effect took place."""
    fee_paid: int
    """Fee in atomic units of the chain's own currency."""
    sequence: int
    """Stellar sequence number or EVM nonce."""
    occurred_at: datetime
    """Time of the block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What a final height decides about withdrawals, before it is posted."""

    included: tuple[tuple[Withdrawal, Attempt], ...]
    """Those whose transaction is in a final block, succeeded or failed."""
    lapsed: tuple[tuple[Withdrawal, Attempt], ...]
    """Those whose transaction can no longer be included."""
    overtaken: tuple[tuple[Withdrawal, Attempt], ...]
    """Attempts whose nonce is final with another one's bytes; each with its withdrawal, which may be the other one's too."""
    strays: tuple[Stray, ...]
    """Transactions that nobody asked for, whose fee was paid all the same."""
    commands: tuple[Command, ...]
    """What the ledger is to post for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Withdrawals that one approval is asked for. They live and end by themselves."""

    id: UUID
    """Chosen by the edge, and the document's request id."""
    document: bytes
    """Canonical bytes that approvers sign for; they name every line's intent and the sums."""
    digest: bytes
    """Of the document."""
    policy_version: int
    """Under which the lines were made."""
    initiator: str
    """Subject of the principal who asked."""
    expires_at: datetime
    """When the lines' window closes."""
    created_at: datetime
    """When it was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchView:
    """A batch with its lines and how it stands."""

    batch: Batch
    """The batch."""
    lines: tuple[Withdrawal, ...]
    """In the order of the document."""
    decisions: tuple[Decision, ...]
    """About the batch, oldest first."""
    verdict: Verdict
    """How the policy stands towards the line that asks for most."""
    approver_set_version: int
    """Version of the approver set that decisions are bound to."""
    approvers: tuple[Approver, ...]
    """Who may decide, with which keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawalView:
    """A withdrawal with all that a reader may want beside it."""

    withdrawal: Withdrawal
    """The withdrawal."""
    decisions: tuple[Decision, ...]
    """Decisions so far, oldest first."""
    verdict: Verdict
    """How the policy stands towards it; names who is missing."""
    approver_set_version: int
    """Version of the approver set that decisions are bound to."""
    approvers: tuple[Approver, ...]
    """Who may decide, with which keys, under the policy of the intent."""
    fields: dict[str, str]
    """Every field of the intent as text."""
    attempts: tuple[Attempt, ...]
    """Attempts, oldest first."""
    screenings: tuple[Result, ...]
    """What was said about the receiver, oldest first."""
