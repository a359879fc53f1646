"""The approval policy as this side sees it: a copy of what the signer enforces, and the values it is judged with.

The signer decides by its own policy and never asks us. The copy shows people who has to approve and moves a withdrawal on
when the quorum is there; were it wrong, the signer would refuse and no money would move.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

ANY = "*"
"""Stands in a rule where every value matches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PasskeyTerms:
    """Where and how a passkey may be used."""

    credential_id: str
    """Name of the credential, base64url without padding."""
    rp_id: str
    """Domain that it belongs to."""
    origins: tuple[str, ...]
    """Pages on which it may be used."""
    device_bound: bool
    """Whether it cannot leave its device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproverKey:
    """One key of an approver."""

    algorithm: str
    """`ed25519` or `p256` of a key that signs by itself; `ES256`, `EdDSA` or `RS256` of a passkey."""
    public_key: str
    """Hexadecimal, as the signer's policy spells it; names the key."""
    passkey: PasskeyTerms | None
    """Of a passkey only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approver:
    """One person who may decide."""

    id: str
    """Name in the signer's policy."""
    keys: tuple[ApproverKey, ...]
    """Any of them speaks for the person; the person counts once."""
    groups: tuple[str, ...]
    """Groups that the person belongs to."""

    def key(self, public_key: str) -> ApproverKey | None:
        """The person's key that is spelled so."""
        return next((key for key in self.keys if key.public_key == public_key), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a rule speaks about. `*` matches everything."""

    id: str
    """Name of the rule."""
    org: str
    """Tenant, as the signer knows it."""
    vault: str
    """Group of keys inside the tenant."""
    key: str
    """Key id, hexadecimal."""
    chain: str
    """CAIP-2 name of the chain; for an operation on a key the key's curve."""
    kind: str
    """Kind of intent."""
    asset: str
    """Asset as the intent writes it."""
    destinations: tuple[str, ...]
    """Addresses that the rule covers, as the intent writes them, `@name` of a list in the address book, or for a sweep
    `vault:NAME`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A limit on what a rule lets through in a span of time. Only the signer counts it, from its own journal."""

    seconds: int
    """Length of the span."""
    amount_max: int
    """Atomic units within the span."""
    count_max: int
    """Intents within the span."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """When a rule is open. Only the signer looks at its clock; a rule that is closed makes it answer later."""

    days: tuple[str, ...]
    """`mon` to `sun`, UTC."""
    start: str
    """`HH:MM`, UTC."""
    end: str
    """`HH:MM`, exclusive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """So many people of a group, none of whom counts for another demand of the same rule."""

    group: str
    """Group whose people approve."""
    threshold: int
    """How many different people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How far one demand is met."""

    group: str
    """Group whose people approve."""
    threshold: int
    """How many different people."""
    counted: tuple[str, ...]
    """People whose approval counts here, sorted."""

    @property
    def missing(self) -> int:
        """People still missing."""
        return self.threshold - len(self.counted)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedAddress:
    """An address of the address book. Counts on its chain only."""

    chain: str
    """CAIP-2 name."""
    address: str
    """As intents write it."""
    label: str
    """Whose it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressList:
    """A named list, which rules call `@name`."""

    name: str
    """Name of the list."""
    entries: tuple[ListedAddress, ...]
    """What it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Governance:
    """Who may change the policy itself, and how long a change waits for a veto."""

    approvals: tuple[Demand, ...]
    """All have to be met."""
    cool_down_s: int
    """Seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AllowRule:
    """Who has to approve what."""

    scope: Scope
    """What it covers."""
    amount_max: int
    """Atomic units of one intent, inclusive."""
    fee_max: int
    """Highest network fee of one intent in atomic units of the chain's own currency, inclusive."""
    windows: tuple[Window, ...]
    """Limits over time."""
    hours: tuple[Hours, ...]
    """When the rule is open; empty for always."""
    approvals: tuple[Demand, ...]
    """All have to be met; empty for a rule that asks nobody."""
    cool_down_s: int
    """Seconds that the signer waits after the complete quorum before it signs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalPolicy:
    """The policy that is in force in the signer."""

    version: int
    """Rises by one with each change; every intent names the version it was made under."""
    approver_set_version: int
    """Rises when people or their keys change; every approval is bound to it."""
    policy_hash: str
    """SHA-256 of the signer's policy document, hexadecimal."""
    approvers: tuple[Approver, ...]
    """Everybody who may decide about anything."""
    address_book: tuple[AddressList, ...]
    """Addresses that rules call by the name of their list."""
    governance: Governance
    """Who may change all this."""
    deny: tuple[Scope, ...]
    """What is refused whoever approves."""
    allow: tuple[AllowRule, ...]
    """What is possible, and under which quorum."""

    def approver(self, name: str) -> Approver | None:
        """The person of this name."""
        return next((person for person in self.approvers if person.id == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What an intent would do, in the words that rules are written in."""

    org: str
    """Tenant."""
    vault: str
    """Group of keys."""
    key: str
    """Key id, hexadecimal."""
    chain: str
    """CAIP-2 name."""
    kind: str
    """Kind of intent."""
    asset: str
    """Asset as the intent writes it."""
    destination: str
    """Address that receives; the issuer of a trustline, the vault itself for an anchor."""
    amount: int
    """Atomic units; 0 where no money moves."""
    fee_max: int
    """Highest network fee in atomic units of the chain's own currency."""
    initiator: str
    """Who asked; may veto but never approve."""
    policy_version: int
    """Version that the intent names."""
    into_vault: str = ""
    """Group of our own keys that a sweep says its destination belongs to; the signer looks it up. Empty for all else."""
    needs_own_rule: bool = False
    """Whether a rule for every kind does not allow it, only one that names the kind."""


class Word(StrEnum):
    """What an approver says."""

    APPROVE = "approve"
    """Let it happen."""
    REJECT = "reject"
    """Never let it happen; one is enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """What a browser and its authenticator sign about, when a passkey decides. Source: Web Authentication Level 2, s. 6.3.3."""

    credential_id: str
    """Name of the credential, base64url without padding."""
    authenticator_data: bytes
    """What the authenticator says of itself and the person before it."""
    client_data_json: bytes
    """What the browser says it was asked and by which page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One person's signed word about one intent."""

    approver: str
    """Name in the signer's policy."""
    public_key: str
    """Key that signed, hexadecimal."""
    word: Word
    """Approve or reject."""
    signature: str
    """Over the word, the intent's digest and the approver set's version, in the form of the key's kind; hexadecimal."""
    assertion: Assertion | None = None
    """The assertion that a passkey's signature covers; its challenge holds the word, the digest and the version."""


class Standing(StrEnum):
    """How a policy stands towards an intent."""

    APPROVED = "approved"
    """The quorum is there."""
    PENDING = "pending"
    """Possible; people are missing."""
    REJECTED = "rejected"
    """An approver has vetoed it."""
    DENIED = "denied"
    """No rule allows it, a rule forbids it, or it was made under another version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer, with its reason."""

    standing: Standing
    """The answer."""
    rule: str
    """Rule that decides; empty when none does."""
    reason: str
    """Stable code of a denial; empty otherwise."""
    counts: tuple[Count, ...]
    """One for each demand of the rule that decides."""
    cool_down_s: int
    """Seconds that the signer waits after the complete quorum."""

    @property
    def threshold(self) -> int:
        """People that the rule demands, over all groups; nobody counts in two."""
        return sum(each.threshold for each in self.counts)

    @property
    def missing(self) -> int:
        """People still missing, over all groups."""
        return sum(each.missing for each in self.counts)
