"""`custody ledger export`: entries as files for a warehouse, and the check of such files."""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from cli.platform import run_on_platform
from custody import bootstrap, settings
from custody.identity import service as identity
from custody.kernel.ids import TenantId
from custody.warehouse import check, execution, manifest
from custody.warehouse.errors import UnknownTenant, WarehouseFlawed
from custody.warehouse.execution import Exporter
from custody.warehouse.model import FileFormat, Progress


def add_verb(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command."""
    parser = verbs.add_parser(
        "export", help="write every entry to files for a warehouse; goes on where it ended"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--out", type=Path, metavar="DIR", help="begin or go on with the export in this directory"
    )
    what.add_argument("--check", type=Path, metavar="DIR", help="check the files in this directory instead")
    parser.add_argument(
        "--format",
        type=FileFormat,
        choices=list(FileFormat),
        help="of the files; jsonl, or what the directory was begun in",
    )
    parser.add_argument("--tenant", type=int, help="only the tenant of this number")
    parser.add_argument(
        "--limit-batches", type=_positive, metavar="N", help="stop after so many batches of each tenant"
    )
    parser.add_argument(
        "--rows-per-file",
        type=_positive,
        default=execution.ROWS_PER_FILE,
        metavar="N",
        help="end a file after so many entries, at the end of a batch (%(default)s)",
    )
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """0 when all went well, 1 when the check finds a fault, 2 when the work could not be done."""
    if given.check is not None:
        return run_on_platform(check_files(given.check), "ledger export")
    return run_on_platform(export(given), "ledger export")


async def export(given: argparse.Namespace) -> int:
    """Write what the directory does not hold yet."""
    app = bootstrap.build(settings.load())
    line = _Line()
    try:
        async with app.db.read(None) as session:
            tenants = [
                tenant for tenant in await identity.list_tenants(session) if given.tenant in (None, tenant)
            ]
        if given.tenant is not None and not tenants:
            raise UnknownTenant(tenant=given.tenant)
        with manifest.claimed(given.out):
            exporter = await execution.open_exporter(
                app.db, given.out, given.format, watch=line.progress, rows_per_file=given.rows_per_file
            )
            for tenant in tenants:
                written = await exporter.export(app.db, tenant, given.limit_batches)
                line.end()
                _print_written(exporter, tenant, written)
    finally:
        line.end()
        await app.aclose()
    return 0


def _print_written(exporter: Exporter, tenant: TenantId, written: int) -> None:
    held = exporter.manifest.tenants.get(tenant)
    files = () if held is None else held.files
    total = sum(file.rows for file in files)
    print(f"tenant {tenant}: {written} new entries; {total} entries in {len(files)} files")


async def check_files(folder: Path) -> int:
    """0 when digests, counts, sums and versions are right; 1 names the first file and row that is not."""
    line = _Line()
    try:
        found = await asyncio.to_thread(check.check, folder, line.checked)
    except WarehouseFlawed as error:
        line.end()
        print(f"custody ledger export: {error}", file=sys.stderr)
        return 1
    finally:
        line.end()
    for tenant, one in found.items():
        print(
            f"tenant {tenant}: {one.entries} entries in {one.files} files are as written; {one.transfers} transfers sum to zero,"
            f" {one.accounts} accounts have no gap"
        )
    return 0


class _Line:
    """A line on the terminal that tells how far the work is; nothing where nobody watches."""

    def __init__(self) -> None:
        self._shown = False

    def progress(self, at: Progress) -> None:
        """How far a run is."""
        percent = 100 * at.entries // max(at.expected, 1)
        self._show(
            f"tenant {at.tenant}: {at.entries} of {at.expected} entries ({percent} %), {at.files} files"
        )

    def checked(self, tenant: TenantId, entries: int) -> None:
        """How far a check is."""
        self._show(f"tenant {tenant}: {entries} entries checked")

    def end(self) -> None:
        """Leave the line."""
        if self._shown:
            print(file=sys.stderr)
        self._shown = False

    def _show(self, text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
            self._shown = True


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return number
