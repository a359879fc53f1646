"""Commands that do something for one tenant, named by its number."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable

from cli.platform import FAILED
from custody import bootstrap, settings
from custody.bootstrap import App
from custody.identity import service as identity
from custody.kernel.ids import TenantId


async def run_for_tenant(number: int, step: Callable[[App, TenantId], Awaitable[int]]) -> int:
    """Take the step for a tenant that exists and return its exit code; FAILED when there is none of that number."""
    app = bootstrap.build(settings.load())
    try:
        async with app.db.read(None) as session:
            if number not in await identity.list_tenants(session):
                print(f"there is no tenant {number}", file=sys.stderr)
                return FAILED
        return await step(app, TenantId(number))
    finally:
        await app.aclose()
