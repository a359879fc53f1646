"""Rows as lines of an export and back. Pure. Amounts are decimal strings, hashes hexadecimal, moments ISO 8601 in UTC."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

from custody.kernel.ids import TenantId
from custody.ledger.leaves import FIELDS
from custody.seals.errors import UnreadableExport
from custody.seals.model import Archive, Batch, Checkpoint, Seal, SealedBatch, TransferRow

_TRANSFER = (*FIELDS, "batch_id", "leaf")
_AMOUNTS = frozenset(("posted", "pending", "debit_balance", "debit_held", "credit_balance", "credit_held"))
_NUMBERS = frozenset(("tenant_id", "debit_version", "credit_version", "batch_id", "leaf"))
_MOMENTS = frozenset(("booked_at", "effective_at"))


def dump_transfer(row: TransferRow) -> dict[str, Any]:
    """A transfer as a line."""
    return {name: _dump(name, row[name]) for name in _TRANSFER}


def load_transfer(line: Mapping[str, Any]) -> TransferRow:
    """The row of a line; raises UnreadableExport. Ids stay text, as they are hashed."""
    _demand(line, set(_TRANSFER))
    return {name: _load(name, line[name]) for name in _TRANSFER}


def dump_batch(batch: Batch, sealed: SealedBatch) -> dict[str, Any]:
    """A batch and what was kept when it was sealed, as one line."""
    return {
        "tenant_id": batch.tenant,
        "id": batch.id,
        "xid": batch.xid,
        "transfers": batch.transfers,
        "root": batch.root.hex(),
        "booked_at": _moment(batch.booked_at),
        "sequence": sealed.sequence,
        "leaves": sealed.leaves.hex(),
    }


def load_batch(line: Mapping[str, Any]) -> tuple[Batch, SealedBatch]:
    """The rows of a line; raises UnreadableExport."""
    _demand(line, {"tenant_id", "id", "xid", "transfers", "root", "booked_at", "sequence", "leaves"})
    tenant = TenantId(_number(line["tenant_id"]))
    batch = Batch(
        tenant=tenant,
        id=_number(line["id"]),
        xid=_number(line["xid"]),
        transfers=_number(line["transfers"]),
        root=bytes.fromhex(line["root"]),
        booked_at=datetime.fromisoformat(line["booked_at"]),
    )
    sealed = SealedBatch(
        tenant=tenant,
        batch_id=batch.id,
        sequence=_number(line["sequence"]),
        leaves=bytes.fromhex(line["leaves"]),
    )
    return batch, sealed


def dump_seal(seal: Seal) -> dict[str, Any]:
    """A seal as a line."""
    return {
        "tenant_id": seal.tenant,
        "sequence": seal.sequence,
        "from_batch": seal.from_batch,
        "to_batch": seal.to_batch,
        "from_xid": seal.from_xid,
        "to_xid": seal.to_xid,
        "batches": seal.batches,
        "root": seal.root.hex(),
        "previous": seal.previous.hex(),
        "hash": seal.hash.hex(),
        "sealed_at": _moment(seal.sealed_at),
    }


_SEAL = (
    "tenant_id", "sequence", "from_batch", "to_batch", "from_xid", "to_xid", "batches", "root", "previous", "hash", "sealed_at",
)  # fmt: skip


def load_seal(line: Mapping[str, Any]) -> Seal:
    """The seal of a line; raises UnreadableExport."""
    _demand(line, set(_SEAL))
    return Seal(
        tenant=TenantId(_number(line["tenant_id"])),
        sequence=_number(line["sequence"]),
        from_batch=_number(line["from_batch"]),
        to_batch=_number(line["to_batch"]),
        from_xid=_number(line["from_xid"]),
        to_xid=_number(line["to_xid"]),
        batches=_number(line["batches"]),
        root=bytes.fromhex(line["root"]),
        previous=bytes.fromhex(line["previous"]),
        hash=bytes.fromhex(line["hash"]),
        sealed_at=datetime.fromisoformat(line["sealed_at"]),
    )


def dump_checkpoint(checkpoint: Checkpoint) -> dict[str, Any]:
    """A signature as a line."""
    return {
        "tenant_id": checkpoint.tenant,
        "sequence": checkpoint.sequence,
        "key_id": checkpoint.key_id,
        "public_key": checkpoint.public_key.hex(),
        "signature": checkpoint.signature.hex(),
    }


def load_checkpoint(line: Mapping[str, Any]) -> Checkpoint:
    """The signature of a line; raises UnreadableExport."""
    _demand(line, {"tenant_id", "sequence", "key_id", "public_key", "signature"})
    return Checkpoint(
        tenant=TenantId(_number(line["tenant_id"])),
        sequence=_number(line["sequence"]),
        key_id=str(line["key_id"]),
        public_key=bytes.fromhex(line["public_key"]),
        signature=bytes.fromhex(line["signature"]),
    )


def dump_archive(archive: Archive) -> dict[str, Any]:
    """An archived month as a line."""
    return {
        "tenant_id": archive.tenant,
        "month": archive.month.isoformat(),
        "batches": archive.batches,
        "transfers": archive.transfers,
        "sequence": archive.sequence,
        "directory": archive.directory,
        "digest": archive.digest.hex(),
    }


def load_archived_month(line: Mapping[str, Any]) -> date:
    """The month of such a line; raises UnreadableExport."""
    _demand(line, {"tenant_id", "month", "batches", "transfers", "sequence", "directory", "digest"})
    return date.fromisoformat(line["month"])


def _dump(name: str, value: Any) -> Any:
    if value is None or name in _NUMBERS:
        return value
    if name in _MOMENTS:
        return _moment(value)
    return str(int(value)) if name in _AMOUNTS else str(value)


def _load(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name in _NUMBERS:
        return _number(value)
    if name in _MOMENTS:
        return datetime.fromisoformat(value)
    return int(value) if name in _AMOUNTS else str(value)


def _moment(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="microseconds")


def _number(value: Any) -> int:
    if type(value) is not int:
        raise UnreadableExport("a whole number is expected", found=repr(value)[:80])
    return value


def _demand(line: Mapping[str, Any], names: set[str]) -> None:
    if set(line) != names:
        raise UnreadableExport("the fields are not those of this kind", differs=sorted(names ^ set(line)))
