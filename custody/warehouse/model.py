"""An export of the ledger's entries: how far it has come, the files it is made of, and what is read for the next of them.

An export goes forward in waves. A wave holds the batches that one database snapshot shows and the waves before did not, in order
of their numbers. A batch whose transaction commits late, whatever its number, is in none until a snapshot shows it, and then in
the next wave; so none is skipped, and none comes twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from custody.kernel.ids import TenantId


class FileFormat(StrEnum):
    """What the files are."""

    JSONL = "jsonl"
    """One JSON object per line, amounts as decimal strings."""
    PARQUET = "parquet"
    """Apache Parquet, amounts as decimal strings and, where they fit, as DECIMAL(38,0)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far the export of a tenant has come. Snapshots are Postgres's `pg_snapshot` as text."""

    seen: str | None = None
    """Every batch that this snapshot shows is exported. None before the first wave's end."""
    upto: str | None = None
    """The snapshot of the wave under way. None between waves."""
    after: int = 0
    """The wave's batches up to this number are exported."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wave:
    """The batches that `upto` shows and `seen` does not."""

    seen: str | None
    """The snapshot of the wave before."""
    upto: str
    """The snapshot of this one."""
    after: int
    """Batches above this number are left of it."""
    batches: int
    """How many are left."""
    transfers: int
    """How many transfers these hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRef:
    """A batch, as far as an export needs to know it."""

    id: int
    """Its number."""
    transfers: int
    """How many transfers it holds."""
    root: bytes
    """Merkle root over them, by which another past is noticed."""
    booked_at: datetime
    """When it was booked, and all its transfers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some batches of a wave and all their transfers."""

    batches: tuple[BatchRef, ...]
    """In order of their numbers."""
    rows: tuple[Mapping[str, Any], ...]
    """Transfers with both accounts, in order of batch and leaf (`rows.legs`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedFile:
    """A complete file. It never changes."""

    name: str
    """Relative to the directory."""
    rows: int
    """Entries in it, two per transfer."""
    batches: int
    """Batches in it, each whole."""
    first_batch: int
    """Number of the first."""
    last_batch: int
    """Number of the last."""
    last_root: str
    """Root of the last, hexadecimal."""
    size: int
    """Bytes."""
    sha256: str
    """Digest of the bytes, hexadecimal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantExport:
    """A tenant's part of an export."""

    position: Position = field(default_factory=Position)
    """Where the next file begins."""
    files: tuple[ExportedFile, ...] = ()
    """In order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What the directory holds. A file that it does not name does not count."""

    format: FileFormat
    """Of all files."""
    source: str
    """Which database: the server's system identifier and the database's name."""
    tenants: Mapping[TenantId, TenantExport] = field(default_factory=dict)
    """By tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands, for somebody who watches."""

    tenant: TenantId
    """Whose entries are being written."""
    entries: int
    """Written in this run."""
    expected: int
    """What this wave holds in all."""
    files: int
    """Complete files of this run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """What a check of a tenant's files went through without finding a fault."""

    files: int
    """Digests computed again."""
    entries: int
    """Rows read."""
    transfers: int
    """Pairs of entries that sum to zero."""
    accounts: int
    """Accounts whose versions have no gap and whose balances follow from each other."""
