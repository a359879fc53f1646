"""What the streams of one process share."""

from __future__ import annotations

from dataclasses import dataclass

from api.auth import identify
from api.gate import Gate
from api.graphql.execution import Graph
from api.graphql.live import Live
from api.graphql.vigil import Vigil
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

    @classmethod
    def build(cls, app: App, gate: Gate, graph: Graph) -> Streams:
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
        )
