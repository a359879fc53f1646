"""`custody webhooks`: a tenant's endpoints as they stand, and whether one can be reached. For operators on a machine that holds
the configuration; endpoints are made and changed over REST."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Coroutine
from typing import Any

from cli.one_tenant import run_for_tenant
from cli.platform import run_on_platform
from custody.bootstrap import App
from custody.kernel.errors import CustodyError
from custody.kernel.ids import TenantId, parse_id, show_id
from custody.webhooks import execution
from custody.webhooks import service as webhooks
from custody.webhooks.errors import WebhooksNotConfigured
from custody.webhooks.model import ENDPOINTS_MAX, Endpoint, Outcome
from custody.webhooks.sealed import build_box
from custody.webhooks.sender import Sender, SystemResolver

_PAGE = 2 * ENDPOINTS_MAX


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Mount the command."""
    parser = subparsers.add_parser("webhooks", help="list a tenant's webhook endpoints; send one a test")
    verbs = parser.add_subparsers(dest="verb", required=True)
    listing = verbs.add_parser("list", help="every endpoint that is not deleted, as a line of JSON")
    listing.set_defaults(run=lambda chosen: run_on_platform(_run(chosen, None), "webhooks"))
    trying = verbs.add_parser("test", help="send a signed webhook.test now; 1 when it does not arrive")
    trying.add_argument("endpoint")
    trying.set_defaults(run=lambda chosen: run_on_platform(_run(chosen, chosen.endpoint), "webhooks"))
    for verb in (listing, trying):
        verb.add_argument("--tenant", type=int, required=True, help="the tenant's number")


def _run(chosen: argparse.Namespace, endpoint: str | None) -> Coroutine[Any, Any, int]:
    """List, or test one; 2 when there is no such tenant."""
    return run_for_tenant(
        chosen.tenant,
        lambda app, tenant: _list(app, tenant) if endpoint is None else _try(app, tenant, endpoint),
    )


async def _list(app: App, tenant: TenantId) -> int:
    found: list[Endpoint] = []
    async with app.db.read(tenant) as session:
        while page := await webhooks.list_endpoints(session, found[-1].id if found else None, _PAGE):
            found += page
    for each in found:
        if each.state != "deleted":
            print(json.dumps(_shown(each)))
    return 0


async def _try(app: App, tenant: TenantId, text: str) -> int:
    try:
        return await _test(app, tenant, text)
    except CustodyError as error:
        print(str(error), file=sys.stderr)
        return 1


async def _test(app: App, tenant: TenantId, text: str) -> int:
    """Nothing of it is kept: neither a delivery nor a mark on the circuit."""
    chosen = app.settings.webhooks
    if chosen is None:
        raise WebhooksNotConfigured
    answer = await execution.probe(
        app.db,
        Sender(chosen, SystemResolver()),
        build_box(chosen),
        tenant,
        parse_id("whe", text),
        app.clock.now(),
    )
    told = {"status": answer.status, "error": answer.error or None, "elapsed_ms": answer.elapsed_ms}
    print(json.dumps(told))
    return 0 if answer.outcome is Outcome.DELIVERED else 1


def _shown(endpoint: Endpoint) -> dict[str, object]:
    return {
        "endpoint": show_id("whe", endpoint.id),
        "host": webhooks.host_of(endpoint.url),
        "types": list(endpoint.types),
        "state": endpoint.state,
        "reason": endpoint.reason.value or None,
        "failures": endpoint.failures,
        "circuit_open_until": None if endpoint.circuit_until is None else endpoint.circuit_until.isoformat(),
        "delivered": endpoint.delivered,
        "failed": endpoint.failed,
    }
