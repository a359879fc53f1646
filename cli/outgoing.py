"""`custody address-book`, `custody refused`, `custody cool-down`: who may be paid, who never, and how long it waits.

For operators on a machine that holds the configuration. The second person who confirms an entry is another user of this machine,
or somebody over REST; the audit log names the operating system's user.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Awaitable, Callable

from cli.cases import operator_subject, parse_memo
from cli.one_tenant import run_for_tenant
from cli.platform import run_on_platform
from custody.address_book import service as address_book
from custody.address_book.model import Entry, Receiver, Restriction, Scope
from custody.bootstrap import App
from custody.kernel.assetid import parse_asset_id, parse_chain_id
from custody.kernel.ids import TenantId, new_uuid, parse_id, show_id
from custody.kernel.money import parse_atomic
from custody.screening import service as screening
from custody.screening.model import ListEntry
from custody.withdrawals import cooling
from custody.withdrawals.checks import check_receiver
from custody.withdrawals.cooling_model import ANY, CoolDownRule
from custody.withdrawals.model import NO_MEMO

Shown = dict[str, object]
Step = Callable[[App, TenantId, argparse.Namespace], Awaitable[list[Shown]]]

LIST_MAX = 1000
"""Most rows that one list shows; the API pages through more."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the commands."""
    book = _command(subparsers, "address-book", "addresses that restricted vaults and wallets pay to")
    _verb(book, "list", "every entry, removed ones too, and every restriction", list_book)
    propose = _verb(book, "propose", "propose an address; somebody else confirms it", propose_entry)
    propose.add_argument("chain")
    propose.add_argument("address")
    propose.add_argument("--memo", metavar="TYPE:VALUE", help="id:7001, text:ref or hash:<64 hex digits>")
    propose.add_argument("--label", required=True, help="whose address it is")
    for name, help_text, step in (
        ("confirm", "be the second person; it counts after the configured wait", confirm_entry),
        ("remove", "have it count no longer, at once", remove_entry),
    ):
        _verb(book, name, help_text, step).add_argument("entry")
    for name, help_text, step in (
        ("restrict", "have a vault or wallet pay to entries only, at once", restrict),
        ("lift", "let it pay anybody again, after the configured wait", lift),
    ):
        _verb(book, name, help_text, step).add_argument("object", help="vlt_… or wal_…")

    refused = _command(subparsers, "refused", "the list of addresses that nobody here may pay")
    _verb(refused, "list", "every row of the list, oldest first", list_refused)
    for name, help_text, step in (
        ("add", "have the list name an account", refuse),
        ("withdraw", "have it name the account no longer", withdraw),
    ):
        verb = _verb(refused, name, help_text, step)
        verb.add_argument("chain")
        verb.add_argument("address")
        verb.add_argument("--source", required=True, help="who says so, with its date")
        verb.add_argument("--note", default="")

    cool = _command(subparsers, "cool-down", "how long approved withdrawals wait before a key is touched")
    _verb(cool, "list", "the rules in force", list_rules)
    setting = _verb(cool, "set", "set the rule of an asset and threshold", set_rule)
    setting.add_argument("asset", help="an asset's id, or '*'")
    setting.add_argument("seconds", type=int, help="0 takes the rule back")
    setting.add_argument("--from-amount", default="0", help="in atomic units")
    setting.add_argument("--note", default="")


async def list_book(app: App, tenant: TenantId, _: argparse.Namespace) -> list[Shown]:
    """Entries, then restrictions."""
    async with app.db.read(tenant) as session:
        entries = await address_book.list_entries(session, limit=LIST_MAX)
        restrictions = await address_book.list_restrictions(session)
    return [*map(_entry, entries), *map(_restriction, restrictions)]


async def propose_entry(app: App, tenant: TenantId, chosen: argparse.Namespace) -> list[Shown]:
    """A new entry."""
    chain = parse_chain_id(chosen.chain)
    memo = parse_memo(chosen.memo)
    address = check_receiver(chain, chosen.address, memo).address
    receiver = Receiver(chain=chain, address=address, memo_type=memo.type, memo=memo.value)
    async with app.db.unit_of_work(tenant) as uow:
        made = await address_book.propose(uow, operator_subject(), new_uuid(), receiver, chosen.label)
    return [_entry(made)]


async def confirm_entry(app: App, tenant: TenantId, chosen: argparse.Namespace) -> list[Shown]:
    """The second person's word."""
    wait_s = app.settings.address_book_wait_s
    async with app.db.unit_of_work(tenant) as uow:
        said = await address_book.confirm(
            uow, operator_subject(), parse_id("abe", chosen.entry), wait_s=wait_s
        )
    return [_entry(said)]


async def remove_entry(app: App, tenant: TenantId, chosen: argparse.Namespace) -> list[Shown]:
    """The entry counts no longer."""
    async with app.db.unit_of_work(tenant) as uow:
        return [_entry(await address_book.remove(uow, operator_subject(), parse_id("abe", chosen.entry)))]


async def restrict(app: App, tenant: TenantId, chosen: argparse.Namespace) -> list[Shown]:
    """A vault or wallet pays to entries only."""
    return await _restrict(app, tenant, chosen.object, enabled=True)


async def lift(app: App, tenant: TenantId, chosen: argparse.Namespace) -> list[Shown]:
    """A vault or wallet pays to everybody again."""
    return await _restrict(app, tenant, chosen.object, enabled=False)


async def list_refused(app: App, tenant: TenantId, _: argparse.Namespace) -> list[Shown]:
    """Rows of the list."""
    async with app.db.read(tenant) as session:
        return [_row(each) for each in await screening.list_entries(session, limit=LIST_MAX)]


async def refuse(app: App, tenant: TenantId, chosen: argparse.Namespace) -> list[Shown]:
    """The list names an account."""
    chain = parse_chain_id(chosen.chain)
    async with app.db.unit_of_work(tenant) as uow:
        made = await screening.refuse(
            uow, operator_subject(), chain, chosen.address, source=chosen.source, note=chosen.note
        )
    return [_row(made)]


async def withdraw(app: App, tenant: TenantId, chosen: argparse.Namespace) -> list[Shown]:
    """The list names it no longer."""
    chain = parse_chain_id(chosen.chain)
    async with app.db.unit_of_work(tenant) as uow:
        made = await screening.withdraw(
            uow, operator_subject(), chain, chosen.address, source=chosen.source, note=chosen.note
        )
    return [_row(made)]


async def list_rules(app: App, tenant: TenantId, _: argparse.Namespace) -> list[Shown]:
    """Rules of cool-downs."""
    async with app.db.read(tenant) as session:
        return [_rule(each) for each in await cooling.list_rules(session)]


async def set_rule(app: App, tenant: TenantId, chosen: argparse.Namespace) -> list[Shown]:
    """One rule, from now on."""
    asset = ANY if chosen.asset == ANY else parse_asset_id(chosen.asset).text
    async with app.db.unit_of_work(tenant) as uow:
        made = await cooling.set_rule(
            uow,
            operator_subject(),
            asset,
            amount_min=parse_atomic(chosen.from_amount),
            seconds=chosen.seconds,
            note=chosen.note,
        )
    return [_rule(made)]


async def _restrict(app: App, tenant: TenantId, shown: str, *, enabled: bool) -> list[Shown]:
    scope: Scope = "wallet" if shown.startswith("wal_") else "vault"
    object_id = parse_id("wal" if scope == "wallet" else "vlt", shown)
    wait_s = app.settings.address_book_wait_s
    async with app.db.unit_of_work(tenant) as uow:
        made = await address_book.restrict(
            uow, operator_subject(), scope, object_id, enabled=enabled, wait_s=wait_s
        )
    return [_restriction(made)]


def _command(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], name: str, help_text: str
) -> argparse._SubParsersAction[argparse.ArgumentParser]:
    return subparsers.add_parser(name, help=help_text).add_subparsers(dest="verb", required=True)


def _verb(
    verbs: argparse._SubParsersAction[argparse.ArgumentParser], name: str, help_text: str, step: Step
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=help_text)
    parser.add_argument("--tenant", type=int, required=True, help="the tenant's number")
    parser.set_defaults(run=lambda chosen: _run(chosen, step))
    return parser


def _run(chosen: argparse.Namespace, step: Step) -> int:
    """Take a step for one tenant and print what it gives, a line of JSON each; 2 when there is no such tenant."""

    async def printed(app: App, tenant: TenantId) -> int:
        for line in await step(app, tenant, chosen):
            print(json.dumps(line))
        return 0

    return run_on_platform(run_for_tenant(chosen.tenant, printed), chosen.command)


def _entry(entry: Entry) -> Shown:
    receiver = entry.receiver
    return {
        "entry": show_id("abe", entry.id),
        "chain": receiver.chain,
        "address": receiver.address,
        "memo": None if receiver.memo_type == NO_MEMO.type else f"{receiver.memo_type}:{receiver.memo}",
        "label": entry.label,
        "state": entry.state,
        "proposed_by": entry.proposed_by,
        "confirmed_by": entry.confirmed_by,
        "counts_from": None if entry.counts_from is None else entry.counts_from.isoformat(),
    }


def _restriction(found: Restriction) -> Shown:
    return {
        found.scope: show_id("wal" if found.scope == "wallet" else "vlt", found.object_id),
        "address_book_only": found.enabled,
        "counts_from": found.counts_from.isoformat(),
        "actor": found.actor,
    }


def _row(entry: ListEntry) -> Shown:
    return {
        "version": entry.sequence,
        "kind": entry.namespace,
        "account": entry.account,
        "word": entry.word,
        "source": entry.source,
        "note": entry.note,
        "actor": entry.actor,
    }


def _rule(rule: CoolDownRule) -> Shown:
    return {
        "asset": rule.asset,
        "from_amount": str(rule.amount_min),
        "seconds": rule.seconds,
        "actor": rule.actor,
        "note": rule.note,
    }
