"""`custody vaults`: a tenant's vaults, and whether its pooled Stellar accounts tell senders that they want a memo (SEP-29)."""

from __future__ import annotations

import argparse
import json
from collections.abc import Coroutine
from typing import Any

from cli.cases import operator_of
from cli.one_tenant import run_for_tenant
from cli.platform import run_on_platform
from custody.bootstrap import App
from custody.chains.stellar.rpc import StellarRpc
from custody.kernel.errors import Unavailable
from custody.kernel.ids import TenantId, VaultId, WithdrawalId, new_uuid, parse_id, show_id
from custody.wallets import service as wallets
from custody.wallets.model import Vault
from custody.withdrawals import service as withdrawals


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command."""
    parser = subparsers.add_parser("vaults", help="list vaults; have a Stellar account ask for memos")
    verbs = parser.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("list", help="every vault as a line of JSON, with what its chain says")
    listing.set_defaults(run=lambda chosen: run_on_platform(_run(chosen, None), "vaults"))
    asking = verbs.add_parser("require-memo", help="write the intent that approvers then decide about")
    asking.add_argument("vault")
    asking.set_defaults(run=lambda chosen: run_on_platform(_run(chosen, chosen.vault), "vaults"))
    for verb in (listing, asking):
        verb.add_argument("--tenant", type=int, required=True, help="the tenant's number")


def _run(chosen: argparse.Namespace, vault: str | None) -> Coroutine[Any, Any, int]:
    """List, or ask for one; 2 when there is no such tenant."""
    return run_for_tenant(
        chosen.tenant, lambda app, tenant: _list(app, tenant) if vault is None else _ask(app, tenant, vault)
    )


async def _list(app: App, tenant: TenantId) -> int:
    async with app.db.read(tenant) as session:
        found = await wallets.list_vaults(session)
    for vault in found:
        told = {
            "vault": show_id("vlt", vault.id),
            "chain": vault.chain,
            "purpose": vault.purpose,
            "account": vault.account,
            "memo_required": await _memo_required(app, vault),
        }
        print(json.dumps(told))
    return 0


async def _ask(app: App, tenant: TenantId, vault: str) -> int:
    operator = operator_of(tenant)
    vault_id = VaultId(parse_id("vlt", vault))
    async with app.db.unit_of_work(tenant) as uow:
        made = await withdrawals.request_memo_required(
            uow, operator, WithdrawalId(new_uuid()), vault_id, settings=app.settings, clock=app.clock
        )
    print(json.dumps({"withdrawal": show_id("wdr", made.id), "state": made.state}))
    return 0


async def _memo_required(app: App, vault: Vault) -> bool | str | None:
    """Whether the account asks for a memo; None where the chain knows none, and the reason where its node does not answer."""
    client = app.clients.get(vault.chain)
    if not isinstance(client, StellarRpc):
        return None
    try:
        return await client.requires_memo(vault.account)
    except Unavailable as error:
        return error.code
