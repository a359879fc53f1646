"""Audit entries: who did what to which object, for examiners."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One state change. Entries of a tenant form a chain of hashes."""

    sequence: int
    """1, 2, 3 … per tenant, without gaps."""
    occurred_at: datetime
    """By the database's clock."""
    actor: str
    """A person, a machine, or a process of ours."""
    action: str
    """`withdrawal.approve`, `deposit.credit` …"""
    object_id: UUID
    """What was changed."""
    detail: dict[str, object]
    """Facts that the change rests on; no secrets, no personal data."""
    hash: bytes
    """SHA-256 over the previous entry's hash and this entry."""
