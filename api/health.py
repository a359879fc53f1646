"""What an orchestrator and Prometheus ask: is the process alive, can it serve, and how far behind are the chains.

Liveness depends on nothing outside, so that a database outage does not restart every process at once.
"""

from __future__ import annotations

import asyncio

import structlog
from fastapi import APIRouter, Request
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from starlette.responses import JSONResponse, Response

from api.chain_status import chain_statuses
from api.deps import app_of, metrics_of
from api.metrics import Metrics
from custody.bootstrap import App
from custody.db.session import Database
from custody.identity import service as identity
from custody.switches import service as switches
from custody.switches.model import Scope
from custody.wallets import keys
from custody.webhooks import service as webhooks

router = APIRouter(include_in_schema=False)

CHECK_TIMEOUT_S = 2


@router.get("/livez")
async def livez() -> Response:
    """The event loop answers."""
    return JSONResponse({"status": "alive"})


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """The database answers and has the schema that this code was written for."""
    problem = await _database_problem(app_of(request).db, request.app.state.schema_head)
    if problem is None:
        return JSONResponse({"status": "ready"})
    return JSONResponse({"status": "not ready", "reason": problem}, 503)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """The Prometheus exposition; chain gauges are read now, everything else was counted on the way."""
    measured = metrics_of(request)
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            for status in await chain_statuses(app_of(request)):
                measured.chain_observed(status.chain, status.cursor_height, status.head_height)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        structlog.get_logger().warning("metrics.chains_skipped", reason=type(error).__name__)
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await _observe_pools(app_of(request), measured)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        structlog.get_logger().warning("metrics.pools_skipped", reason=type(error).__name__)
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            found = await webhooks.figures(app_of(request).db)
            now = app_of(request).clock.now()
            measured.webhooks_observed(found, (now - (found.since or now)).total_seconds())
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        structlog.get_logger().warning("metrics.webhooks_skipped", reason=type(error).__name__)
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            await _observe_switches(app_of(request), measured)
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        structlog.get_logger().warning("metrics.switches_skipped", reason=type(error).__name__)
    return Response(measured.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _observe_pools(app: App, measured: Metrics) -> None:
    """How many deposit keys are ready, per tenant, where there are chains that need them."""
    if not any(chain.kind == "evm" for chain in app.settings.chains):
        return
    async with app.db.read(None) as session:
        for tenant in await identity.list_tenants(session):
            await session.act_for(tenant)
            free, asked = await keys.standing(session)
            measured.pool_observed(tenant, free, refused=asked is not None and asked.refusal != "")


async def _observe_switches(app: App, measured: Metrics) -> None:
    """What is stopped, per tenant."""
    async with app.db.read(None) as session:
        for tenant in await identity.list_tenants(session):
            await session.act_for(tenant)
            standing = await switches.count_standing(session)
            measured.switches_observed(tenant, {scope.value: standing.get(scope, 0) for scope in Scope})


async def _database_problem(database: Database, schema_head: str) -> str | None:
    """Why the database cannot be used now, or None."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S), database.read(None) as session:
            found = (
                await session.conn.execute(text("SELECT version_num FROM alembic_version"))
            ).scalar_one_or_none()
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        structlog.get_logger().warning("readyz.database_unreachable", reason=type(error).__name__)
        return "the database does not answer"
    if found != schema_head:
        return f"the database has schema {found}, this process was written for {schema_head}"
    return None
