"""What the journal records and what follows from it. A fact is never edited; the state is the fold of all
facts.
"""

import sys
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from signer.protocol.approvals import Approval
from signer.protocol.messages import Binding
from signer.protocol.wire import dump_message, load_message


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyAdopted:
    """The first fact of a journal: the policy that was read at the first start."""

    version: int
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReserved:
    """A key id was drawn for a CreateKey request; the key may not exist yet."""

    request_id: str
    key_id: str
    org: str
    vault: str
    curve: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCreated:
    """The HSM generated the key; from here on it may sign."""

    key_id: str
    public_key: bytes
    """32 bytes for ed25519, 65 bytes for secp256k1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyAttested:
    """What the token said of a key before it was taken for use. Written before KeyCreated."""

    key_id: str
    origin: str
    """"born": made inside and never outside; "ceremony": imported by one that the configuration names."""
    mechanism: str
    """CKA_KEY_GEN_MECHANISM by name; "" for a key that was not made in the token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WrappedKeyCreated:
    """A secp256k1 key was born in the HSM and is kept here under its wrapping key; from here on it may sign.

    One fact is enough: a process that dies before it has left nothing behind in the HSM.
    """

    request_id: str
    key_id: str
    org: str
    vault: str
    label: str
    public_key: bytes
    """65 bytes."""
    blob: bytes
    """72 bytes, AES-KWP."""
    wrapping_key: bytes
    """Fingerprint of the wrapping key, 32 bytes."""
    origin: str
    """"born": this signer let it be made; "ceremony": it was made before and brought here with its wrapping key."""


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
    | KeyReserved
    | KeyAttested
    | KeyCreated
    | WrappedKeyCreated
    | Bound
    | TransactionSigned
    | IntentVetoed
    | CheckpointSigned
)

_FACTS: Mapping[str, type[Any]] = {
    shape.__name__: shape
    for shape in (
        PolicyAdopted,
        KeyReserved,
        KeyAttested,
        KeyCreated,
        WrappedKeyCreated,
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


class Spending:
    """What was bound for one account, so kept that a question costs the same however long the past is."""

    def __init__(self) -> None:
        self._times = array("q")
        self._totals = [0]
        """`_totals[i]` is the sum of the first i amounts."""

    def add(self, at: int, amount: int) -> None:
        """Add an amount; times never fall."""
        self._times.append(at)
        self._totals.append(self._totals[-1] + amount)

    def since(self, at: int) -> int:
        """Return the sum of what was added at or after this time."""
        return self._totals[-1] - self._totals[bisect_left(self._times, at)]


@dataclass(slots=True, kw_only=True)
class State:
    """Everything that decisions need to know of the past."""

    policies: list[PolicyAdopted] = field(default_factory=list)
    key_requests: dict[str, KeyReserved] = field(default_factory=dict)
    """By request id."""
    reserved: dict[str, KeyReserved] = field(default_factory=dict)
    """By key id."""
    public_keys: dict[str, bytes] = field(default_factory=dict)
    """By key id; only keys that exist."""
    wrapped: dict[str, WrappedKeyCreated] = field(default_factory=dict)
    """By key id; the keys that are kept outside the token."""
    origins: dict[str, str] = field(default_factory=dict)
    """By key id; a key of the token that has none was created before origins were written, and born inside."""
    keys_of: dict[str, list[str]] = field(default_factory=dict)
    """Org to its key ids, oldest first; only keys that exist."""
    bound: dict[bytes, Bound] = field(default_factory=dict)
    signed: dict[bytes, TransactionSigned] = field(default_factory=dict)
    vetoed: set[bytes] = field(default_factory=set)
    slots: dict[tuple[str, str, int], tuple[bytes, ...]] = field(default_factory=dict)
    """(key, chain, sequence or nonce) to its alternatives, of which the chain can take one: first the digest of the intent that
    the slot belongs to, then those that replace or cancel it, oldest first.
    """
    spending: dict[tuple[str, str, str, str], Spending] = field(default_factory=dict)
    """By (org, vault, chain, asset)."""
    checkpoints: dict[str, CheckpointSigned] = field(default_factory=dict)
    """The newest by key id."""
    under_way: Counter[bytes] = field(default_factory=Counter)
    """No fact: requests by digest that were allowed and are not answered yet. Their signature may exist at any moment."""

    def learn(self, at: int, fact: Fact) -> None:
        """Fold one fact, written at unix second `at`, into the state."""
        match fact:
            case PolicyAdopted():
                self.policies.append(fact)
            case KeyReserved():
                self.key_requests[fact.request_id] = fact
                self.reserved[fact.key_id] = fact
            case KeyAttested():
                self.origins[fact.key_id] = fact.origin
            case KeyCreated():
                self.public_keys[fact.key_id] = fact.public_key
                self.keys_of.setdefault(self.reserved[fact.key_id].org, []).append(fact.key_id)
            case WrappedKeyCreated():
                self._learn_wrapped(fact)
            case Bound():
                self._bind(at, fact)
            case TransactionSigned():
                self.signed[fact.digest] = fact
                # What was signed is only ever shown again, or named by another intent.
                bound = self.bound[fact.digest]
                self.bound[fact.digest] = replace(bound, approvals=(), unsigned=b"")
            case IntentVetoed():
                self.vetoed.add(fact.digest)
            case CheckpointSigned():
                self.checkpoints[fact.key_id] = fact

    def _learn_wrapped(self, fact: WrappedKeyCreated) -> None:
        self.wrapped[fact.key_id] = fact
        self.origins[fact.key_id] = fact.origin
        self.public_keys[fact.key_id] = fact.public_key
        self.keys_of.setdefault(fact.org, []).append(fact.key_id)
        self.reserved[fact.key_id] = self.key_requests[fact.request_id] = KeyReserved(
            request_id=fact.request_id,
            key_id=fact.key_id,
            org=fact.org,
            vault=fact.vault,
            curve="secp256k1",
            label=fact.label,
        )

    def spent(self, account: tuple[str, str, str, str], since: int) -> int:
        """Return what was bound for (org, vault, chain, asset) at or after unix second `since`."""
        spending = self.spending.get(account)
        return 0 if spending is None else spending.since(since)

    def _bind(self, at: int, fact: Bound) -> None:
        # The same few names stand in every one of a million facts.
        fact = replace(
            fact,
            rule=sys.intern(fact.rule),
            key_id=sys.intern(fact.key_id),
            chain=sys.intern(fact.chain),
            slot_key=sys.intern(fact.slot_key),
            org=sys.intern(fact.org),
            vault=sys.intern(fact.vault),
            asset=sys.intern(fact.asset),
        )
        self.bound[fact.digest] = fact
        if fact.slot_key:
            place = (fact.slot_key, fact.chain, fact.slot)
            earlier = self.slots.get(place, ()) if fact.replaces else ()
            self.slots[place] = (*earlier, fact.digest)
        if fact.amount:
            account = (fact.org, fact.vault, fact.chain, fact.asset)
            self.spending.setdefault(account, Spending()).add(at, fact.amount)
