"""`custody cases`: deposits that no wallet could be credited with. For operators on a machine that holds the configuration.

What is decided here is decided by the same services as over REST; the audit log names the operating system's user.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from rich.table import Table
from rich.text import Text

from cli.figures import figures_console
from cli.one_tenant import run_for_tenant
from cli.platform import run_on_platform
from custody.assets import service as assets
from custody.bootstrap import App
from custody.chains.stellar.memo import show_words
from custody.db.session import ReadSession
from custody.deposits import cases
from custody.deposits import service as deposits
from custody.deposits.model import DepositCase, Reason
from custody.deposits.transitions import DEPOSIT_CASES
from custody.identity.model import Principal
from custody.kernel.assetid import AssetId
from custody.kernel.ids import (
    CaseId,
    PrincipalId,
    TenantId,
    WalletId,
    WithdrawalId,
    derived_uuid,
    new_uuid,
    parse_id,
    show_id,
)
from custody.kernel.money import format_units
from custody.returns import service as returns
from custody.returns.execution import look_up
from custody.returns.service import RequestReturn
from custody.withdrawals.model import NO_MEMO, Memo

Step = Callable[[App, Principal], Awaitable[int]]

LIST_MAX = 1000
"""Most cases that one list shows; the API pages through more."""
_COLUMNS = ("case", "state", "reason", "asset", "amount", "memo", "opened_at")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command."""
    parser = subparsers.add_parser("cases", help="deposits that could not be credited: list, assign, return")
    verbs = parser.add_subparsers(dest="verb", required=True)
    listing = _verb(verbs, "list", "show the queue", show_queue)
    listing.add_argument("--state", choices=[*DEPOSIT_CASES.states, "any"], default="open")
    listing.add_argument("--reason", choices=[each.value for each in Reason])
    listing.add_argument("--json", action="store_true", help="print JSON lines instead of a table")
    _verb(verbs, "show", "show one case as JSON", show_one).add_argument("case")
    assign = _verb(verbs, "assign", "credit a case's money to a wallet", assign_one)
    assign.add_argument("case")
    assign.add_argument("--wallet", required=True)
    back = _verb(verbs, "return", "ask for a case's money to go back to its sender", return_one)
    back.add_argument("case")
    back.add_argument("--to", required=True, help="the sender's account, or a muxed address of it")
    memo = back.add_mutually_exclusive_group(required=True)
    memo.add_argument("--memo", metavar="TYPE:VALUE", help="id:7001, text:ref or hash:<64 hex digits>")
    memo.add_argument("--no-memo", action="store_true", help="the sender needs none")
    _verb(verbs, "dismiss", "want nothing done about an unlisted asset", dismiss_one).add_argument("case")
    for verb in ("assign", "return", "dismiss"):
        verbs.choices[verb].add_argument("--note", default="", help="why, for the audit log")
    _verb(verbs, "check", "compare suspense with its cases; 1 when they differ", check)


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    help_text: str,
    step: Callable[[argparse.Namespace], Step],
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=help_text)
    parser.add_argument("--tenant", type=int, required=True, help="the tenant's number")
    parser.set_defaults(run=lambda chosen: run_on_platform(_run(chosen.tenant, step(chosen)), "cases"))
    return parser


def _run(tenant: int, step: Step) -> Coroutine[Any, Any, int]:
    """Carry a step out for one tenant; 2 when there is none of that number."""
    return run_for_tenant(tenant, lambda app, known: step(app, operator_of(known)))


def operator_subject() -> str:
    """Who the audit log names: the user of this machine."""
    return f"operator:uid-{os.getuid()}"


def operator_of(tenant: TenantId) -> Principal:
    """The user of this machine, acting for a tenant."""
    subject = operator_subject()
    return Principal(
        tenant=tenant,
        id=PrincipalId(derived_uuid("principal", subject)),
        subject=subject,
        scopes=frozenset({"operate"}),
    )


def show_queue(chosen: argparse.Namespace) -> Step:
    """Print the cases of a state, oldest first."""

    async def step(app: App, operator: Principal) -> int:
        async with app.db.read(operator.tenant) as session:
            found = await cases.list_cases(
                session,
                states=() if chosen.state == "any" else (chosen.state,),
                reasons=() if chosen.reason is None else (Reason(chosen.reason),),
                limit=LIST_MAX,
            )
            shown = [await _words(session, case) for case in found]
        if chosen.json:
            for row in shown:
                print(json.dumps(row))
            return 0
        table = Table(title="Cases", title_justify="left")
        for heading in _COLUMNS:
            table.add_column(heading, overflow="fold", justify="right" if heading == "amount" else "left")
        for row in shown:
            row["memo"] = row["tag"] or row["memo"] or ""
            table.add_row(*(_plain(str(row[name])) for name in _COLUMNS))
        figures_console().print(table)
        return 0

    return step


def show_one(chosen: argparse.Namespace) -> Step:
    """Print one case."""

    async def step(app: App, operator: Principal) -> int:
        async with app.db.read(operator.tenant) as session:
            print(json.dumps(await _words(session, await cases.get_case(session, _id(chosen))), indent=2))
        return 0

    return step


def assign_one(chosen: argparse.Namespace) -> Step:
    """Assign a case; the same wallet again changes nothing."""

    async def step(app: App, operator: Principal) -> int:
        wallet = WalletId(parse_id("wal", chosen.wallet))
        async with app.db.unit_of_work(operator.tenant) as uow:
            done = await cases.assign(uow, operator.subject, _id(chosen), wallet, chosen.note)
            print(json.dumps(await _words(uow, done), indent=2))
        return 0

    return step


def return_one(chosen: argparse.Namespace) -> Step:
    """Ask for a return; approvers decide about the withdrawal that is printed."""

    async def step(app: App, operator: Principal) -> int:
        asked = RequestReturn(
            id=WithdrawalId(new_uuid()),
            case_id=_id(chosen),
            destination=chosen.to,
            memo=parse_memo(chosen.memo),
            note=chosen.note,
        )
        receiver = await look_up(app.db, app.clients, operator.tenant, asked.case_id, asked.destination)
        async with app.db.unit_of_work(operator.tenant) as uow:
            case, _ = await returns.request(
                uow, operator, asked, settings=app.settings, clock=app.clock, receiver=receiver
            )
            print(json.dumps(await _words(uow, case), indent=2))
        return 0

    return step


def dismiss_one(chosen: argparse.Namespace) -> Step:
    """Dismiss a case; again changes nothing."""

    async def step(app: App, operator: Principal) -> int:
        async with app.db.unit_of_work(operator.tenant) as uow:
            done = await cases.dismiss(uow, operator.subject, _id(chosen), chosen.note)
            print(json.dumps(await _words(uow, done), indent=2))
        return 0

    return step


def check(_: argparse.Namespace) -> Step:
    """Print each asset of which suspense holds something else than its cases say."""

    async def step(app: App, operator: Principal) -> int:
        async with app.db.read(operator.tenant) as session:
            found = await cases.differences(session)
            waiting = await cases.count_unsettled(session)
        for (state, reason), number in sorted(waiting.items()):
            print(f"{state} {reason}: {number}")
        for asset, difference in found.items():
            print(f"BREAK {asset.text}: suspense less its cases is {difference} atomic units")
        print("suspense and its cases differ" if found else "suspense is what its cases say")
        return 1 if found else 0

    return step


def _id(chosen: argparse.Namespace) -> CaseId:
    return CaseId(parse_id("cas", chosen.case))


def parse_memo(text: str | None) -> Memo:
    """A memo as it is typed: TYPE:VALUE. The withdrawal checks the value."""
    if text is None:
        return NO_MEMO
    kind, _, value = text.partition(":")
    for known in ("id", "text", "hash"):
        if kind == known:
            return Memo(type=known, value=value)
    raise SystemExit("a memo is id:NUMBER, text:WORDS or hash:HEX")


def _plain(text: str) -> Text:
    """A cell as it is: senders choose memos, and neither markup nor a control character of theirs reaches the terminal."""
    return Text("".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in text))


async def _words(session: ReadSession, case: DepositCase) -> dict[str, object]:
    """A case in JSON values."""
    (deposit,) = await deposits.find_deposits(session, [case.deposit_id])
    seen = deposit.transfer
    return {
        "case": show_id("cas", case.id),
        "deposit": show_id("dep", case.deposit_id),
        "state": case.state,
        "reason": case.reason.value,
        "asset": case.asset.text,
        "amount": await _amount(session, case.asset, case.amount),
        "atomic": str(case.amount),
        "tx_hash": seen.tx_hash,
        "source": seen.source,
        "tag": None if seen.tag is None else str(seen.tag),
        "memo_type": seen.memo.partition(":")[0] or None,
        "memo": show_words(seen.memo) if seen.memo else None,
        "named_wallet": None if case.named_wallet_id is None else show_id("wal", case.named_wallet_id),
        "wallet": None if case.wallet_id is None else show_id("wal", case.wallet_id),
        "withdrawal": None if case.withdrawal_id is None else show_id("wdr", case.withdrawal_id),
        "decided_by": case.decided_by or None,
        "note": case.note or None,
        "opened_at": case.opened_at.isoformat(),
    }


async def _amount(session: ReadSession, asset_id: AssetId, atomic: int) -> str:
    """With decimals, or bare atomic units while the asset is not listed."""
    asset = await assets.find(session, asset_id)
    return str(atomic) if asset is None else format_units(atomic, asset.decimals)
