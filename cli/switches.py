"""`custody stop`, `custody resume`, `custody switches`: kill switches of the platform, and with `--signer` those of the signer.

On the platform one operator stops and two let it go on; the audit log names the user of this machine. In the signer one approver
stops, with a key of the policy, and the quorum of governance ends it (`cli/signer_stops.py`).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from cli import signer_stops
from cli.cases import operator_of
from cli.one_tenant import run_for_tenant
from cli.platform import FAILED, run_on_platform
from custody.bootstrap import App
from custody.kernel.ids import TenantId, new_uuid, parse_id, show_id
from custody.switches import service as switches
from custody.switches.model import Scope, Switch, parse_place

LIST_MAX = 1000
_SIGNER_SCOPES = ("all", "chain", "asset", "vault", "key")


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the three commands."""
    stop = subparsers.add_parser(
        "stop", help="let nothing more leave a chain, asset, vault, customer or rail, at once"
    )
    stop.add_argument("scope", choices=sorted({*Scope, *_SIGNER_SCOPES}), help="what is stopped")
    stop.add_argument("subject", nargs="?", help="which; of `all` none")
    stop.add_argument("--reason", required=True, help="why, for the record")
    stop.add_argument("--approver", metavar="ID", help="with --signer: your name in its policy")
    stop.add_argument("--key-file", type=Path, metavar="FILE", help="with --signer: your key")
    stop.add_argument("--yes", action="store_true", help="with --signer: do not ask before signing")
    _mount(stop, stop_one)
    resume = subparsers.add_parser("resume", help="propose, or confirm as a second person, that it goes on")
    resume.add_argument("switch", help="id of the switch; with --signer the digest of the order")
    resume.add_argument("--reason", required=True, help="why, for the record")
    resume.add_argument("--confirm", action="store_true", help="confirm what another person has proposed")
    resume.add_argument("--initiator", metavar="ID", help="with --signer: who asks; may not approve")
    resume.add_argument("--out", type=Path, metavar="FILE", help="with --signer: where the intent goes")
    _mount(resume, resume_one)
    listing = subparsers.add_parser("switches", help="what is stopped")
    listing.add_argument("--all", action="store_true", help="also what goes on again")
    listing.add_argument("--json", action="store_true", help="print JSON lines")
    _mount(listing, show)


def stop_one(chosen: argparse.Namespace) -> int:
    """Stop something."""
    if chosen.signer is not None:
        return signer_stops.stop(chosen)
    if chosen.scope not in set(Scope) or chosen.subject is None:
        return _misused("stop", "the platform stops one chain, asset, vault, customer or rail, by its name")

    async def step(app: App, tenant: TenantId) -> int:
        place = parse_place(Scope(chosen.scope), chosen.subject)
        async with app.db.unit_of_work(tenant) as uow:
            made = await switches.stop(uow, operator_of(tenant), new_uuid(), place, chosen.reason)
        print(json.dumps(_words(made)))
        return 0

    return run_on_platform(run_for_tenant(chosen.tenant, step), "stop")


def resume_one(chosen: argparse.Namespace) -> int:
    """Propose that something goes on, or confirm it."""
    if chosen.signer is not None:
        return signer_stops.write_resume(chosen)

    async def step(app: App, tenant: TenantId) -> int:
        switch_id, act = parse_id("swi", chosen.switch), switches.propose_resume
        if chosen.confirm:
            act = switches.confirm_resume
        async with app.db.unit_of_work(tenant) as uow:
            found = await act(uow, operator_of(tenant), switch_id, chosen.reason)
        print(json.dumps(_words(found)))
        return 0

    return run_on_platform(run_for_tenant(chosen.tenant, step), "resume")


def show(chosen: argparse.Namespace) -> int:
    """Print what is stopped."""
    if chosen.signer is not None:
        return signer_stops.show(chosen)

    async def step(app: App, tenant: TenantId) -> int:
        async with app.db.read(tenant) as session:
            found = await switches.list_switches(session, standing=not chosen.all, limit=LIST_MAX)
        for each in found:
            row = _words(each)
            print(json.dumps(row) if chosen.json else "  ".join(text for text in row.values() if text))
        if not chosen.json:
            standing = sum(1 for each in found if each.state != "resumed")
            print(f"{standing} stand")
        return 0

    return run_on_platform(run_for_tenant(chosen.tenant, step), "switches")


def _mount(parser: argparse.ArgumentParser, act: Callable[[argparse.Namespace], int]) -> None:
    parser.add_argument("--tenant", type=int, help="the tenant's number; not with --signer")
    signer_stops.add_signer_options(parser)

    def run(chosen: argparse.Namespace) -> int:
        if (chosen.tenant is None) == (chosen.signer is None):
            return _misused(chosen.command, "either --tenant or --signer says who is to stop")
        return act(chosen)

    parser.set_defaults(run=run)


def _misused(command: str, text: str) -> int:
    print(f"custody {command}: {text}", file=sys.stderr)
    return FAILED


def _words(switch: Switch) -> dict[str, str]:
    return {
        "switch": show_id("swi", switch.id),
        "state": switch.state,
        "scope": switch.place.scope.value,
        "subject": switch.place.shown,
        "reason": switch.reason,
        "stopped_by": switch.stopped_by,
        "stopped_at": switch.stopped_at.isoformat(),
        "proposed_by": switch.proposed_by or "",
        "resumed_by": switch.resumed_by or "",
    }
