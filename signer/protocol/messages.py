"""The requests that the signer answers and its answers. One connection may carry many requests, answered in
order.

`dump` and `load_request` / `load_response` turn them into bytes and back; `wire` frames them. A union field
is told apart by its "type", everything else by its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from signer.protocol.approvals import Approval
from signer.protocol.batch import ApproveBatch, BatchApproved
from signer.protocol.key_backup import AdmitKey, ExportKeys, WrappedKeyList
from signer.protocol.key_batches import AttestKeys, CreateKeys, KeyBatch
from signer.protocol.policy_messages import PolicyChanged, PolicyDocument, PolicyView
from signer.protocol.stops import ListStops, Resume, Resumed, Stop, StopList, Stopped
from signer.protocol.voids import Void, Voided
from signer.protocol.wire import dump_message, load_message

CURVES = ("ed25519", "secp256k1")
STORAGES = ("token", "wrapped")
"""An object in the token; or bytes outside it, under a key that never leaves it (secp256k1 only)."""
PAGE_MAX = 50
"""Most keys in one answer, so that it fits a frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StellarBinding:
    """What the requester adds to a Stellar intent just before it is signed. An intent is bound once."""

    sequence: int
    """Sequence number of the transaction (the account's present one plus one); used once per key and chain.
    """
    max_time: int
    """Upper time bound in unix seconds; never above the intent's `expires_at`."""
    min_ledger: int
    """Lower ledger bound; 0 for none."""
    max_ledger: int
    """Upper ledger bound, exclusive; 0 for none."""
    fee: int
    """Fee bid of the whole transaction in stroops; never above the intent's `max_fee`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvmBinding:
    """What the requester adds to an EVM intent just before it is signed. An intent is bound once."""

    nonce: int
    """Account nonce; used once per key and chain."""
    max_fee_per_gas: int
    """Wei per gas; never above the intent's."""
    max_priority_fee_per_gas: int
    """Wei per gas; never above the intent's nor above `max_fee_per_gas`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContractBinding:
    """What the requester adds to a call of a Stellar contract: what a simulation told just before."""

    frame: StellarBinding
    """As for any Stellar transaction; its `fee` is the whole fee and holds the resource fee."""
    instructions: int
    """CPU instructions declared."""
    disk_read_bytes: int
    """Bytes read from disk, declared."""
    write_bytes: int
    """Bytes written, declared."""
    resource_fee: int
    """Stroops for the declared resources and rent; with 100 for inclusion at most the frame's fee."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeBinding:
    """What the requester adds to a fee bump. Sequence and bounds are those of the inner transaction."""

    fee: int
    """Fee bid of the whole envelope in stroops; never above the intent's `max_fee`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoBinding:
    """Nothing is added: the intent of a message says all of it."""


Binding = StellarBinding | ContractBinding | FeeBinding | EvmBinding | NoBinding


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Ask whether the signer can sign. Role: any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateKey:
    """Generate an active key pair where an automatic rule allows it. Role: operator. Idempotent by `request_id`."""

    request_id: str
    """UUID of the caller's choice."""
    org: str
    vault: str
    curve: str
    """"ed25519" (Stellar) or "secp256k1" (EVM)."""
    label: str
    """Free name, 1-64 characters of [A-Za-z0-9._:@-]."""
    storage: str = "token"
    """One of STORAGES. The wire always carries it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeKey:
    """Carry out a governance intent about a key: create one, or let one into another state. Role: operator. Idempotent."""

    intent: bytes
    """Canonical bytes of a `key_create` or `key_state` (SPEC.md section 9)."""
    approvals: tuple[Approval, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangePolicy:
    """Accept an approved change of the policy, which takes effect after its cool-down. Role: operator. Idempotent."""

    intent: bytes
    """Canonical bytes of a `policy_change`."""
    document: bytes
    """The whole new policy, whose hash the intent names."""
    approvals: tuple[Approval, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """Ask for one key. Role: any."""

    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListKeys:
    """Ask for the keys of an organisation, at most PAGE_MAX. Role: any."""

    org: str
    start: int = 0
    """How many to pass over, oldest first. The wire always carries it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GetPolicy:
    """Ask for the policy in force and the change that waits. Role: any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GetPolicyDocument:
    """Ask for the bytes of a policy that is, was, or waits to be in force. Role: any."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain:
    """Ask which rule decides about an intent and what is missing; changes nothing. Role: any."""

    intent: bytes
    """Canonical bytes, of a transaction or of governance."""
    approvals: tuple[Approval, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Veto:
    """Make a rejection final before anything is bound, or before a change of the policy takes effect. `approvals` must hold
    a valid "reject". Role: requester, for a governance intent also operator.
    """

    intent: bytes
    approvals: tuple[Approval, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """Sign the transaction of an approved intent. Role: requester. The same request gets the same bytes
    again.
    """

    intent: bytes
    approvals: tuple[Approval, ...]
    binding: Binding


@dataclass(frozen=True, slots=True, kw_only=True)
class SignCheckpoint:
    """Sign the head of an organisation's seal chain. Role: requester. The newest may be asked for again."""

    key_id: str
    """A key of the vault "checkpoints"."""
    org: str
    sequence: int
    """Number of the seal, from 1; per key it only rises."""
    hash: bytes
    """Hash of the seal, 32 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthView:
    """The signer is ready."""

    policy_version: int
    journal_count: int
    """Entries in the journal; with its head and the policy's hash then (64 hex each), the anchor in the token."""
    journal_head: str
    policy_hash: str
    keys: int
    """Keys registered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyView:
    """One key; answers CreateKey, ChangeKey, AdmitKey and PublicKey."""

    key_id: str
    org: str
    vault: str
    curve: str
    label: str
    public_key: str
    """Hex: 32 bytes for ed25519, 65 bytes 04‖X‖Y for secp256k1."""
    address: str
    """G address for ed25519, EIP-55 address for secp256k1."""
    storage: str
    """One of STORAGES."""
    origin: str
    """"born": made in this HSM and never outside; "ceremony": brought here in a way that the configuration names."""
    state: str
    """One of `governance.KEY_STATES`; only an active key signs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyList:
    """Answers ListKeys."""

    keys: tuple[KeyView, ...]
    total: int
    """How many the organisation has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CountView:
    """How far one demand of the deciding rule is met."""

    group: str
    threshold: int
    counted: tuple[str, ...]
    """Ids of the people who count here, sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What the signer would do now; answers Explain."""

    verdict: str
    """"allow" (would sign), "wait" (approvals are missing, or a cool-down runs) or "deny"."""
    code: str
    """"ok", "quorum_missing", "cooling_down", or the refusal code of a denial."""
    rule: str
    """Id of the rule that decides; "" when none does."""
    nearest: str
    """Of a denial: id of the allow rule that comes nearest; "" for none."""
    obstacles: tuple[str, ...]
    """What keeps the nearest rule from holding: names of its fields, or one code."""
    groups: tuple[CountView, ...]
    """One for each demand of the rule that decides."""
    cool_down_s: int
    """Seconds that the rule waits after the quorum."""
    ready_at: int
    """Unix second at which the running cool-down ends; 0 when none runs."""
    intent_digest: str
    """Hex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vetoed:
    """The intent is dead; answers Veto, also when it was dead before."""

    intent_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """The signed transaction or message; answers Sign."""

    tx: bytes
    """Stellar: TransactionEnvelope XDR. EVM: raw EIP-1559 transaction (0x02 ‖ RLP). Message: the signature, 64 bytes for
    Ed25519, 65 bytes r ‖ s ‖ v (27 or 28) for secp256k1.
    """
    tx_hash: str
    """Hex without 0x, as the chain names the transaction; of a message the 32 bytes that were signed."""
    intent_digest: str
    """Hex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedCheckpoint:
    """The signature under a checkpoint; answers SignCheckpoint."""

    key_id: str
    sequence: int
    hash: bytes
    public_key: str
    """Hex, 32 bytes."""
    signature: bytes
    """Ed25519, 64 bytes, over the message of SPEC.md section 7."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The request was refused and changed nothing beyond the journal. SPEC.md section 5 lists the codes."""

    code: str
    text: str
    """One sentence for operators; never internals."""


Request = (
    Health
    | CreateKey
    | CreateKeys
    | AttestKeys
    | AdmitKey
    | ExportKeys
    | PublicKey
    | ListKeys
    | GetPolicy
    | ChangeKey
    | ChangePolicy
    | GetPolicyDocument
    | Explain
    | Veto
    | Void
    | ApproveBatch
    | Stop
    | Resume
    | ListStops
    | Sign
    | SignCheckpoint
)
Response = (
    HealthView
    | KeyView
    | KeyList
    | KeyBatch
    | WrappedKeyList
    | PolicyView
    | PolicyDocument
    | PolicyChanged
    | Explained
    | Vetoed
    | Voided
    | BatchApproved
    | Stopped
    | Resumed
    | StopList
    | Signed
    | SignedCheckpoint
    | Refused
)

_REQUESTS: Mapping[str, type[Any]] = {shape.__name__: shape for shape in get_args(Request)}
_RESPONSES: Mapping[str, type[Any]] = {shape.__name__: shape for shape in get_args(Response)}


def dump(message: Request | Response) -> bytes:
    """Return the bytes of a request or response, to be framed by `wire.send_frame`."""
    return dump_message(message)


def load_request(body: bytes) -> Request:
    """Return the request in `body`; raises wire.MalformedMessage."""
    request: Request = load_message(body, _REQUESTS)
    return request


def load_response(body: bytes) -> Response:
    """Return the response in `body`; raises wire.MalformedMessage."""
    response: Response = load_message(body, _RESPONSES)
    return response
