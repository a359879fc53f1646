"""`custody audit anchor` and `custody audit anchors`: have a checkpoint written to a Stellar chain, and see what became of it."""

from __future__ import annotations

import sys

from custody import bootstrap, settings
from custody.bootstrap import App
from custody.chains.address import STELLAR, namespace
from custody.chains.stellar.rpc import StellarRpc
from custody.identity import service as identity
from custody.identity.model import Principal
from custody.kernel.assetid import ChainId
from custody.kernel.errors import Conflict, Refused
from custody.kernel.ids import PrincipalId, TenantId, derived_uuid, show_id
from custody.seals import anchors, execution
from custody.seals.errors import HistoryAltered
from custody.seals.model import AnchorView

INITIATOR = "custody-audit"
"""Who asks for an anchor in the eyes of the policy: no person, so that everybody of the group may approve."""


async def anchor_all(tenant: int | None, chain: str | None) -> int:
    """Ask for the newest checkpoint of every tenant, or of one, to be written; 1 when one has no checkpoint or no vault."""
    app = bootstrap.build(settings.load())
    try:
        chosen = _chain(app, chain)
        tenants = await _tenants(app, tenant)
        if chosen is None or not tenants:
            return 2
        return 0 if all([await _anchor(app, each, chosen) for each in tenants]) else 1
    finally:
        await app.aclose()


async def show_all(tenant: int | None) -> int:
    """Print every anchor with its state, its transaction and its ledger."""
    app = bootstrap.build(settings.load())
    try:
        tenants = await _tenants(app, tenant)
        for each in tenants:
            async with app.db.read(each) as session:
                for view in await anchors.list_anchors(session):
                    print(_line(view))
        return 0 if tenants else 2
    finally:
        await app.aclose()


async def verify_tenant(app: App, tenant: TenantId) -> bool:
    """Hold the tenant's settled anchors against their chains. False names the first that does not hold."""
    witnesses = {chain: client for chain, client in app.clients.items() if isinstance(client, StellarRpc)}
    try:
        checks = await execution.check_anchors(app.db, witnesses, tenant)
    except HistoryAltered as error:
        print(f"tenant {tenant}: {error}", file=sys.stderr)
        return False
    for check in checks:
        anchor, height = check.view.anchor, check.view.height
        found = f"NOT CHECKED: {check.unchecked}" if check.unchecked else f"ledger {height} carries its hash"
        print(f"tenant {tenant}: anchor of seal {anchor.sequence} on {anchor.chain}: {found}")
    return True


async def _anchor(app: App, tenant: TenantId, chain: ChainId) -> bool:
    principal = Principal(
        tenant=tenant,
        id=PrincipalId(derived_uuid("principal", INITIATOR)),
        subject=INITIATOR,
        scopes=frozenset({"operate"}),
    )
    try:
        async with app.db.unit_of_work(tenant) as uow:
            view = await anchors.anchor_newest(uow, principal, chain, settings=app.settings, clock=app.clock)
    except (Conflict, Refused) as error:
        print(f"tenant {tenant}: {error.code}: {error.message}", file=sys.stderr)
        return False
    print(_line(view))
    return True


def _line(view: AnchorView) -> str:
    anchor = view.anchor
    words = [
        f"tenant {anchor.tenant}: seal {anchor.sequence} {anchor.seal_hash.hex()}",
        f"on {anchor.chain} by {view.account}",
        f"{show_id('wdr', anchor.withdrawal_id)} {view.state}",
    ]
    if view.tx_hash is not None:
        words.append(f"transaction {view.tx_hash}")
    if view.height is not None:
        words.append(f"ledger {view.height}")
    return ", ".join(words)


def _chain(app: App, wanted: str | None) -> ChainId | None:
    """The chain that was named, or the only Stellar chain there is."""
    known = [chain for chain in app.clients if namespace(chain) == STELLAR]
    if wanted is None and len(known) == 1:
        return known[0]
    if wanted in known:
        return ChainId(wanted)
    print(f"custody audit anchor: name one of these chains: {', '.join(known) or 'none'}", file=sys.stderr)
    return None


async def _tenants(app: App, wanted: int | None) -> list[TenantId]:
    async with app.db.read(None) as session:
        tenants = await identity.list_tenants(session)
    if wanted is None:
        return tenants
    if wanted not in tenants:
        print(f"custody audit: there is no tenant {wanted}", file=sys.stderr)
        return []
    return [TenantId(wanted)]
