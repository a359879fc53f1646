"""Write an export: a page read in a short transaction, its entries to the file, the file into the manifest, on to the next.

No transaction is open while a file is written, so that a long export holds back neither cleaning up nor sealing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from custody.db.session import Database
from custody.kernel.ids import TenantId
from custody.warehouse import files, manifest, service
from custody.warehouse.errors import WarehouseFormatDiffers, WarehouseSourceDiffers
from custody.warehouse.model import (
    BatchRef,
    ExportedFile,
    FileFormat,
    Manifest,
    Position,
    Progress,
    TenantExport,
    Wave,
)
from custody.warehouse.rows import legs

ROWS_PER_FILE = 500_000
"""After so many entries a file ends, at the end of a batch."""
TRANSFERS_PER_PAGE = 5_000
"""How many transfers are read at once, so that memory does not grow with history. Only a single batch can exceed it."""
Watch = Callable[[Progress], None]


@dataclass(slots=True, kw_only=True)
class _Begun:
    """A file while it is written."""

    writer: files.Writer
    rows: int = 0
    batches: int = 0
    first: int = 0
    last: BatchRef | None = None


class Exporter:
    """Goes on with the export in one directory, which nobody else writes to meanwhile (`manifest.claimed`)."""

    def __init__(
        self, folder: Path, held: Manifest, *, rows_per_file: int, transfers_per_page: int, watch: Watch
    ) -> None:
        """`held` is what the directory holds; `manifest` follows it from then on."""
        self._folder, self.manifest = folder, held
        self._rows_per_file, self._transfers_per_page, self._watch = rows_per_file, transfers_per_page, watch
        self._entries = self._files = self._expected = 0

    async def export(self, db: Database, tenant: TenantId, batches_max: int | None) -> int:
        """Write all batches that the database shows now and that no file holds, or so many of them; how many entries."""
        self._entries = self._files = 0
        while True:
            done = self._done(tenant)
            async with db.read(tenant) as session:
                wave = await service.next_wave(session, done)
            self._expected = self._entries + 2 * wave.transfers
            taken = await self._export_wave(db, tenant, wave, batches_max)
            batches_max = None if batches_max is None else batches_max - taken
            # A wave that the run before left unfinished is followed by the one of now.
            if batches_max == 0 or done.position.upto is None:
                return self._entries

    def _done(self, tenant: TenantId) -> TenantExport:
        return self.manifest.tenants.get(tenant, TenantExport())

    async def _export_wave(self, db: Database, tenant: TenantId, wave: Wave, batches_max: int | None) -> int:
        """Batches taken. The wave is left under way when it holds more than were asked for."""
        left = wave.batches if batches_max is None else min(batches_max, wave.batches)
        ends = left == wave.batches
        taken, after, begun = 0, wave.after, None
        try:
            while taken < left:
                fits = (self._rows_per_file - (begun.rows if begun else 0) + 1) // 2
                async with db.read(tenant) as session:
                    page = await service.read_page(
                        session,
                        wave,
                        after=after,
                        batches_max=left - taken,
                        transfers_max=min(fits, self._transfers_per_page),
                    )
                begun = begun or self._begin(page.batches[0])
                begun.writer.write([entry for row in page.rows for entry in legs(row)])
                begun.rows += 2 * len(page.rows)
                begun.batches += len(page.batches)
                begun.last = page.batches[-1]
                taken, after = taken + len(page.batches), page.batches[-1].id
                self._entries += 2 * len(page.rows)
                if begun.rows >= self._rows_per_file or taken == left:
                    over = ends and taken == left
                    self._finish(tenant, begun, _position(wave, after, over=over))
                    begun = None
                self._watch(self._progress(tenant))
        finally:
            if begun is not None:
                begun.writer.drop()
        return taken

    def _begin(self, first: BatchRef) -> _Begun:
        writer = files.open_writer(self._folder / manifest.PART, self.manifest.format)
        return _Begun(writer=writer, first=first.id)

    def _finish(self, tenant: TenantId, begun: _Begun, position: Position) -> None:
        if begun.last is None:
            raise ValueError("a file without a batch")
        begun.writer.finish()
        done = self._done(tenant)
        size, sha256 = files.digest(self._folder / manifest.PART)
        file = ExportedFile(
            name=f"tenant-{tenant}/entries-{len(done.files) + 1:06d}.{self.manifest.format.value}",
            rows=begun.rows,
            batches=begun.batches,
            first_batch=begun.first,
            last_batch=begun.last.id,
            last_root=begun.last.root.hex(),
            size=size,
            sha256=sha256,
        )
        self._put(tenant, TenantExport(position=position, files=(*done.files, file)))
        manifest.commit(self._folder, self.manifest, file)
        self._files += 1

    def _put(self, tenant: TenantId, one: TenantExport) -> None:
        self.manifest = replace(self.manifest, tenants={**self.manifest.tenants, tenant: one})

    def _progress(self, tenant: TenantId) -> Progress:
        return Progress(tenant=tenant, entries=self._entries, expected=self._expected, files=self._files)


def _position(wave: Wave, after: int, *, over: bool) -> Position:
    if over:
        return Position(seen=wave.upto)
    return Position(seen=wave.seen, upto=wave.upto, after=after)


async def open_exporter(
    db: Database,
    folder: Path,
    form: FileFormat | None,
    *,
    watch: Watch,
    rows_per_file: int = ROWS_PER_FILE,
    transfers_per_page: int = TRANSFERS_PER_PAGE,
) -> Exporter:
    """Go on with what the directory holds, or begin one, as JSON lines unless another format is asked for.

    The directory is claimed by the caller. Raises WarehouseFormatDiffers, WarehouseSourceDiffers, WarehouseUnreadable,
    ParquetMissing.
    """
    async with db.read(None) as session:
        source = await service.source(session)
    held = manifest.load_manifest(folder)
    if held is None:
        held = Manifest(format=form or FileFormat.JSONL, source=source)
    if form is not None and form is not held.format:
        raise WarehouseFormatDiffers(holds=held.format.value, asked=form.value)
    if held.source != source:
        raise WarehouseSourceDiffers(holds=held.source, asked=source)
    files.demand_format(held.format)
    return Exporter(
        folder, held, rows_per_file=rows_per_file, transfers_per_page=transfers_per_page, watch=watch
    )
