"""The requests that the signer answers and its answers. One connection may carry many requests, answered in
order.

`dump` and `load_request` / `load_response` turn them into bytes and back; `wire` frames them. A union field
is told apart by its "type", everything else by its place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from signer.protocol.approvals import Approval
from signer.protocol.approver_keys import Ed25519Key, P256Key, Passkey
from signer.protocol.wire import dump_message, load_message

CURVES = ("ed25519", "secp256k1")


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


Binding = StellarBinding | EvmBinding


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """Ask whether the signer can sign. Role: any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateKey:
    """Generate a key pair in the HSM. Role: operator. Idempotent by `request_id`; another body is refused."""

    request_id: str
    """UUID of the caller's choice."""
    org: str
    vault: str
    curve: str
    """"ed25519" (Stellar) or "secp256k1" (EVM)."""
    label: str
    """Free name, 1-64 characters of [A-Za-z0-9._:@-]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """Ask for one key. Role: any."""

    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListKeys:
    """Ask for all keys of an organisation. Role: any."""

    org: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GetPolicy:
    """Ask for the policy in force. Role: any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explain:
    """Ask which rule decides about an intent and what is missing; changes nothing. Role: any."""

    intent: bytes
    """Canonical bytes."""
    approvals: tuple[Approval, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Veto:
    """Make a rejection final before anything is bound. Role: requester. `approvals` must hold a valid
    "reject".
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
    binding: StellarBinding | EvmBinding


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
    """Entries in the journal."""
    keys: int
    """Keys registered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyView:
    """One key; answers CreateKey and PublicKey."""

    key_id: str
    org: str
    vault: str
    curve: str
    label: str
    public_key: str
    """Hex: 32 bytes for ed25519, 65 bytes 04‖X‖Y for secp256k1."""
    address: str
    """G address for ed25519, EIP-55 address for secp256k1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyList:
    """Answers ListKeys."""

    keys: tuple[KeyView, ...]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleView:
    """One allow rule. "*" means any. Amounts are atomic units."""

    id: str
    org: str
    vault: str
    chain: str
    kind: str
    asset: str
    destinations: tuple[str, ...]
    amount_max: int
    fee_max: int
    windows: tuple[WindowView, ...]
    group: str
    threshold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DenyRuleView:
    """One deny rule; any match refuses."""

    id: str
    org: str
    vault: str
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
class PolicyView:
    """The policy in force; answers GetPolicy."""

    version: int
    approver_set_version: int
    policy_hash: str
    """SHA-256 of the policy file's bytes, hex."""
    networks: tuple[NetworkView, ...]
    approvers: tuple[ApproverView, ...]
    deny: tuple[DenyRuleView, ...]
    allow: tuple[RuleView, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What the signer would do now; answers Explain."""

    verdict: str
    """"allow" (would sign), "wait" (approvals are missing) or "deny"."""
    code: str
    """"ok", "quorum_missing", or the refusal code of a denial."""
    rule: str
    """Id of the rule that decides; "" when none does."""
    group: str
    """Group that approves under the rule; "" when none."""
    threshold: int
    """People that the rule demands."""
    counted: tuple[str, ...]
    """Ids of the people whose approvals count, sorted."""
    missing: int
    """People still missing."""
    intent_digest: str
    """Hex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Vetoed:
    """The intent is dead; answers Veto, also when it was dead before."""

    intent_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """The signed transaction; answers Sign."""

    tx: bytes
    """Stellar: TransactionEnvelope XDR. EVM: raw EIP-1559 transaction (0x02 ‖ RLP)."""
    tx_hash: str
    """Hex without 0x, as the chain names the transaction."""
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


Request = Health | CreateKey | PublicKey | ListKeys | GetPolicy | Explain | Veto | Sign | SignCheckpoint
Response = (
    HealthView | KeyView | KeyList | PolicyView | Explained | Vetoed | Signed | SignedCheckpoint | Refused
)

_REQUESTS: Mapping[str, type[Any]] = {
    shape.__name__: shape
    for shape in (Health, CreateKey, PublicKey, ListKeys, GetPolicy, Explain, Veto, Sign, SignCheckpoint)
}
_RESPONSES: Mapping[str, type[Any]] = {
    shape.__name__: shape
    for shape in (
        HealthView,
        KeyView,
        KeyList,
        PolicyView,
        Explained,
        Vetoed,
        Signed,
        SignedCheckpoint,
        Refused,
    )
}


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
