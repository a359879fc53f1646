"""What the journal records and what follows from it. A fact is never edited; the state is the fold of all
facts.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from signer.counters import Counted, Counters
from signer.protocol.approvals import Approval, Assertion
from signer.protocol.messages import EvmBinding, StellarBinding
from signer.protocol.webauthn import read_counter
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
class Bound:
    """An approved intent was bound to the one transaction that it may become. Written before the HSM signs."""

    digest: bytes
    intent: bytes
    approvals: tuple[Approval, ...]
    """The evidence: everybody whose approval was counted or given."""
    rule: str
    binding: StellarBinding | EvmBinding
    unsigned: bytes
    """What is hashed and signed: Stellar signature base, or 0x02 ‖ RLP."""
    key_id: str
    chain: str
    slot: int
    """Sequence number or nonce."""
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


Fact = PolicyAdopted | KeyReserved | KeyCreated | Bound | TransactionSigned | IntentVetoed | CheckpointSigned

_FACTS: Mapping[str, type[Any]] = {
    shape.__name__: shape
    for shape in (
        PolicyAdopted,
        KeyReserved,
        KeyCreated,
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
    bound: dict[bytes, Bound] = field(default_factory=dict)
    signed: dict[bytes, TransactionSigned] = field(default_factory=dict)
    vetoed: set[bytes] = field(default_factory=set)
    slots: dict[tuple[str, str, int], bytes] = field(default_factory=dict)
    """(key, chain, sequence or nonce) to the digest that owns it."""
    spending: dict[tuple[str, str, str, str], list[tuple[int, int]]] = field(default_factory=dict)
    """(org, vault, chain, asset) to (time, amount), oldest first."""

    checkpoints: dict[str, CheckpointSigned] = field(default_factory=dict)
    """The newest by key id."""
    counters: Counters = field(default_factory=Counters)
    """Of the passkeys whose approvals were counted."""

    def learn(self, at: int, fact: Fact) -> None:
        """Fold one fact, written at unix second `at`, into the state."""
        match fact:
            case PolicyAdopted():
                self.policies.append(fact)
            case KeyReserved():
                self.key_requests[fact.request_id] = fact
                self.reserved[fact.key_id] = fact
            case KeyCreated():
                self.public_keys[fact.key_id] = fact.public_key
            case Bound():
                self.bound[fact.digest] = fact
                self.slots[(fact.key_id, fact.chain, fact.slot)] = fact.digest
                account = (fact.org, fact.vault, fact.chain, fact.asset)
                self.spending.setdefault(account, []).append((at, fact.amount))
                for approval in fact.approvals:
                    self._count(at, fact.digest, approval)
            case TransactionSigned():
                self.signed[fact.digest] = fact
            case IntentVetoed():
                self.vetoed.add(fact.digest)
                self._count(at, fact.digest, fact.approval)
            case CheckpointSigned():
                self.checkpoints[fact.key_id] = fact

    def _count(self, at: int, digest: bytes, approval: Approval) -> None:
        if isinstance(approval.evidence, Assertion):
            counter = read_counter(approval.evidence.authenticator_data)
            self.counters.learn(at, digest, Counted(public_key=approval.public_key, counter=counter))

    def spent(self, account: tuple[str, str, str, str], since: int) -> int:
        """Return what was bound for (org, vault, chain, asset) at or after unix second `since`."""
        total = 0
        for at, amount in reversed(self.spending.get(account, [])):
            if at < since:
                break
            total += amount
        return total
