"""What the signer tells of its policy: the rules in force, the change that waits, and the bytes of every version."""

from dataclasses import dataclass

from signer.protocol.approver_keys import Ed25519Key, P256Key, Passkey


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproverView:
    """One person of the approver set."""

    id: str
    keys: tuple[Ed25519Key | P256Key | Passkey, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowView:
    """Velocity cap of a rule."""

    seconds: int
    amount_max: int
    count_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HoursView:
    """Span of the day in which a rule is open, UTC."""

    days: tuple[str, ...]
    """"mon" .. "sun"."""
    start: str
    """"HH:MM"."""
    end: str
    """"HH:MM", exclusive; up to "24:00"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandView:
    """So many people of a group, none of whom counts for another demand of the same rule."""

    group: str
    threshold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedAddressView:
    """An address of the address book; counts on its chain only."""

    chain: str
    address: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressListView:
    """A list of the address book, named "@name" in rules."""

    name: str
    entries: tuple[ListedAddressView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernanceView:
    """Who may change the policy, and how long a change waits for a veto."""

    approvals: tuple[DemandView, ...]
    cool_down_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingPolicyView:
    """A change of the policy that was approved and waits; any approver can still veto it."""

    version: int
    policy_hash: str
    intent: bytes
    """Canonical bytes: what a veto is signed about."""
    effective_at: int
    """Unix second from which on it is in force."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleView:
    """One allow rule. "*" means any. Amounts are atomic units."""

    id: str
    org: str
    vault: str
    key: str
    chain: str
    kind: str
    asset: str
    destinations: tuple[str, ...]
    amount_max: int
    fee_max: int
    windows: tuple[WindowView, ...]
    hours: tuple[HoursView, ...]
    """Empty for always."""
    approvals: tuple[DemandView, ...]
    """All have to be met; empty for a rule that asks nobody."""
    cool_down_s: int
    """Seconds between the complete quorum and the signature."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DenyRuleView:
    """One deny rule; any match refuses."""

    id: str
    org: str
    vault: str
    key: str
    chain: str
    kind: str
    asset: str
    destinations: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkView:
    """A Stellar chain name and its network passphrase."""

    chain: str
    passphrase: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CosignedView:
    """An account that a key of this signer signs for together with others."""

    account: str
    chain: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyView:
    """The policy in force; answers GetPolicy."""

    version: int
    approver_set_version: int
    policy_hash: str
    """SHA-256 of the policy document's bytes, hex."""
    networks: tuple[NetworkView, ...]
    approvers: tuple[ApproverView, ...]
    address_book: tuple[AddressListView, ...]
    cosigned: tuple[CosignedView, ...]
    governance: GovernanceView
    deny: tuple[DenyRuleView, ...]
    allow: tuple[RuleView, ...]
    pending: tuple[PendingPolicyView, ...]
    """The one change that waits, or none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyDocument:
    """The bytes of one policy; answers GetPolicyDocument."""

    version: int
    document: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChanged:
    """A change of the policy was accepted; answers ChangePolicy, also when it was accepted before."""

    intent_digest: str
    version: int
    effective_at: int
    """Unix second from which on it is in force."""
