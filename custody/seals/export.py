"""History as files: JSON lines per kind, up to the newest signed seal, resumable, and readable by verification without us.

A run writes, per tenant and piece of the chain, `tenant-T.FIRST-LAST.KIND.jsonl` for the kinds transfers, batches, seals and
checkpoints; FIRST and LAST are seal numbers. A piece appears whole or not at all: files are written aside, synced and renamed,
the seals last. The cursor says up to which seal; it is printed, and can be told again from the files.

Batches whose month was archived before have no transfers in the database any more. They are written without them, and
`tenant-T.archives.jsonl` says which months these are and where they went.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import IO, Any, Generic, TypeVar

from custody.db.session import ReadSession
from custody.kernel.ids import TenantId
from custody.seals import archive_store, records, service, store
from custody.seals.archives import month_of
from custody.seals.check import Checker, Message
from custody.seals.errors import HistoryAltered, UnreadableExport
from custody.seals.model import Archive, Batch, Checkpoint, Seal, SealedBatch, TransferRow, Verified

KINDS = ("transfers", "batches", "checkpoints", "seals")
"""In the order in which a piece's files appear: where the seals are, the others are."""
SEALS_PER_PIECE = 500
_PIECE = re.compile(r"tenant-(\d+)\.(\d{12})-(\d{12})\.seals\.jsonl")
_Loaded = TypeVar("_Loaded")


@dataclass(slots=True, kw_only=True)
class _Piece:
    """The files of one piece while they are written."""

    folder: Path
    files: dict[str, IO[str]] = field(default_factory=dict)

    def write(self, kind: str, line: Mapping[str, Any]) -> None:
        """Append one line to the file of its kind."""
        if not self.files:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.files = {kind: (self.folder / f".{kind}.part").open("w", encoding="ascii") for kind in KINDS}
        self.files[kind].write(json.dumps(line, sort_keys=True, separators=(",", ":")) + "\n")

    def finish(self, tenant: TenantId, first: int, last: int) -> None:
        """Give the files their names, on disk before they have them."""
        for kind, file in self.files.items():
            file.flush()
            os.fsync(file.fileno())
            file.close()
            name = f"tenant-{tenant}.{first:012d}-{last:012d}.{kind}.jsonl"
            Path(file.name).rename(self.folder / name)
        self.files = {}

    def drop(self) -> None:
        """Close what was not finished. The next run writes over it."""
        for file in self.files.values():
            file.close()


def exported_to(folder: Path, tenant: TenantId) -> int:
    """The cursor as the files tell it: the last seal of the tenant that was exported, 0 for none."""
    return max((last for _, last, _ in _pieces(folder).get(tenant, [])), default=0)


async def export(session: ReadSession, folder: Path, after: int) -> int:
    """Write everything above seal `after` up to the newest signed seal; returns the new cursor. `session` sees one snapshot."""
    newest = await store.load_last_checkpoint(session)
    archives = await archive_store.load_archives(session)
    months = frozenset(archive.month for archive in archives)
    piece, first, cursor = _Piece(folder=folder), after + 1, after
    try:
        async for seal, checkpoint in service.signed_seals(session, after):
            if newest is None or checkpoint is None or seal.sequence > newest.sequence:
                break
            async for batch, rows, sealed in service.batches_between(session, seal.from_xid, seal.to_xid):
                if not rows and month_of(batch.booked_at) not in months:
                    raise HistoryAltered(
                        tenant=batch.tenant,
                        table="ledger_batches",
                        row=batch.id,
                        differs="it has no transfers",
                    )
                _write_batch(piece, batch, rows, sealed)
            piece.write("checkpoints", records.dump_checkpoint(checkpoint))
            piece.write("seals", records.dump_seal(seal))
            cursor = seal.sequence
            if cursor - first + 1 == SEALS_PER_PIECE:
                piece.finish(session.tenant, first, cursor)
                first = cursor + 1
        if cursor >= first:
            piece.finish(session.tenant, first, cursor)
    finally:
        piece.drop()
    _write_archives(folder, archives)
    return cursor


def _write_archives(folder: Path, archives: Sequence[Archive]) -> None:
    if not archives or not folder.exists():
        return
    path = folder / f"tenant-{archives[0].tenant}.archives.jsonl"
    part = path.with_name(f".{path.name}.part")
    with part.open("w", encoding="ascii") as file:
        for archive in archives:
            file.write(
                json.dumps(records.dump_archive(archive), sort_keys=True, separators=(",", ":")) + "\n"
            )
        file.flush()
        os.fsync(file.fileno())
    part.rename(path)


def _write_batch(piece: _Piece, batch: Batch, rows: list[TransferRow], sealed: SealedBatch | None) -> None:
    if sealed is None:
        raise HistoryAltered(
            tenant=batch.tenant, table="ledger_sealed_batches", row=batch.id, differs="the row is missing"
        )
    piece.write("batches", records.dump_batch(batch, sealed))
    for row in rows:
        piece.write("transfers", records.dump_transfer(row))


def verify_export(
    folder: Path, message: Message, trusted: frozenset[bytes] | None
) -> dict[TenantId, Verified]:
    """Re-derive every tenant's history from an export's files alone.

    Raises HistoryAltered or CheckpointUntrusted at the first bad row, UnreadableExport when a file is not what it should be.
    """
    pieces = _pieces(folder)
    if not pieces:
        raise UnreadableExport("the directory holds no export", directory=str(folder))
    return {
        tenant: _verify_tenant(Checker(tenant, message, trusted), sorted(found), _archived(folder, tenant))
        for tenant, found in sorted(pieces.items())
    }


def read_transfers(folder: Path, tenant: TenantId) -> Iterator[tuple[Path, TransferRow]]:
    """Every transfer of a tenant in an export, in order, with the file of seals of its piece. Raises UnreadableExport."""
    for _, _, path in sorted(_pieces(folder).get(tenant, [])):
        file = path.with_name(path.name.removesuffix("seals.jsonl") + "transfers.jsonl")
        for row in _Reader(file, records.load_transfer).rest():
            yield path, row


def piece_files(seals: Path) -> list[Path]:
    """The files of the piece that this file of seals belongs to."""
    return [seals.with_name(seals.name.removesuffix("seals.jsonl") + f"{kind}.jsonl") for kind in KINDS]


def _archived(folder: Path, tenant: TenantId) -> frozenset[date]:
    """Months whose batches may be without transfers."""
    path = folder / f"tenant-{tenant}.archives.jsonl"
    if not path.exists():
        return frozenset()
    return frozenset(_Reader(path, records.load_archived_month).rest())


def _verify_tenant(
    checker: Checker, pieces: list[tuple[int, int, Path]], archived: frozenset[date]
) -> Verified:
    for _, _, path in pieces:
        stem = path.name.removesuffix("seals.jsonl")
        batches = _Reader(path.with_name(f"{stem}batches.jsonl"), records.load_batch)
        transfers = _Reader(path.with_name(f"{stem}transfers.jsonl"), records.load_transfer)
        checkpoints = _Reader(path.with_name(f"{stem}checkpoints.jsonl"), records.load_checkpoint)
        for seal in _Reader(path, records.load_seal).rest():
            _verify_seal(checker, seal, batches, transfers, checkpoints, archived)
        for table, left in (("batches", batches), ("transfers", transfers), ("checkpoints", checkpoints)):
            if left.next is not None:
                raise UnreadableExport(f"{table} are left over that no seal holds", file=left.place)
    return checker.result()


def _verify_seal(
    checker: Checker,
    seal: Seal,
    batches: _Reader[tuple[Batch, SealedBatch]],
    transfers: _Reader[TransferRow],
    checkpoints: _Reader[Checkpoint],
    archived: frozenset[date],
) -> None:
    checker.begin(seal)
    while batches.next is not None and batches.next[1].sequence <= seal.sequence:
        batch, sealed = batches.take()
        rows = []
        while transfers.next is not None and transfers.next["batch_id"] == batch.id:
            rows.append(transfers.take())
        gone = not rows and month_of(batch.booked_at) in archived
        checker.batch(batch, None if gone else rows, sealed)
    signed = checkpoints.next is not None and checkpoints.next.sequence == seal.sequence
    checker.end(checkpoints.take() if signed else None)


class _Reader(Generic[_Loaded]):
    """The lines of one file, the next of them in sight."""

    def __init__(self, path: Path, load: Callable[[Mapping[str, Any]], _Loaded]) -> None:
        self._lines = _lines(path)
        self._load = load
        self._path, self._number = path, 0
        self.next: _Loaded | None = self._advance()

    @property
    def place(self) -> str:
        """File and line, for messages."""
        return f"{self._path.name}:{self._number}"

    def take(self) -> _Loaded:
        """The line in sight; the one after comes into sight."""
        if self.next is None:
            raise UnreadableExport("the file ends too early", file=self.place)
        taken, self.next = self.next, self._advance()
        return taken

    def rest(self) -> Iterator[_Loaded]:
        """All lines that are left."""
        while self.next is not None:
            yield self.take()

    def _advance(self) -> _Loaded | None:
        text = next(self._lines, None)
        if text is None:
            return None
        self._number += 1
        try:
            return self._load(json.loads(text))
        except (ValueError, TypeError, AttributeError) as error:
            raise UnreadableExport("a line cannot be read", file=self.place) from error


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="ascii") as file:
            yield from file
    except FileNotFoundError as error:
        raise UnreadableExport("a file of the export is missing", file=path.name) from error


def _pieces(folder: Path) -> dict[TenantId, list[tuple[int, int, Path]]]:
    found: dict[TenantId, list[tuple[int, int, Path]]] = {}
    for path in folder.glob("*.seals.jsonl"):
        match = _PIECE.fullmatch(path.name)
        if match:
            tenant, first, last = (int(part) for part in match.groups())
            found.setdefault(TenantId(tenant), []).append((first, last, path))
    return found
