"""What the streams of one process share."""

from __future__ import annotations

from dataclasses import dataclass

from api.auth import principal_of
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
    graph: Graph
    """The schema with its documents."""
    hub: Hub
    """The feed as it grows."""
    live: Live
    """What runs."""
    vigil: Vigil
    """Who may still be there."""

    @classmethod
    def build(cls, app: App, graph: Graph) -> Streams:
        """Nothing runs before somebody watches. Whoever serves the application closes the hub."""

        async def authenticate(credential: str) -> Principal:
            return await principal_of(app, credential)

        hub = Hub(app.db)
        return cls(
            app=app,
            graph=graph,
            hub=hub,
            live=Live(graph, hub),
            vigil=Vigil(authenticate, app.settings.api.streams_per_principal),
        )
