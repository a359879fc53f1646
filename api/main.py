"""The API process: REST, GraphQL, health and metrics in one application.

`python -m api.main` serves it with the settings that `CUSTODY_CONFIG` names. The console is not here.
"""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from secrets import SystemRandom

import uvicorn
from alembic.script import ScriptDirectory
from fastapi import FastAPI

from api import dispatch, errors, health
from api.deps import TransferDesk
from api.edge import Edge
from api.gate import Gate
from api.graphql import endpoint as graphql_endpoint
from api.graphql import socket as graphql_socket
from api.graphql.execution import Graph
from api.graphql.streams import Streams
from api.limits import RateLimits
from api.metrics import Metrics
from api.openapi import describe
from api.pages import docs, problems
from api.pages import router as pages
from api.paging import cursor_secret
from api.rest import router as rest
from api.server import PatientHttp, Server
from custody import bootstrap, logs, settings
from custody.db.grouped import Grouped
from custody.db.provision import MIGRATIONS
from custody.idempotency.errors import KeyInProgress
from custody.kernel.ids import TenantId
from custody.ledger.channel import connect
from custody.ledger.errors import LedgerBusy
from custody.ledger.poster import Bounds, Poster
from custody.transfers.together import AnswerToTransfer, AskedTransfer, SomeRefused, request_all
from rails.registry import RailRegistry, build_rails

BODY_TIMEOUT_S = 15
WS_BYTES_MAX = 256 * 1024
"""Of one WebSocket message; what is larger than a request may be is refused above this in words, and beyond it unread."""


def create_app(app: bootstrap.App) -> FastAPI:
    """The ASGI application over these services. Whoever built the services closes them; its lifespan closes the rest."""
    api = create_routes()
    api.router.lifespan_context = lifespan
    metrics = Metrics()
    app = replace(app, poster=build_poster(app))
    api.state.custody = app
    api.state.metrics = metrics
    api.state.gate = Gate(app)
    api.state.poster = app.poster
    api.state.limits = RateLimits(
        app.settings.redis.url.get_secret_value(), app.settings.api.requests_per_minute.model_dump(), metrics
    )
    api.state.transfers = build_transfers(app)
    api.state.rails = build_rails(app.settings.rails)
    api.state.graphql = Graph.build(app.settings.api)
    api.state.streams = Streams.build(app, api.state.gate, api.state.graphql, metrics)
    api.state.schema_head = schema_head()
    api.add_middleware(
        Edge,
        metrics=metrics,
        body_bytes_max=app.settings.api.max_body_bytes,
        body_timeout_s=BODY_TIMEOUT_S,
        cursor_secret=cursor_secret(app.settings),
    )
    return api


@asynccontextmanager
async def lifespan(api: FastAPI) -> AsyncIterator[None]:
    """Nothing is opened before it is used; in the end all of it is closed."""
    streams: Streams = api.state.streams
    limits: RateLimits = api.state.limits
    rails: RailRegistry = api.state.rails
    try:
        yield
    finally:
        await streams.hub.close()
        await limits.aclose()
        await rails.aclose()


def build_transfers(app: bootstrap.App) -> TransferDesk:
    """Where this process's transfers share their transactions."""

    async def carry_out(tenant: TenantId, asked: Sequence[AskedTransfer]) -> list[AnswerToTransfer]:
        try:
            async with app.db.unit_of_work(tenant) as uow:
                return await request_all(uow, asked)
        except SomeRefused as refused:
            rest = [each for n, each in enumerate(asked) if n not in refused.refusals]
            others = iter(await carry_out(tenant, rest) if rest else ())
            return [refused.refusals.get(n) or next(others) for n in range(len(asked))]
        except (LedgerBusy, KeyInProgress):
            # Rolled back as a whole. Alone, each meets only what stands in its own way.
            if len(asked) == 1:
                raise
            middle = len(asked) // 2
            return [*await carry_out(tenant, asked[:middle]), *await carry_out(tenant, asked[middle:])]

    return Grouped(carry_out)


def build_poster(app: bootstrap.App, bounds: Bounds | None = None) -> Poster:
    """The batcher of postings of this process. Whoever serves the application runs it."""
    url = app.settings.database.url.get_secret_value()

    async def pause(attempt: int) -> None:
        await asyncio.sleep(SystemRandom().uniform(0.5, 1) * min(2.0, 0.05 * 2**attempt))

    return Poster(lambda: connect(url), pause, bounds)


def create_routes() -> FastAPI:
    """The routes without services: enough to describe them."""
    api = FastAPI(
        title="Custody API",
        version="1.0.0",
        docs_url=None,
        redoc_url=None,
        generate_unique_id_function=lambda route: str(route.name),
    )
    errors.install(api)
    api.include_router(health.router)
    api.include_router(rest.router)
    api.include_router(graphql_endpoint.router)
    api.include_router(graphql_socket.router)
    api.include_router(pages.router)
    api.include_router(problems.router)
    api.include_router(docs.router)
    dispatch.install(
        api, health.router, *rest.parts(), graphql_endpoint.router, pages.router, problems.router, docs.router
    )
    describe(api)
    return api


def schema_head() -> str:
    """The newest migration that this code knows."""
    return str(ScriptDirectory(str(MIGRATIONS)).get_current_head())


def build_server(api: FastAPI, chosen: settings.ApiSettings) -> uvicorn.Config:
    """How the application is served: over TLS where a certificate is configured, and then only to whom `client_ca` vouches for,
    where one is."""
    tls = chosen.tls
    asks = tls is not None and tls.client_ca is not None
    return uvicorn.Config(
        api,
        host=chosen.host,
        port=chosen.port,
        http=PatientHttp,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="on",
        timeout_keep_alive=15,
        timeout_graceful_shutdown=10,
        h11_max_incomplete_event_size=16 * 1024,
        ws_max_size=WS_BYTES_MAX,
        ws_per_message_deflate=False,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
        ssl_ca_certs=None if tls is None or tls.client_ca is None else str(tls.client_ca),
        ssl_cert_reqs=ssl.CERT_REQUIRED if asks else ssl.CERT_NONE,
    )


async def serve(chosen: settings.Settings) -> None:
    """Serve until told to stop, then let every connection go."""
    app = bootstrap.build(chosen)
    api = create_app(app)
    # What exists now exists until the end: the collector need not walk through it again and again.
    gc.collect()
    gc.freeze()
    # What a request leaves behind is gone without it, but for few circles: looked for less often than after 700 objects.
    gc.set_threshold(20_000, 20, 20)
    poster: Poster = api.state.poster
    gate: Gate = api.state.gate
    streams: Streams = api.state.streams
    server = Server(build_server(api, chosen.api))
    server.ending = streams.hub.end
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(poster.run())
            group.create_task(gate.upkeep.run())
            await server.serve()
            poster.stop()
            gate.upkeep.stop()
    finally:
        await app.aclose()


def main() -> int:
    """Entry of the process."""
    logs.configure("api", gathered=True)
    asyncio.run(serve(settings.load()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
