"""Voiding an intent: what the requester says before it gives the money back (SPEC.md section 15)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Void:
    """Never sign this intent, whoever approves or asks. Role: requester. Idempotent; refused when it is signed already."""

    intent: bytes
    """Canonical bytes of a transaction or a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Voided:
    """The intent is not signed and never will be; answers Void."""

    intent_digest: str
