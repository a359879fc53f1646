"""`custody ledger archive`: take old months out of the database, and check the files that hold them."""

from __future__ import annotations

import argparse
import asyncio
import sys
from datetime import date, datetime
from pathlib import Path

from cli.platform import run_on_platform
from custody import bootstrap, settings
from custody.bootstrap import App
from custody.db.session import Database
from custody.identity import service as identity
from custody.kernel.ids import TenantId
from custody.seals import archiving, execution, export
from custody.seals.errors import ArchiveDiffers, CheckpointUntrusted, HistoryAltered
from custody.signing.checkpoints import message_of


def add_verb(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command."""
    parser = verbs.add_parser(
        "archive", help="take months that are over out of the database, into verifiable files"
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--out", type=Path, metavar="DIR", help="where the files go; the same directory every time"
    )
    what.add_argument(
        "--check", type=Path, metavar="DIR", help="check the files against what was recorded instead"
    )
    parser.add_argument("--before", type=_month, metavar="YYYY-MM", help="archive the months before this one")
    parser.add_argument(
        "--admin-dsn-file",
        type=Path,
        metavar="FILE",
        help="file with the administrator's database address, as for custody.db.provision; detaching needs it",
    )
    parser.add_argument(
        "--key",
        action="append",
        type=bytes.fromhex,
        metavar="HEX",
        help="a checkpoint key to trust; else the signer is asked",
    )
    parser.set_defaults(run=lambda given: run(parser, given))


def run(parser: argparse.ArgumentParser, given: argparse.Namespace) -> int:
    """0 when all went well, 1 when history or files are not what they should be, 2 when the work could not be done."""
    if given.out is not None and (given.before is None or given.admin_dsn_file is None):
        parser.error("--out needs --before and --admin-dsn-file")
    return run_on_platform(_archive_or_check(given), "ledger archive")


async def _archive_or_check(given: argparse.Namespace) -> int:
    app = bootstrap.build(settings.load())
    try:
        async with app.db.read(None) as session:
            tenants = await identity.list_tenants(session)
        trusted = await _trusted(app, tenants, given.key)
        if given.check is not None:
            return await check(app, tenants, given.check, trusted)
        return await archive(app, given.out, given.before, given.admin_dsn_file, trusted)
    except (HistoryAltered, CheckpointUntrusted, ArchiveDiffers) as error:
        print(f"custody ledger archive: {error}", file=sys.stderr)
        return 1
    finally:
        await app.aclose()


async def _trusted(app: App, tenants: list[TenantId], keys: list[bytes] | None) -> frozenset[bytes]:
    if keys is not None:
        return frozenset(keys)
    found = [await execution.trusted_keys(app.db, app.signer, tenant) for tenant in tenants]
    return frozenset().union(*found)


async def archive(app: App, folder: Path, before: date, dsn: Path, trusted: frozenset[bytes]) -> int:
    """Export, verify, record and detach every month before one."""
    admin = Database(await asyncio.to_thread(_read_dsn, dsn), pool_size=2)
    try:
        means = archiving.Means(
            app=app.db, admin=admin, folder=folder, message=message_of, trusted=trusted, told=print
        )
        recorded = await archiving.archive_before(means, before, app.clock.now())
    finally:
        await admin.close()
    if not recorded:
        print(f"nothing that was booked before {before:%Y-%m} is left to archive")
    return 0


async def check(app: App, tenants: list[TenantId], folder: Path, trusted: frozenset[bytes]) -> int:
    """Verify the files, and that they make what the database recorded of every archived month."""
    await asyncio.to_thread(export.verify_export, folder, message_of, trusted)
    for tenant in tenants:
        held, elsewhere = await archiving.check_archives(app.db, tenant, folder)
        for one in held:
            print(
                f"tenant {tenant}: {one.month:%Y-%m}: {one.transfers} transfers verify and make the recorded openings"
            )
        for one in elsewhere:
            print(f"tenant {tenant}: {one.month:%Y-%m}: not in this directory, archived to {one.directory}")
    return 0


def _month(text: str) -> date:
    try:
        return datetime.strptime(text, "%Y-%m").date()  # noqa: DTZ007 (a month has no zone; the ledger's are UTC)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a month such as 2026-07") from error


def _read_dsn(path: Path) -> str:
    return path.read_text().strip()
