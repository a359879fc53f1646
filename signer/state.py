"""What follows from the facts: everything that decisions need to know of the past. The state is the fold of all facts."""

import sys
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from heapq import heappush

from signer.address_index import AddressIndex
from signer.counters import Counted, Counters
from signer.facts import (
    BatchTaken,
    BatchVetoed,
    Bound,
    CheckpointSigned,
    Fact,
    IntentVetoed,
    IntentVoided,
    KeyAttested,
    KeyCreated,
    KeyReserved,
    KeyStateChanged,
    PolicyAccepted,
    PolicyAdopted,
    QuorumCompleted,
    SigningResumed,
    SigningStopped,
    TransactionSigned,
    WrappedKeyCreated,
)
from signer.protocol import batch as batches
from signer.protocol import canonical
from signer.protocol.approvals import Approval, Assertion
from signer.protocol.attestation import VAULT as ATTESTATIONS
from signer.protocol.batch import Batch
from signer.protocol.governance import NO_ASSET
from signer.protocol.webauthn import read_counter

Place = tuple[str, ...]
"""Where spending is counted: (org, vault, chain, asset), or (rule,)."""


class Spending:
    """What was bound in one place, so kept that a question costs the same however long the past is."""

    def __init__(self) -> None:
        self._times = array("q")
        self._totals = [0]
        """`_totals[i]` is the sum of the first i amounts."""

    def add(self, at: int, amount: int) -> None:
        """Add an amount; times never fall."""
        self._times.append(at)
        self._totals.append(self._totals[-1] + amount)

    def since(self, at: int) -> tuple[int, int]:
        """Return the sum and the number of what was added at or after this time."""
        begin = bisect_left(self._times, at)
        return self._totals[-1] - self._totals[begin], len(self._times) - begin


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingBatch:
    """What is kept of a batch that was taken."""

    batch: Batch
    approved: frozenset[str]
    """People, verified when it was taken."""
    sums: dict[batches.Place, int]


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
    wrapped: dict[str, WrappedKeyCreated] = field(default_factory=dict)
    """By key id; the keys that are kept outside the token."""
    origins: dict[str, str] = field(default_factory=dict)
    """By key id; a key of the token that has none was created before origins were written, and born inside."""
    keys_of: dict[str, list[str]] = field(default_factory=dict)
    """Org to its key ids, oldest first; only keys that exist."""
    attesters: dict[str, str] = field(default_factory=dict)
    """Org to the newest key that vouches for its keys."""
    bound: dict[bytes, Bound] = field(default_factory=dict)
    signed: dict[bytes, TransactionSigned] = field(default_factory=dict)
    vetoed: set[bytes] = field(default_factory=set)
    voided: set[bytes] = field(default_factory=set)
    void_ends: dict[str, list[int]] = field(default_factory=dict)
    """Org to when its voided intents expire, as a heap; those that have may be missing."""
    slots: dict[tuple[str, str, int], tuple[bytes, ...]] = field(default_factory=dict)
    """(key, chain, sequence or nonce) to its alternatives, of which the chain can take one: first the digest of the intent that
    the slot belongs to, then those that replace or cancel it, oldest first.
    """
    spending: dict[Place, Spending] = field(default_factory=dict)
    open_spending: dict[bytes, tuple[tuple[Place, ...], int, int]] = field(default_factory=dict)
    """By digest of an intent that is bound and not signed: where it counts, since when, and how much."""
    batches: dict[bytes, StandingBatch] = field(default_factory=dict)
    """By digest: the batches that were taken."""
    batch_of: dict[bytes, bytes] = field(default_factory=dict)
    """Digest of a line to the digest of its batch."""
    stops: dict[bytes, tuple[int, SigningStopped]] = field(default_factory=dict)
    """By digest of the order: since when, and what; only stops that stand, oldest first."""
    stopped: Counter[Place] = field(default_factory=Counter)
    """(org, scope, chain, subject) to how many orders stand there; only places where one does."""
    ended_stops: set[bytes] = field(default_factory=set)
    """Digests of orders that were ended."""
    resumes: set[bytes] = field(default_factory=set)
    """Digests of the intents that ended them."""
    checkpoints: dict[str, CheckpointSigned] = field(default_factory=dict)
    """The newest by key id."""
    counters: Counters = field(default_factory=Counters)
    """Of the passkeys whose approvals were counted."""
    addresses: defaultdict[str, AddressIndex] = field(default_factory=lambda: defaultdict(AddressIndex))
    """No fact: a way to find an org's keys."""
    under_way: Counter[bytes] = field(default_factory=Counter)
    """No fact: requests by digest that were allowed and are not answered yet. Their signature may exist at any moment."""

    def learn(self, at: int, fact: Fact) -> None:
        """Fold one fact, written at unix second `at`, into the state."""
        match fact:
            case PolicyAdopted():
                self.policies.append(fact)
                self.pending = None
            case PolicyAccepted():
                self.pending = self.accepted[fact.digest] = fact
                self._learn_counters(at, fact.digest, fact.approvals)
            case QuorumCompleted():
                self.completed[(fact.digest, fact.rule)] = at
                self._learn_counters(at, fact.digest, fact.approvals)
            case Bound():
                self._learn_bound(at, fact)
            case TransactionSigned():
                self.signed[fact.digest] = fact
                self.bound[fact.digest] = _remainder(self.bound[fact.digest])
                self.open_spending.pop(fact.digest, None)
            case IntentVetoed():
                self.vetoed.add(fact.digest)
                self._learn_counters(at, fact.digest, (fact.approval,))
                if self.pending is not None and self.pending.digest == fact.digest:
                    self.pending = None
            case CheckpointSigned():
                self.checkpoints[fact.key_id] = fact
            case IntentVoided():
                self._learn_void(fact)
            case BatchTaken() | BatchVetoed() | SigningStopped() | SigningResumed():
                self._learn_order(at, fact)
            case _:
                self._learn_of_key(at, fact)

    def _learn_order(self, at: int, fact: BatchTaken | BatchVetoed | SigningStopped | SigningResumed) -> None:
        match fact:
            case BatchTaken():
                self._learn_batch(at, fact)
            case BatchVetoed():
                self.vetoed |= {fact.digest, *map(canonical.digest, fact.lines)} - self.signed.keys()
                self._learn_counters(at, fact.digest, (fact.approval,))
            case SigningStopped():
                self.stops[fact.digest] = (at, fact)
                self.stopped[fact.place] += 1
                self._learn_counters(at, fact.digest, (fact.approval,))
            case SigningResumed():
                self._learn_resumed(at, fact)

    def _learn_void(self, fact: IntentVoided) -> None:
        intent = canonical.decode(fact.intent)
        self.voided.add(fact.digest)
        heappush(self.void_ends.setdefault(intent.org, []), intent.expires_at)

    def _learn_batch(self, at: int, fact: BatchTaken) -> None:
        self.batches[fact.digest] = StandingBatch(
            batch=batches.decode(fact.batch),
            approved=frozenset(approval.approver for approval in fact.approvals),
            sums=batches.sums_of([canonical.decode(line) for line in fact.lines]),
        )
        self.batch_of.update((canonical.digest(line), fact.digest) for line in fact.lines)
        self._learn_counters(at, fact.digest, fact.approvals)

    def _learn_resumed(self, at: int, fact: SigningResumed) -> None:
        _, ended = self.stops.pop(fact.stop)
        self.stopped[ended.place] -= 1
        self.stopped = +self.stopped
        self.ended_stops.add(fact.stop)
        self.resumes.add(fact.digest)
        self._learn_counters(at, fact.digest, fact.approvals)

    def _learn_of_key(
        self,
        at: int,
        fact: KeyReserved | KeyAttested | KeyCreated | WrappedKeyCreated | KeyStateChanged,
    ) -> None:
        match fact:
            case KeyReserved():
                self.key_requests[fact.request_id] = fact
                self.reserved[fact.key_id] = fact
                self._count_key(at, fact.org, fact.vault, fact.curve, fact.rule)
            case KeyAttested():
                self.origins[fact.key_id] = fact.origin
            case KeyCreated():
                self._learn_key(self.reserved[fact.key_id], fact.public_key)
            case WrappedKeyCreated():
                self._learn_wrapped(at, fact)
            case KeyStateChanged():
                key = self.reserved[fact.key_id]
                self.key_changes[fact.digest] = fact
                self._learn_counters(at, fact.digest, fact.approvals)
                self.standing[fact.key_id] = (fact.state, fact.successor)
                self._count_key(at, key.org, key.vault, key.curve, fact.rule)

    def spent(self, place: Place, since: int, but: bytes) -> tuple[int, int]:
        """Return the amount and the number of what was bound at or after unix second `since`, except `but` itself."""
        spending = self.spending.get(place)
        total, count = (0, 0) if spending is None else spending.since(since)
        places, at, amount = self.open_spending.get(but, ((), 0, 0))
        if place in places and at >= since:
            return total - amount, count - 1
        return total, count

    def _learn_key(self, key: KeyReserved, public_key: bytes) -> None:
        self.public_keys[key.key_id] = public_key
        self.standing[key.key_id] = (key.state, "")
        if key.vault == ATTESTATIONS:
            self.attesters[key.org] = key.key_id
        self.keys_of.setdefault(key.org, []).append(key.key_id)

    def _learn_wrapped(self, at: int, fact: WrappedKeyCreated) -> None:
        self.wrapped[fact.key_id] = fact
        self.origins[fact.key_id] = fact.origin
        reserved = KeyReserved(
            request_id=fact.request_id,
            key_id=fact.key_id,
            org=fact.org,
            vault=fact.vault,
            curve="secp256k1",
            label=fact.label,
            rule=fact.rule,
            state=fact.state,
            intent=fact.intent,
            approvals=fact.approvals,
        )
        self.reserved[fact.key_id] = self.key_requests[fact.request_id] = reserved
        self._learn_key(reserved, fact.public_key)
        self._count_key(at, fact.org, fact.vault, "secp256k1", fact.rule)

    def _learn_bound(self, at: int, fact: Bound) -> None:
        self.bound[fact.digest] = fact
        self._learn_counters(at, fact.digest, fact.approvals)
        if fact.slot_key:
            place = (sys.intern(fact.slot_key), sys.intern(fact.chain), fact.slot)
            earlier = self.slots.get(place, ()) if fact.replaces else ()
            self.slots[place] = (*earlier, fact.digest)
        places = ((fact.org, fact.vault, fact.chain, fact.asset), (fact.rule,))
        self._count(at, places, fact.amount)
        self.open_spending[fact.digest] = (places, at, fact.amount)

    def _count_key(self, at: int, org: str, vault: str, curve: str, rule: str) -> None:
        self._count(at, ((org, vault, curve, NO_ASSET), (rule,)), 0)

    def _count(self, at: int, places: tuple[Place, ...], amount: int) -> None:
        for place in places:
            spending = self.spending.get(place)
            if spending is None:
                spending = self.spending[place] = Spending()
            spending.add(at, amount)

    def _learn_counters(self, at: int, digest: bytes, approvals: tuple[Approval, ...]) -> None:
        for approval in approvals:
            if isinstance(approval.evidence, Assertion):
                counter = read_counter(approval.evidence.authenticator_data)
                self.counters.learn(at, digest, Counted(public_key=approval.public_key, counter=counter))


def _remainder(bound: Bound) -> Bound:
    """Return what is kept of a bound intent once it is signed: it is only ever shown again, or named by another intent.

    The same few names stand in every one of a million facts. Field by field, since `dataclasses.replace` takes thrice as long.
    """
    return Bound(
        digest=bound.digest,
        intent=bound.intent,
        approvals=(),
        rule=sys.intern(bound.rule),
        binding=bound.binding,
        unsigned=b"",
        key_id=sys.intern(bound.key_id),
        chain=sys.intern(bound.chain),
        slot_key=sys.intern(bound.slot_key),
        slot=bound.slot,
        replaces=bound.replaces,
        org=sys.intern(bound.org),
        vault=sys.intern(bound.vault),
        asset=sys.intern(bound.asset),
        amount=bound.amount,
    )
