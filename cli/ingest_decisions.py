"""`custody ingest halt`, `resume`, `notices`, `seen`, `breaks`, `settle-break`: what a person must look at, and decides.

For operators on a machine that holds the configuration; the audit log names the operating system's user.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Awaitable, Callable

from rich.table import Table

from cli.cases import operator_subject
from cli.figures import figures_console
from cli.platform import FAILED, run_on_platform
from custody import settings
from custody.db.session import Database
from custody.deposits.cases import checked_note
from custody.holdings import halts
from custody.holdings import service as holdings
from custody.holdings.model import ChainHalt
from custody.identity import service as identity
from custody.kernel.assetid import ChainId, parse_chain_id
from custody.kernel.ids import TenantId, parse_id, show_id
from ingestion import notices
from ingestion.finality import terms_of
from ingestion.notices import KeptNotice
from ingestion.stakes import Stakes, load_stakes
from ingestion.survey.decide import settle_break

Step = Callable[[Database, ChainId, argparse.Namespace], Awaitable[int]]

_COLUMNS = ("notice", "code", "height", "account", "asset", "reported", "found", "seen by")


def add_verbs(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the verbs under `custody ingest`."""
    halt = _verb(
        verbs, "halt", "what a chain that was reorganised below finality has left in the books", show_halt
    )
    halt.add_argument("--json", action="store_true", help="print JSON")
    resume = _verb(verbs, "resume", "decide about a chain that is halted", decide)
    way = resume.add_mutually_exclusive_group(required=True)
    way.add_argument("--follow", action="store_true", help="the node's branch is the chain: take ours back")
    way.add_argument("--keep", action="store_true", help="ours is the chain: go on from where it stands")
    resume.add_argument(
        "--mark-spent",
        action="store_true",
        help="with --follow: let credits stand whose money is spent, marked as lost",
    )
    resume.add_argument("--note", required=True, help="why, for the audit log")
    listing = _verb(verbs, "notices", "what a person should see of blocks, newest first", show_notices)
    listing.add_argument("--code", action="append", default=[], help="only this one; may be repeated")
    listing.add_argument("--all", action="store_true", help="also what somebody has seen")
    listing.add_argument("--limit", type=int, default=100)
    listing.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    seen = _verb(verbs, "seen", "say that you have seen a notice: its alarm ends", mark_seen)
    seen.add_argument("notice", help="ntc_…")
    seen.add_argument("--note", default="", help="what you found")

    listed = _verb(verbs, "breaks", "open breaks between books and chain", show_breaks)
    listed.add_argument("--tenant", type=int, required=True, help="the tenant's number")
    booking = _verb(verbs, "settle-break", "book what the chain has more than the books", settle)
    booking.add_argument("break_id", metavar="BREAK", help="brk_…, an open break")
    booking.add_argument("--tenant", type=int, required=True, help="the tenant's number")
    booking.add_argument(
        "--as",
        dest="way",
        choices=("arrival", "opening"),
        required=True,
        help="a payment, credited by the rules for any other; or there before all that was read",
    )
    booking.add_argument("--note", required=True, help="why, for the audit log")


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, help_text: str, step: Step
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=help_text)
    parser.add_argument("--chain", required=True, help="CAIP-2 id of a configured chain")
    parser.set_defaults(run=lambda chosen: run_on_platform(_run(chosen, step), f"ingest {name}"))
    return parser


async def _run(chosen: argparse.Namespace, step: Step) -> int:
    configured = settings.load()
    try:
        chain = parse_chain_id(configured.chain(chosen.chain).id)
    except LookupError as error:
        print(error, file=sys.stderr)
        return FAILED
    db = Database(configured.database.url.get_secret_value(), pool_size=2)
    try:
        return await step(db, chain, chosen)
    finally:
        await db.close()


async def show_halt(db: Database, chain: ChainId, chosen: argparse.Namespace) -> int:
    """0 when the chain runs; 1 when it is halted, with everything that is booked of the branch that it has left."""
    async with db.read(None) as session:
        halt = await halts.find_open(session, chain)
        stakes = [] if halt is None else await load_stakes(session, halt)
        past = await halts.list_halts(session, chain, limit=20)
    if chosen.json:
        print(
            json.dumps(
                {"halts": [_halt_json(each) for each in past], "at_stake": _stakes_json(stakes)}, indent=2
            )
        )
    else:
        _print_halt(chain, halt, stakes)
    return 0 if halt is None else 1


async def decide(db: Database, chain: ChainId, chosen: argparse.Namespace) -> int:
    """0 when the decision is written: the worker carries it out. 2 when the chain is not halted or was decided about."""
    if chosen.mark_spent and not chosen.follow:
        print("--mark-spent goes with --follow", file=sys.stderr)
        return FAILED
    async with db.unit_of_work(None) as uow:
        halt = await halts.find_open(uow, chain)
        if halt is None:
            print(f"{chain} is not halted", file=sys.stderr)
            return FAILED
        decided = await halts.decide(
            uow,
            await identity.list_tenants(uow),
            operator_subject(),
            halt.id,
            follow=chosen.follow,
            marks_spent=chosen.mark_spent,
            note=checked_note(chosen.note),
        )
    print(f"{show_id('hlt', decided.id)} is {decided.state}")
    return 0


async def show_notices(db: Database, chain: ChainId, chosen: argparse.Namespace) -> int:
    """Always 0."""
    async with db.read(None) as session:
        found = await notices.list_notices(
            session, chain, codes=chosen.code, unseen=not chosen.all, limit=max(1, chosen.limit)
        )
    if chosen.json:
        for each in found:
            print(json.dumps(_notice_json(each)))
        return 0
    table = Table(title="Notices", title_justify="left")
    for heading in _COLUMNS:
        table.add_column(heading, overflow="fold")
    for each in found:
        said = each.notice
        height = f"{each.height}{' (replaced)' if each.replaced else ''}"
        row = (
            show_id("ntc", each.id),
            said.code,
            height,
            said.account,
            said.asset,
            said.reported,
            said.found,
        )
        table.add_row(*row, each.seen_by)
    figures_console().print(table)
    return 0


async def mark_seen(db: Database, _chain: ChainId, chosen: argparse.Namespace) -> int:
    """0 when it is written, or was before. 2 when there is no such notice."""
    async with db.unit_of_work(None) as uow:
        await notices.see(uow, parse_id("ntc", chosen.notice), operator_subject(), checked_note(chosen.note))
    return 0


async def show_breaks(db: Database, chain: ChainId, chosen: argparse.Namespace) -> int:
    """0 without open breaks, 1 with some, as JSON lines. 2 when the tenant does not exist."""
    if not await _is_tenant(db, chosen.tenant):
        return FAILED
    async with db.read(TenantId(chosen.tenant)) as session:
        found = await holdings.open_breaks(session, chain)
    for each in found:
        opened = each.opened
        line = {
            "id": show_id("brk", each.id),
            "vault_id": show_id("vlt", opened.vault_id),
            "asset": opened.asset.text,
            "height": opened.height,
            "books": str(opened.books),
            "opening": str(opened.opening),
            "on_chain": str(opened.chain),
            "difference": str(opened.difference),
            "first_height": each.first_height,
            "first_tx": each.first_tx,
            "first_movement": None if each.first is None else each.first.movement,
            "first_on_chain": None if each.first is None else str(each.first.chain),
            "first_in_books": None if each.first is None else str(each.first.books),
            "difference_now": str(each.difference),
        }
        print(json.dumps(line))
    return 1 if found else 0


async def _is_tenant(db: Database, number: int) -> bool:
    async with db.read(None) as session:
        known = number in await identity.list_tenants(session)
    if not known:
        print(f"there is no tenant {number}", file=sys.stderr)
    return known


async def settle(db: Database, chain: ChainId, chosen: argparse.Namespace) -> int:
    """0 when it is booked, 2 when the break is not open, the chain has not more, or the tenant does not exist."""
    if not await _is_tenant(db, chosen.tenant):
        return FAILED
    amount = await settle_break(
        db,
        chain,
        TenantId(chosen.tenant),
        operator_subject(),
        parse_id("brk", chosen.break_id),
        chosen.way,
        checked_note(chosen.note),
        terms_of(settings.load().chain(chain)).untouched(),
    )
    print(f"{amount} booked as {chosen.way}")
    return 0


def _print_halt(chain: ChainId, halt: ChainHalt | None, stakes: list[Stakes]) -> None:
    if halt is None:
        print(f"{chain} is not halted")
        return
    fork = halt.fork
    print(f"{show_id('hlt', halt.id)} is {halt.state} since {halt.changed_at:%Y-%m-%d %H:%M:%S}")
    print(f"shared up to block {fork.fork_height} ({fork.fork_hash}); final was {fork.final_height}")
    print(
        f"ours goes on to {fork.our_height} ({fork.our_hash}), the node's to {fork.seen_height} ({fork.seen_hash})"
    )
    if halt.trouble:
        print(f"trouble: {halt.trouble}")
    for each in stakes:
        for deposit in each.deposits:
            seen = deposit.transfer
            lost = ", lost" if deposit.lost else ""
            print(
                f"tenant {each.tenant}: {show_id('dep', deposit.id)} {deposit.state}{lost} {seen.amount} {seen.asset.text}"
                f" in block {seen.height} by {seen.tx_hash}"
            )
        for attempt in each.attempts:
            print(
                f"tenant {each.tenant}: {show_id('wdr', attempt.withdrawal_id)} {attempt.state}"
                f" in block {attempt.height} by {attempt.tx_hash}"
            )


def _halt_json(halt: ChainHalt) -> dict[str, object]:
    fork = halt.fork
    return {
        "id": show_id("hlt", halt.id),
        "state": halt.state,
        "fork_height": fork.fork_height,
        "final_height": fork.final_height,
        "our_height": fork.our_height,
        "seen_height": fork.seen_height,
        "decided_by": halt.decided_by,
        "note": halt.note,
        "marks_spent": halt.marks_spent,
        "trouble": halt.trouble,
        "opened_at": halt.opened_at.isoformat(),
        "changed_at": halt.changed_at.isoformat(),
    }


def _stakes_json(stakes: list[Stakes]) -> list[dict[str, object]]:
    return [
        {
            "tenant": int(each.tenant),
            "deposits": [
                {
                    "id": show_id("dep", deposit.id),
                    "state": deposit.state,
                    "lost": deposit.lost,
                    "asset": deposit.transfer.asset.text,
                    "atomic": str(deposit.transfer.amount),
                    "height": deposit.transfer.height,
                    "tx_hash": deposit.transfer.tx_hash,
                }
                for deposit in each.deposits
            ],
            "withdrawals": [
                {
                    "id": show_id("wdr", attempt.withdrawal_id),
                    "state": attempt.state,
                    "height": attempt.height,
                    "tx_hash": attempt.tx_hash,
                }
                for attempt in each.attempts
            ],
        }
        for each in stakes
    ]


def _notice_json(each: KeptNotice) -> dict[str, object]:
    said = each.notice
    return {
        "id": show_id("ntc", each.id),
        "chain": each.chain,
        "height": each.height,
        "block_hash": each.block_hash,
        "replaced": each.replaced,
        "code": said.code,
        "account": said.account,
        "asset": said.asset,
        "reported": said.reported,
        "found": said.found,
        "noticed_at": each.noticed_at.isoformat(),
        "seen_by": each.seen_by,
        "note": each.note,
    }
