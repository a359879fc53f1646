"""What the streams of one process share."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from api.auth import identify
from api.gate import Gate
from api.graphql.execution import Graph
from api.graphql.live import Frame, Live, Watch
from api.graphql.vigil import Vigil
from api.metrics import Metrics, Transport
from custody.bootstrap import App
from custody.events.hub import Hub
from custody.identity.model import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Subscriptions of all transports."""

    app: App
    """The services behind the API."""
    gate: Gate
    """Who knows credentials."""
    graph: Graph
    """The schema with its documents."""
    hub: Hub
    """The feed as it grows."""
    live: Live
    """What runs."""
    vigil: Vigil
    """Who may still be there."""
    metrics: Metrics
    """What is counted."""

    @classmethod
    def build(cls, app: App, gate: Gate, graph: Graph, metrics: Metrics) -> Streams:
        """Nothing runs before somebody watches. Whoever serves the application closes the hub."""

        async def authenticate(credential: str) -> Principal:
            return await identify(gate, credential)

        hub = Hub(app.db)
        return cls(
            app=app,
            gate=gate,
            graph=graph,
            hub=hub,
            live=Live(graph, hub),
            vigil=Vigil(authenticate, app.settings.api.streams_per_principal),
            metrics=metrics,
        )

    async def watch(self, wanted: Watch, transport: Transport) -> AsyncGenerator[Frame, None]:
        """As `Live.watch`, and counted."""
        with self.metrics.subscription(transport) as delivered:
            async with contextlib.aclosing(self.live.watch(wanted)) as frames:
                async for frame in frames:
                    delivered()
                    yield frame
