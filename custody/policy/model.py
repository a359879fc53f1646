"""The approval policy as this side sees it: a copy of what the signer enforces, and the values it is judged with.

The signer decides by its own policy file and never asks us. The copy shows people who has to approve and moves a withdrawal on
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
    chain: str
    """CAIP-2 name of the chain."""
    kind: str
    """Kind of intent."""
    asset: str
    """Asset as the intent writes it."""
    destinations: tuple[str, ...]
    """Addresses that the rule covers, as the intent writes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A limit on what a rule lets through in a span of time. Only the signer counts it, from its own journal."""

    seconds: int
    """Length of the span."""
    amount_max: int
    """Atomic units within the span."""


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
    group: str
    """Group whose people approve."""
    threshold: int
    """How many different people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalPolicy:
    """The policy that is in force in the signer."""

    version: int
    """Rises by one with each change; every intent names the version it was made under."""
    approver_set_version: int
    """Rises when people or their keys change; every approval is bound to it."""
    policy_hash: str
    """SHA-256 of the signer's policy file, hexadecimal."""
    approvers: tuple[Approver, ...]
    """Everybody who may decide about anything."""
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
    group: str
    """Group that approves; empty when none does."""
    threshold: int
    """People that the rule demands."""
    counted: tuple[str, ...]
    """People whose approval counts, sorted."""
    missing: int
    """People still missing."""
