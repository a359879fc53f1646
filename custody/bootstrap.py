"""The composition root of every process with database credentials: settings in, ready services out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from custody.assets.known import KnownAssets
from custody.chains.ports import ChainClient
from custody.chains.registry import build_clients
from custody.db.session import Database
from custody.events.wakeup import Waker
from custody.kernel.assetid import ChainId
from custody.kernel.clock import Clock, SystemClock
from custody.ledger.poster import Poster
from custody.screening.ports import Screener
from custody.screening.provider import build_screener
from custody.settings import Settings
from custody.signing.client import SignerClient


@dataclass(frozen=True, slots=True, kw_only=True)
class App:
    """What a process works with. Nothing connects before it is first used."""

    settings: Settings
    """What was configured."""
    db: Database
    """Postgres, as `custody_app`."""
    clients: Mapping[ChainId, ChainClient]
    """One client per configured chain."""
    signer: SignerClient
    """The only way to a signature."""
    waker: Waker
    """Wake-ups for the worker, best effort."""
    clock: Clock
    """The present."""
    screener: Screener | None = None
    """Whom to ask about receivers, where somebody is configured."""
    poster: Poster | None = None
    """The batcher of postings, in a process that runs one."""
    known_assets: KnownAssets = field(default_factory=KnownAssets)
    """Listed assets that this process has seen."""

    async def aclose(self) -> None:
        """Let every connection go."""
        await self.waker.close()
        for client in self.clients.values():
            await client.aclose()
        if self.screener is not None:
            await self.screener.aclose()
        await self.db.close()


def build(settings: Settings) -> App:
    """The services that these settings describe."""
    return App(
        settings=settings,
        db=Database(
            settings.database.url.get_secret_value(), pool_size=settings.database.pool_size, signals=True
        ),
        clients=build_clients(settings),
        signer=SignerClient(str(settings.signer.socket), timeout_s=settings.signer.timeout_s),
        waker=Waker(settings.redis.url.get_secret_value()),
        clock=SystemClock(),
        screener=None if settings.screening is None else build_screener(settings.screening),
    )
