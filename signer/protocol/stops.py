"""Orders to stop: where the signer is to sign nothing more, from now on (SPEC.md section 13). And what is asked about them.

Encoded as an intent of section 2 is, under tags of their own. An order needs one approver and no rule, and names no version of
the policy: it must work at once, whatever else is under way. What ends it is a governance intent, `signing_resume`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields

from signer.protocol import fields as check
from signer.protocol.approvals import Approval
from signer.protocol.canonical import FORMAT_VERSION, MalformedIntent, write_flat
from signer.protocol.governance import Parser, parse_reason, read_record

DIGEST_TAG = b"custody-stop-order-v1\x00"
KIND = "signing_stop"
SCOPES = ("all", "chain", "asset", "vault", "key")
LIST_MAX = 100
"""Most stops in one answer, so that it fits a frame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopOrder:
    """Sign nothing more for this org in one place, until a quorum ends this order."""

    request_id: str
    """UUID of the caller's choice; makes one order differ from the next."""
    not_before: int
    """Unix seconds."""
    expires_at: int
    """Unix seconds, exclusive: until when the order may be given. A stop, once given, does not end by time."""
    org: str
    scope: str
    """One of SCOPES."""
    chain: str
    """Of a chain or an asset; else empty."""
    subject: str
    """The asset ("native", "CODE:ISSUER", a token's address), the vault or the key id; else empty."""
    reason: str
    """Why, for the record; 1-200 printable ASCII characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Stop at once. Role: requester, approver, operator. Idempotent by the order."""

    order: bytes
    """Canonical bytes."""
    approval: Approval
    """By any approver of the policy in force; the decision is "approve"."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """End a stop that the quorum of `governance` agrees to end. Role: operator. Idempotent by the intent."""

    intent: bytes
    """Canonical bytes of a `signing_resume`."""
    approvals: tuple[Approval, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ListStops:
    """Ask which stops stand in an org, at most LIST_MAX. Role: any."""

    org: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The order counts, or counted until it was ended; answers Stop."""

    order_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """The order has ended; answers Resume."""

    order_digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StopView:
    """One stop that stands."""

    order_digest: str
    """What a `signing_resume` names."""
    scope: str
    chain: str
    subject: str
    reason: str
    approver: str
    """Who ordered it."""
    since: int
    """Unix second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopList:
    """Answers ListStops: the newest first."""

    stops: tuple[StopView, ...]
    total: int
    """How many stand."""


def _parse_scope(text: str) -> str:
    if text not in SCOPES:
        raise ValueError("bad_choice")
    return text


def _parse_chain(text: str) -> str:
    if text == "":
        return text
    return check.parse_evm_chain(text) if text.startswith("eip155:") else check.parse_stellar_chain(text)


def _as_it_is(text: str) -> str:
    return text


_KINDS: Mapping[str, tuple[type[StopOrder], Mapping[str, Parser]]] = {
    KIND: (
        StopOrder,
        {
            "request_id": check.parse_uuid,
            "not_before": check.parse_integer(0, check.TIME_MAX),
            "expires_at": check.parse_integer(1, check.TIME_MAX),
            "org": check.parse_name,
            "scope": _parse_scope,
            "chain": _parse_chain,
            "subject": _as_it_is,
            "reason": parse_reason,
        },
    )
}


def encode(order: StopOrder) -> bytes:
    """Return the canonical bytes; raises MalformedIntent when a field is outside its range."""
    values = {field.name: str(getattr(order, field.name)) for field in fields(order)}
    data = write_flat(values | {"kind": KIND, "v": FORMAT_VERSION})
    if decode(data) != order:
        raise MalformedIntent("not_canonical")
    return data


def decode(data: bytes) -> StopOrder:
    """Return the order of exactly these bytes; raises MalformedIntent."""
    order: StopOrder = read_record(data, _KINDS)
    if order.expires_at <= order.not_before:
        raise MalformedIntent("empty_window", "expires_at")
    if (order.chain != "") != (order.scope in ("chain", "asset")):
        raise MalformedIntent("out_of_range", "chain")
    try:
        _check_subject(order)
    except ValueError as error:
        raise MalformedIntent(str(error), "subject") from error
    return order


def digest(data: bytes) -> bytes:
    """Return the 32 bytes that name this order everywhere."""
    return hashlib.sha256(DIGEST_TAG + data).digest()


def _check_subject(order: StopOrder) -> None:
    match order.scope:
        case "asset" if order.subject == "native":
            return
        case "asset" if order.chain.startswith("eip155:"):
            check.parse_evm_address(order.subject)
        case "asset":
            check.parse_asset(order.subject)
        case "vault":
            check.parse_name(order.subject)
        case "key":
            check.parse_key_id(order.subject)
        case _ if order.subject:
            raise ValueError("out_of_range")
