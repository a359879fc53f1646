"""Governance intents: what people agree to about keys and about the policy itself (SPEC.md section 9).

Encoded as an intent of section 2 is, under tags of their own: their digest and their approvals mean nothing where a transaction
is to be signed. They move no money and name no source.
"""

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from signer.protocol import fields as check
from signer.protocol.canonical import FORMAT_VERSION, MalformedIntent, read_flat, write_flat

DIGEST_TAG = b"custody-governance-v1\x00"
KEY_CREATE = "key_create"
KEY_STATE = "key_state"
POLICY_CHANGE = "policy_change"
SIGNING_RESUME = "signing_resume"
KEY_KINDS = (KEY_CREATE, KEY_STATE)
"""Kinds that the policy's rules judge; a change of the policy is judged by its governance section."""
NO_ASSET = "none"
"""Asset of a key operation, in rules."""
KEY_STATES = ("pre_activation", "active", "suspended", "deactivated", "compromised", "destroyed")
"""Source: NIST SP 800-57 part 1 rev. 5, section 7."""

_REASON = re.compile(r"[\x20-\x7e]{1,200}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyCreate:
    """Generate a key pair in the HSM."""

    request_id: str
    """UUID of the caller's choice; one key per id."""
    initiator: str
    """Principal who asked; may veto but never approve."""
    policy_version: int
    """Version of the policy in force that the approvers saw."""
    not_before: int
    """Unix seconds."""
    expires_at: int
    """Unix seconds, exclusive."""
    org: str
    vault: str
    curve: str
    """"ed25519" or "secp256k1"."""
    label: str
    state: str
    """"active", or "pre_activation" for a key that may not sign yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyStateChange:
    """Let a key into another state. Header fields as in `KeyCreate`."""

    request_id: str
    initiator: str
    policy_version: int
    not_before: int
    expires_at: int
    org: str
    vault: str
    key_id: str
    state: str
    """The state that the key is to have."""
    reason: str
    """Why, for the record; 1-200 printable ASCII characters."""
    successor: str
    """Key id to which a deactivated key may still send what it holds; "" for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChange:
    """Put another policy document in force. Header fields as in `KeyCreate`."""

    request_id: str
    initiator: str
    policy_version: int
    """Version in force, under which the change is approved."""
    not_before: int
    expires_at: int
    version: int
    """Version of the new document: the one in force plus one."""
    policy_hash: str
    """SHA-256 of the new document's bytes, 64 lower-case hex characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningResume:
    """End one stop (`stops.StopOrder`). Header fields as in `KeyCreate`."""

    request_id: str
    initiator: str
    policy_version: int
    not_before: int
    expires_at: int
    org: str
    stop: str
    """Digest of the order that is to end, 64 lower-case hex characters: it can end no other and no later one."""
    reason: str
    """Why, for the record; 1-200 printable ASCII characters."""


KeyIntent = KeyCreate | KeyStateChange
Governance = KeyCreate | KeyStateChange | PolicyChange | SigningResume


def _among(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError("bad_choice")
        return text

    return parse


def parse_reason(text: str) -> str:
    """Check a sentence for the record; code: bad_reason."""
    if not _REASON.fullmatch(text):
        raise ValueError("bad_reason")
    return text


def _successor(text: str) -> str:
    return text if text == "" else check.parse_key_id(text)


Parser = Callable[[str], str | int]
_HEADER: Mapping[str, Parser] = {
    "request_id": check.parse_uuid,
    "initiator": check.parse_name,
    "policy_version": check.parse_integer(1, 2**31 - 1),
    "not_before": check.parse_integer(0, check.TIME_MAX),
    "expires_at": check.parse_integer(1, check.TIME_MAX),
}
_KINDS: Mapping[str, tuple[type[Governance], Mapping[str, Parser]]] = {
    KEY_CREATE: (
        KeyCreate,
        {
            **_HEADER,
            "org": check.parse_name,
            "vault": check.parse_name,
            "curve": _among("ed25519", "secp256k1"),
            "label": check.parse_name,
            "state": _among("pre_activation", "active"),
        },
    ),
    KEY_STATE: (
        KeyStateChange,
        {
            **_HEADER,
            "org": check.parse_name,
            "vault": check.parse_name,
            "key_id": check.parse_key_id,
            "state": _among(*KEY_STATES),
            "reason": parse_reason,
            "successor": _successor,
        },
    ),
    POLICY_CHANGE: (
        PolicyChange,
        {**_HEADER, "version": check.parse_integer(2, 2**31 - 1), "policy_hash": check.parse_hex32},
    ),
    SIGNING_RESUME: (
        SigningResume,
        {**_HEADER, "org": check.parse_name, "stop": check.parse_hex32, "reason": parse_reason},
    ),
}
_KIND_OF: Mapping[type[Governance], str] = {shape: kind for kind, (shape, _) in _KINDS.items()}


def kind_of(intent: Governance) -> str:
    """Return the name of the kind as it stands in the bytes."""
    return _KIND_OF[type(intent)]


def encode(intent: Governance) -> bytes:
    """Return the canonical bytes; raises MalformedIntent when a field is outside its range."""
    values = {field.name: str(getattr(intent, field.name)) for field in fields(intent)}
    data = write_flat(values | {"kind": kind_of(intent), "v": FORMAT_VERSION})
    if decode(data) != intent:
        raise MalformedIntent("not_canonical")
    return data


def decode(data: bytes) -> Governance:
    """Return the governance intent of exactly these bytes; raises MalformedIntent."""
    intent: Governance = read_record(data, _KINDS)
    _check_together(intent)
    return intent


def read_record(data: bytes, kinds: Mapping[str, tuple[type[Any], Mapping[str, Parser]]]) -> Any:
    """Return the record of one of these kinds that exactly these bytes are; raises MalformedIntent."""
    values = read_flat(data)
    if values.get("v") != FORMAT_VERSION:
        raise MalformedIntent("unknown_version", "v")
    kind = values.get("kind", "")
    if kind not in kinds:
        raise MalformedIntent("unknown_kind", "kind")
    shape, parsers = kinds[kind]
    for name in values:
        if name not in parsers and name not in {"v", "kind"}:
            raise MalformedIntent("unknown_field", name)
    parsed: dict[str, Any] = {}
    for name, parse in parsers.items():
        if name not in values:
            raise MalformedIntent("missing_field", name)
        try:
            parsed[name] = parse(values[name])
        except ValueError as error:
            raise MalformedIntent(str(error), name) from error
    if write_flat(values) != data:
        raise MalformedIntent("not_canonical")
    return shape(**parsed)


def is_governance(data: bytes) -> bool:
    """Tell whether the bytes name a governance kind; whether they are well formed is for `decode`."""
    try:
        return read_flat(data).get("kind") in _KINDS
    except MalformedIntent:
        return False


def digest(data: bytes) -> bytes:
    """Return the 32 bytes that name this governance intent everywhere."""
    return hashlib.sha256(DIGEST_TAG + data).digest()


def _check_together(intent: Governance) -> None:
    if intent.expires_at <= intent.not_before:
        raise MalformedIntent("empty_window", "expires_at")
    if isinstance(intent, PolicyChange) and intent.version != intent.policy_version + 1:
        raise MalformedIntent("out_of_range", "version")
    if isinstance(intent, KeyStateChange):
        if intent.successor and intent.state != "deactivated":
            raise MalformedIntent("out_of_range", "successor")
        if intent.successor == intent.key_id:
            raise MalformedIntent("self_transfer", "successor")
