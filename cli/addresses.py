"""`custody addresses`: the pool of keys for deposit addresses on EVM chains: see, fill and check it, set a key aside."""

from __future__ import annotations

import argparse
import json

from cli.cases import operator_of
from cli.one_tenant import run_for_tenant
from cli.platform import run_on_platform
from custody.bootstrap import App
from custody.deposits import key_check, key_pool
from custody.kernel.ids import TenantId
from custody.wallets import keys

FOUND_WRONG = 1
"""Exit code of a check that found a key which is not the signer's, or an address that contradicts its key."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command."""
    parser = subparsers.add_parser(
        "addresses", help="keys for deposit addresses: see, fill and check the pool"
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    status = verbs.add_parser("status", help="how many keys are ready; 1 when fewer than are wanted")
    status.set_defaults(step=_status)
    fill = verbs.add_parser("fill", help="have keys made now, as the worker does by itself")
    fill.add_argument("--keys", type=_count, help="until so many are free; else as many as are configured")
    fill.set_defaults(step=_fill)
    check = verbs.add_parser(
        "check", help="hold every key and address against the signer; 1 when one is not its"
    )
    check.set_defaults(step=_check)
    aside = verbs.add_parser("set-aside", help="keep a free key from ever being given out")
    aside.add_argument("key_id", help="32 hexadecimal digits")
    aside.add_argument("--reason", required=True, help="for the audit log")
    aside.set_defaults(step=_set_aside)
    for verb in (status, fill, check, aside):
        verb.add_argument("--tenant", type=int, required=True, help="the tenant's number")
        verb.set_defaults(run=lambda chosen: run_on_platform(_run(chosen), "addresses"))


async def _run(chosen: argparse.Namespace) -> int:
    async def step(app: App, tenant: TenantId) -> int:
        code: int = await chosen.step(app, tenant, chosen)
        return code

    return await run_for_tenant(chosen.tenant, step)


async def _status(app: App, tenant: TenantId, _: argparse.Namespace) -> int:
    async with app.db.read(tenant) as session:
        found = await keys.depth(session)
    wanted = app.settings.deposit_pool.low_water
    told = {
        "free": found.free,
        "low_water": wanted,
        "taken": found.taken,
        "set_aside": found.set_aside,
        "asked": 0 if found.asked is None else found.asked.size,
        "refusal": "" if found.asked is None else found.asked.refusal,
    }
    print(json.dumps(told))
    return 0 if found.free >= wanted else FOUND_WRONG


async def _fill(app: App, tenant: TenantId, chosen: argparse.Namespace) -> int:
    pool = app.settings.deposit_pool
    added = 0
    while made := await key_pool.refill(
        app.db,
        app.signer,
        tenant,
        low_water=pool.low_water if chosen.keys is None else chosen.keys,
        batch_size=pool.batch_size,
    ):
        added += made
    print(json.dumps({"added": added}))
    return 0


async def _check(app: App, tenant: TenantId, _: argparse.Namespace) -> int:
    found = await key_check.inspect(app.db, app.signer, tenant)
    told = {
        "keys": found.keys,
        "renewed": [key.account for key in found.renewed],
        "foreign": list(found.foreign),
        "misdirected": list(found.misdirected),
    }
    print(json.dumps(told))
    return FOUND_WRONG if found.foreign or found.misdirected else 0


async def _set_aside(app: App, tenant: TenantId, chosen: argparse.Namespace) -> int:
    async with app.db.unit_of_work(tenant) as uow:
        await keys.set_aside(uow, operator_of(tenant).subject, chosen.key_id, chosen.reason)
    print(json.dumps({"key": chosen.key_id, "state": "set_aside"}))
    return 0


def _count(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 100_000:
        raise argparse.ArgumentTypeError("a number of keys from 1 to 100000")
    return value
