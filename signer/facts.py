"""What the journal records. A fact is never edited."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from signer.protocol.approvals import Approval
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
    rule: str
    state: str
    intent: bytes
    approvals: tuple[Approval, ...]
    """These four as in KeyReserved."""


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
    """Whose sequence number or nonce is used: the intent's own key's or a channel's, or that of an account, by its address, which
    the key signs for with others; "" for an intent that uses none.
    """
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
class IntentVoided:
    """The requester gave up the intent; it can never be signed."""

    digest: bytes
    intent: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchTaken:
    """The approvals of a batch verify, and stand for each of its lines. A later one of the same batch has more people."""

    digest: bytes
    batch: bytes
    lines: tuple[bytes, ...]
    approvals: tuple[Approval, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchVetoed:
    """Somebody rejected a batch; none of its lines that is not signed can ever be."""

    digest: bytes
    batch: bytes
    lines: tuple[bytes, ...]
    approval: Approval


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointSigned:
    """The key vouched for this head of the org's seal chain; it signs nothing below it any more."""

    key_id: str
    org: str
    sequence: int
    hash: bytes
    signature: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningStopped:
    """One approver ordered that nothing more be signed in one place."""

    digest: bytes
    order: bytes
    approval: Approval
    place: tuple[str, ...]
    """(org, scope, chain, subject), as in the order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningResumed:
    """The quorum ended one stop."""

    digest: bytes
    intent: bytes
    approvals: tuple[Approval, ...]
    stop: bytes
    """Digest of the order that ended."""


Fact = (
    PolicyAdopted
    | PolicyAccepted
    | KeyReserved
    | KeyAttested
    | KeyCreated
    | WrappedKeyCreated
    | KeyStateChanged
    | QuorumCompleted
    | Bound
    | TransactionSigned
    | IntentVetoed
    | IntentVoided
    | BatchTaken
    | BatchVetoed
    | CheckpointSigned
    | SigningStopped
    | SigningResumed
)

_FACTS: Mapping[str, type[Any]] = {
    shape.__name__: shape
    for shape in (
        PolicyAdopted,
        PolicyAccepted,
        KeyReserved,
        KeyAttested,
        KeyCreated,
        WrappedKeyCreated,
        KeyStateChanged,
        QuorumCompleted,
        Bound,
        TransactionSigned,
        IntentVetoed,
        IntentVoided,
        BatchTaken,
        BatchVetoed,
        CheckpointSigned,
        SigningStopped,
        SigningResumed,
    )
}


def dump_fact(fact: Fact) -> bytes:
    """Return the bytes of a fact as they stand in the journal."""
    return dump_message(fact)


def load_fact(body: bytes) -> Fact:
    """Return the fact in these bytes; raises wire.MalformedMessage."""
    fact: Fact = load_message(body, _FACTS)
    return fact
