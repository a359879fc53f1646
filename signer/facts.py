"""What the journal records and what follows from it. A fact is never edited; the state is the fold of all
facts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from signer.protocol.approvals import Approval
from signer.protocol.governance import NO_ASSET
from signer.protocol.messages import Binding
from signer.protocol.wire import dump_message, load_message


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyAdopted:
    """A policy came into force: the one that was read at the first start, or a change whose cool-down has passed."""

    version: int
    hash: bytes
    document: bytes
    change: bytes
    """Digest of the intent that changed it; b"" for the first policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyAccepted:
    """The quorum agreed to change the policy. In force from `effective_at`, unless somebody rejects it before."""

    digest: bytes
    intent: bytes
    approvals: tuple[Approval, ...]
    version: int
    document: bytes
    effective_at: int
    """Unix second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReserved:
    """A rule let a key be made and its id was drawn; the key may not exist yet."""

    request_id: str
    key_id: str
    org: str
    vault: str
    curve: str
    label: str
    rule: str
    """Id of the rule; "" for the first checkpoint key of an org, which needs none."""
    state: str
    """State that the key is born in."""
    intent: bytes
    """Canonical bytes that people approved; b"" when an automatic rule decided."""
    approvals: tuple[Approval, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCreated:
    """The HSM generated the key; from here on it is in the state that its reservation names."""

    key_id: str
    public_key: bytes
    """32 bytes for ed25519, 65 bytes for secp256k1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStateChanged:
    """A key is in another state from here on."""

    digest: bytes
    intent: bytes
    approvals: tuple[Approval, ...]
    rule: str
    key_id: str
    state: str
    successor: str
    """Key id that a deactivated key may still send to; "" for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuorumCompleted:
    """An intent has everybody that its rule asks for; the rule's cool-down runs from here."""

    digest: bytes
    intent: bytes
    approvals: tuple[Approval, ...]
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """An approved intent was bound to the one transaction or message that it may become. Written before the HSM signs."""

    digest: bytes
    intent: bytes
    approvals: tuple[Approval, ...]
    """The evidence: everybody whose approval was counted or given."""
    rule: str
    binding: Binding
    unsigned: bytes
    """What is hashed and signed: Stellar signature base, 0x02 ‖ RLP, or a message with its chain's prefix."""
    key_id: str
    chain: str
    slot_key: str
    """Key whose sequence number or nonce is used: the intent's own or a channel's; "" for an intent that uses none."""
    slot: int
    """Sequence number or nonce; 0 for none."""
    replaces: bytes
    """Digest of the intent whose slot it shares as another alternative; b"" for an intent with a slot of its own."""
    org: str
    vault: str
    asset: str
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionSigned:
    """The bytes that the intent became, for ever."""

    digest: bytes
    tx: bytes
    tx_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IntentVetoed:
    """Somebody rejected the intent; it can never be signed."""

    digest: bytes
    intent: bytes
    approval: Approval


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSigned:
    """The key vouched for this head of the org's seal chain; it signs nothing below it any more."""

    key_id: str
    org: str
    sequence: int
    hash: bytes
    signature: bytes


Fact = (
    PolicyAdopted
    | PolicyAccepted
    | KeyReserved
    | KeyCreated
    | KeyStateChanged
    | QuorumCompleted
    | Bound
    | TransactionSigned
    | IntentVetoed
    | CheckpointSigned
)

_FACTS: Mapping[str, type[Any]] = {
    shape.__name__: shape
    for shape in (
        PolicyAdopted,
        PolicyAccepted,
        KeyReserved,
        KeyCreated,
        KeyStateChanged,
        QuorumCompleted,
        Bound,
        TransactionSigned,
        IntentVetoed,
        CheckpointSigned,
    )
}


def dump_fact(fact: Fact) -> bytes:
    """Return the bytes of a fact as they stand in the journal."""
    return dump_message(fact)


def load_fact(body: bytes) -> Fact:
    """Return the fact in these bytes; raises wire.MalformedMessage."""
    fact: Fact = load_message(body, _FACTS)
    return fact


Place = tuple[str, ...]
"""Where spending is counted: (org, vault, chain, asset), or (rule,)."""


@dataclass(slots=True, kw_only=True)
class State:
    """Everything that decisions need to know of the past."""

    policies: list[PolicyAdopted] = field(default_factory=list)
    """Oldest first; the last one is in force."""
    pending: PolicyAccepted | None = None
    """The change of the policy that waits."""
    accepted: dict[bytes, PolicyAccepted] = field(default_factory=dict)
    """By digest: every change that a quorum agreed to, vetoed ones too."""
    completed: dict[tuple[bytes, str], int] = field(default_factory=dict)
    """(digest, rule) to the unix second at which its quorum was complete."""
    key_changes: dict[bytes, KeyStateChanged] = field(default_factory=dict)
    """By digest."""
    standing: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Key id to its state and its successor's key id; only keys that exist."""
    key_requests: dict[str, KeyReserved] = field(default_factory=dict)
    """By request id."""
    reserved: dict[str, KeyReserved] = field(default_factory=dict)
    """By key id."""
    public_keys: dict[str, bytes] = field(default_factory=dict)
    """By key id; only keys that exist."""
    bound: dict[bytes, Bound] = field(default_factory=dict)
    signed: dict[bytes, TransactionSigned] = field(default_factory=dict)
    vetoed: set[bytes] = field(default_factory=set)
    slots: dict[tuple[str, str, int], tuple[bytes, ...]] = field(default_factory=dict)
    """(key, chain, sequence or nonce) to its alternatives, of which the chain can take one: first the digest of the intent that
    the slot belongs to, then those that replace or cancel it, oldest first.
    """
    spending: dict[Place, list[tuple[int, int, bytes]]] = field(default_factory=dict)
    """Per place (time, amount, digest or request id), oldest first."""

    checkpoints: dict[str, CheckpointSigned] = field(default_factory=dict)
    """The newest by key id."""

    def learn(self, at: int, fact: Fact) -> None:
        """Fold one fact, written at unix second `at`, into the state."""
        match fact:
            case PolicyAdopted():
                self.policies.append(fact)
                self.pending = None
            case PolicyAccepted():
                self.pending = self.accepted[fact.digest] = fact
            case KeyReserved():
                self.key_requests[fact.request_id] = fact
                self.reserved[fact.key_id] = fact
                account = (fact.org, fact.vault, fact.curve, NO_ASSET)
                self._count(at, account, fact.rule, 0, fact.request_id.encode())
            case KeyCreated():
                self.public_keys[fact.key_id] = fact.public_key
                self.standing[fact.key_id] = (self.reserved[fact.key_id].state, "")
            case KeyStateChanged():
                key = self.reserved[fact.key_id]
                self.key_changes[fact.digest] = fact
                self.standing[fact.key_id] = (fact.state, fact.successor)
                self._count(at, (key.org, key.vault, key.curve, NO_ASSET), fact.rule, 0, fact.digest)
            case QuorumCompleted():
                self.completed[(fact.digest, fact.rule)] = at
            case Bound():
                self._learn_bound(at, fact)
            case TransactionSigned():
                self.signed[fact.digest] = fact
            case IntentVetoed():
                self.vetoed.add(fact.digest)
                if self.pending is not None and self.pending.digest == fact.digest:
                    self.pending = None
            case CheckpointSigned():
                self.checkpoints[fact.key_id] = fact

    def spent(self, place: Place, since: int, but: bytes) -> tuple[int, int]:
        """Return the amount and the number of what was bound at or after unix second `since`, except `but` itself."""
        total = count = 0
        for at, amount, digest in reversed(self.spending.get(place, [])):
            if at < since:
                break
            if digest != but:
                total, count = total + amount, count + 1
        return total, count

    def _learn_bound(self, at: int, fact: Bound) -> None:
        self.bound[fact.digest] = fact
        if fact.slot_key:
            place = (fact.slot_key, fact.chain, fact.slot)
            earlier = self.slots.get(place, ()) if fact.replaces else ()
            self.slots[place] = (*earlier, fact.digest)
        account = (fact.org, fact.vault, fact.chain, fact.asset)
        self._count(at, account, fact.rule, fact.amount, fact.digest)

    def _count(self, at: int, account: Place, rule: str, amount: int, digest: bytes) -> None:
        for place in (account, (rule,)):
            self.spending.setdefault(place, []).append((at, amount, digest))
