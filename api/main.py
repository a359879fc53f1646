"""The API process: REST, GraphQL, health and metrics in one application.

`python -m api.main` serves it with the settings that `CUSTODY_CONFIG` names. The console and documentation pages are not here.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from secrets import SystemRandom
from types import FrameType

import uvicorn
from alembic.script import ScriptDirectory
from fastapi import FastAPI

from api import errors, health
from api.edge import Edge
from api.graphql import endpoint as graphql_endpoint
from api.graphql import socket as graphql_socket
from api.graphql.execution import Graph
from api.graphql.streams import Streams
from api.metrics import Metrics
from api.openapi import describe
from api.pages import router as pages
from api.paging import cursor_secret
from api.rest import router as rest
from custody import bootstrap, logs, settings
from custody.db.provision import MIGRATIONS
from custody.ledger.channel import connect
from custody.ledger.poster import Bounds, Poster
from rails.registry import build_rails

BODY_TIMEOUT_S = 15
WS_BYTES_MAX = 256 * 1024
"""Of one WebSocket message; what is larger than a request may be is refused above this in words, and beyond it unread."""


def create_app(app: bootstrap.App) -> FastAPI:
    """The ASGI application over these services. Whoever built the services closes them."""
    api = create_routes()
    metrics = Metrics()
    api.state.custody = app
    api.state.metrics = metrics
    api.state.poster = build_poster(app)
    api.state.rails = build_rails(app.settings.rails)
    api.state.graphql = Graph.build(app.settings.api)
    api.state.streams = Streams.build(app, api.state.graphql)
    api.state.schema_head = schema_head()
    api.add_middleware(
        Edge,
        metrics=metrics,
        body_bytes_max=app.settings.api.max_body_bytes,
        body_timeout_s=BODY_TIMEOUT_S,
        cursor_secret=cursor_secret(app.settings),
    )
    return api


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
    describe(api)
    return api


def schema_head() -> str:
    """The newest migration that this code knows."""
    return str(ScriptDirectory(str(MIGRATIONS)).get_current_head())


class Server(uvicorn.Server):
    """Ends in order on a signal. The library would kill its own process by the same signal once more, before we have closed."""

    ending: Callable[[], None] | None = None
    """Told when the end begins: streams end by themselves only then."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the end."""
        super().handle_exit(sig, frame)
        if self.ending is not None:
            self.ending()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take the signals that ask for an end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


async def serve(chosen: settings.Settings) -> None:
    """Serve until told to stop, then let every connection go."""
    app = bootstrap.build(chosen)
    api = create_app(app)
    poster: Poster = api.state.poster
    streams: Streams = api.state.streams
    server = Server(
        uvicorn.Config(
            api,
            host=chosen.api.host,
            port=chosen.api.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=15,
            timeout_graceful_shutdown=10,
            h11_max_incomplete_event_size=16 * 1024,
            ws_max_size=WS_BYTES_MAX,
            ws_per_message_deflate=False,
        )
    )
    server.ending = streams.hub.end
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(poster.run())
            await server.serve()
            poster.stop()
    finally:
        await streams.hub.close()
        await api.state.rails.aclose()
        await app.aclose()


def main() -> int:
    """Entry of the process."""
    logs.configure("api")
    asyncio.run(serve(settings.load()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
