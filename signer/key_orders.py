"""No key is made and none changes its state unless a rule in force says so. The caller holds the signer's lock."""

from dataclasses import dataclass

from signer.facts import KeyStateChanged
from signer.governance import admit_governance, adopt_due
from signer.key_states import check_change
from signer.policy.effect import Effect
from signer.protocol.approvals import Approval
from signer.protocol.governance import (
    KEY_CREATE,
    KEY_STATE,
    NO_ASSET,
    KeyCreate,
    KeyIntent,
    KeyStateChange,
)
from signer.protocol.key_backup import AdmitKey
from signer.protocol.messages import ChangeKey, CreateKey
from signer.record import Record
from signer.refusal import Refusal
from signer.verdicts import demand_allowed, judge, stop_at_veto


@dataclass(frozen=True, slots=True, kw_only=True)
class Warrant:
    """Why a key may be made, and in which state."""

    rule: str
    state: str
    intent: bytes
    approvals: tuple[Approval, ...]


FIRST_STATEMENT_KEY = Warrant(rule="", state="active", intent=b"", approvals=())
"""Keys that need no rule: an org's first for checkpoints and for attestations. They sign no intent (SPEC.md sections 7, 12)."""


def effect_on_key(record: Record, intent: KeyIntent) -> Effect:
    """Return what the intent does, in the words of rules. Raises Refusal("unknown_key")."""
    if isinstance(intent, KeyCreate):
        return _creation(intent.org, intent.vault, intent.curve, intent.state)
    check_change(record.state, intent)
    curve = record.state.reserved[intent.key_id].curve
    return _effect(intent.org, intent.vault, intent.key_id, curve, KEY_STATE, intent.state)


def as_request(intent: KeyCreate) -> CreateKey:
    """Return the request that asks for the same key without people."""
    return CreateKey(
        request_id=intent.request_id,
        org=intent.org,
        vault=intent.vault,
        curve=intent.curve,
        label=intent.label,
    )


def warrant_by_rule(record: Record, request: CreateKey | AdmitKey) -> Warrant:
    """Let an automatic rule decide about a key; a request that was allowed before stays allowed. Raises Refusal."""
    known = record.state.key_requests.get(request.request_id)
    if known is not None:
        return Warrant(rule=known.rule, state=known.state, intent=known.intent, approvals=known.approvals)
    adopt_due(record)
    effect = _creation(request.org, request.vault, request.curve, "active")
    name = request.request_id.encode()
    ruling = judge(record, effect, name, frozenset())
    demand_allowed(record, ruling, b"", name, ())
    return Warrant(rule=ruling.rule, state="active", intent=b"", approvals=())


def warrant_by_people(record: Record, intent: KeyCreate, digest: bytes, request: ChangeKey) -> Warrant:
    """Let the rules and the approvals decide about a key. Idempotent by the intent. Raises Refusal."""
    known = record.state.key_requests.get(intent.request_id)
    if known is not None:
        if known.intent != request.intent:
            raise Refusal("key_exists_different", "this request_id made another key")
        return Warrant(rule=known.rule, state=known.state, intent=known.intent, approvals=known.approvals)
    rule = _allow(record, intent, digest, request)
    return Warrant(rule=rule, state=intent.state, intent=request.intent, approvals=request.approvals)


def change_state(record: Record, intent: KeyStateChange, digest: bytes, request: ChangeKey) -> None:
    """Let a key into another state. Idempotent by the intent. Raises Refusal."""
    if digest in record.state.key_changes:
        return
    rule = _allow(record, intent, digest, request)
    record.append(
        KeyStateChanged(
            digest=digest,
            intent=request.intent,
            approvals=request.approvals,
            rule=rule,
            key_id=intent.key_id,
            state=intent.state,
            successor=intent.successor,
        )
    )


def _allow(record: Record, intent: KeyIntent, digest: bytes, request: ChangeKey) -> str:
    """Return the id of the rule that lets the intent be carried out; raises Refusal."""
    votes = admit_governance(record, intent, digest, request.approvals)
    effect = effect_on_key(record, intent)
    stop_at_veto(record, request.intent, digest, votes)
    ruling = judge(record, effect, digest, votes.approved)
    demand_allowed(record, ruling, request.intent, digest, request.approvals)
    return ruling.rule


def _creation(org: str, vault: str, curve: str, state: str) -> Effect:
    return _effect(org, vault, "", curve, KEY_CREATE, state)


def _effect(org: str, vault: str, key: str, curve: str, kind: str, state: str) -> Effect:
    return Effect(
        org=org,
        vault=vault,
        key=key,
        chain=curve,
        kind=kind,
        asset=NO_ASSET,
        destinations=(state,),
        amount=0,
        moved=0,
        fee_cap=0,
        needs_own_rule=True,
        needs_listed_destination=False,
    )
