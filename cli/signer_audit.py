"""`custody audit signer`: export the signer's journal, and decide all of it again, offline and without its HSM.

Export and verification only read files: whoever may read the journal may run them, beside the running signer or on an
auditor's machine that has this package and nothing else of ours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rich.table import Table

from cli.figures import figures_console
from cli.platform import run_on_platform
from custody import settings
from custody.signing.client import SignerClient
from signer.audit.entries import read_entries, write_export
from signer.audit.inspection import Report, inspect
from signer.audit.rows import Row
from signer.refusal import EvidenceFault

WIDTH_MIN = 280
"""Columns of a table that holds two hashes in a row."""


def add_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command under `custody audit`."""
    parser = verbs.add_parser("signer", help="export and verify every decision of the signer")
    steps = parser.add_subparsers(dest="step", metavar="STEP", required=True)
    out = steps.add_parser("export", help="copy the journal as JSONL; works while the signer runs")
    out.add_argument("--journal", type=Path, required=True, metavar="DIR", help="the signer's journal_dir")
    out.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file")
    out.set_defaults(run=lambda given: _guarded(lambda: export(given.journal, given.out)))
    verify = steps.add_parser("verify", help="derive the chain and decide everything again; no HSM is asked")
    held = verify.add_mutually_exclusive_group(required=True)
    held.add_argument("file", nargs="?", type=Path, metavar="FILE", help="an export, or a journal.log")
    held.add_argument("--journal", type=Path, metavar="DIR", help="the signer's journal_dir")
    verify.add_argument(
        "--anchor",
        action="append",
        default=[],
        metavar='"COUNT HEAD POLICY_HASH"',
        help="what the journal must go through, as `custody audit signer anchor` prints it; may be repeated",
    )
    verify.add_argument("--list", action="store_true", help="print every decision")
    verify.set_defaults(
        run=lambda given: _guarded(
            lambda: check(given.file or given.journal, given.anchor, listed=given.list)
        )
    )
    anchor = steps.add_parser("anchor", help="print the anchor in the token, as the running signer reads it")
    anchor.add_argument("--socket", metavar="PATH", help="the signer's socket; otherwise as configured")
    anchor.set_defaults(run=lambda given: run_on_platform(show_anchor(given.socket), "audit"))


def _guarded(step: Callable[[], int]) -> int:
    try:
        return step()
    except EvidenceFault as fault:
        print(f"custody audit signer: {fault}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"custody audit signer: {error}", file=sys.stderr)
        return 2


def export(journal: Path, out: Path) -> int:
    """Write the journal to a new file; prints how far it goes. Raises OSError, or EvidenceFault when an entry cannot be read."""
    with out.open("xb") as stream:
        last = write_export(journal, stream)
    print("the journal is empty" if last is None else f"{last.n} entries exported, head {last.head.hex()}")
    return 0


def check(path: Path, anchors: list[str], *, listed: bool) -> int:
    """Print what was verified; raises EvidenceFault with the first entry that does not stand."""
    report = inspect(read_entries(path), anchors, keep=listed)
    if listed:
        _print_rows(report.rows)
    _print_report(report, anchored=bool(anchors))
    return 0


async def show_anchor(socket: str | None) -> int:
    """Print `COUNT HEAD POLICY_HASH`."""
    configured = socket or str(settings.load().signer.socket)
    health = await SignerClient(configured).health()
    print(health.journal_count, health.journal_head, health.policy_hash)
    return 0


def _print_rows(rows: list[Row]) -> None:
    table = Table("entry", "time", "decision", "intent, key or hash", "rule", "people", "transaction")
    for row in rows:
        at = datetime.fromtimestamp(row.at, UTC).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(str(row.entry), at, row.what, row.subject, row.rule, ", ".join(row.people), row.tx_hash)
    figures_console(WIDTH_MIN).print(table)


def _print_report(report: Report, *, anchored: bool) -> None:
    print(
        f"{report.entries} entries, {report.decisions} decisions and {report.signatures} signed transactions verify"
    )
    print(f"anchor: {report.entries} {report.head.hex()} {report.policy_hash.hex()}")
    if not anchored:
        print(
            "no anchor was given: compare this line with `custody audit signer anchor`, or give that as --anchor"
        )
