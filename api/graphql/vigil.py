"""Who watches for long is asked for his key again and again: what was revoked or expired sees nothing more within seconds."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import structlog
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from api.graphql.live import view_of
from custody.identity.errors import MissingScope
from custody.identity.model import Principal
from custody.kernel.errors import CustodyError, Forbidden, Unauthenticated, Unavailable
from custody.kernel.ids import PrincipalId

EVERY_S = 2.0
"""How often a key is asked for."""
UNSURE_MAX = 15
"""So often in a row it may remain unanswered, until nothing more is shown."""

_log = structlog.get_logger(__name__)


class TooManyStreams(Unavailable):
    """The principal has as many streams open as one may have."""

    code = "too_many_streams"
    public = "Too many streams are open: close one first."


class CannotTell(Unavailable):
    """Whether the key is still valid cannot be found out."""

    code = "authorization_unknown"
    public = "Whether the credential is still valid cannot be found out at the moment."


@dataclass(slots=True, kw_only=True)
class _Watched:
    """One credential, with everybody who holds a stream by it."""

    ends: set[asyncio.Future[CustodyError]] = field(default_factory=set)
    task: asyncio.Task[None] | None = None


class Vigil:
    """All streams of one process: how many each principal has, and whether they may still be there."""

    def __init__(
        self,
        authenticate: Callable[[str], Awaitable[Principal]],
        per_principal: int,
        every_s: float = EVERY_S,
    ) -> None:
        """`authenticate` raises Unauthenticated or Forbidden for a credential that is not valid now."""
        self._authenticate = authenticate
        self._per_principal = per_principal
        self._every_s = every_s
        self._open: Counter[PrincipalId] = Counter()
        self._watched: dict[str, _Watched] = {}

    @contextmanager
    def place(self, principal: Principal) -> Iterator[None]:
        """One of the principal's streams. Raises TooManyStreams."""
        if self._open[principal.id] >= self._per_principal:
            raise TooManyStreams(streams_max=self._per_principal)
        self._open[principal.id] += 1
        try:
            yield
        finally:
            self._open[principal.id] -= 1
            if not self._open[principal.id]:
                del self._open[principal.id]

    @asynccontextmanager
    async def over(
        self, credential: str, principal: Principal
    ) -> AsyncIterator[asyncio.Future[CustodyError]]:
        """A future that gets the reason as soon as the credential no longer allows what it did."""
        end: asyncio.Future[CustodyError] = asyncio.get_running_loop().create_future()
        watched = self._watched.setdefault(credential, _Watched())
        watched.ends.add(end)
        if watched.task is None:
            watched.task = asyncio.get_running_loop().create_task(self._watch(credential, principal))
        try:
            yield end
        finally:
            watched.ends.discard(end)
            end.cancel()
            if not watched.ends and self._watched.get(credential) is watched:
                del self._watched[credential]
                watched.task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watched.task

    async def _watch(self, credential: str, principal: Principal) -> None:
        try:
            self._end(credential, await self._lost(credential, principal))
        except Exception:
            # Nobody goes on watching whom nobody watches.
            _log.exception("vigil.failed")
            self._end(credential, CannotTell())
            raise

    async def _lost(self, credential: str, principal: Principal) -> CustodyError:
        """Why the credential no longer allows what it did, once it does not."""
        unsure = 0
        while unsure < UNSURE_MAX:
            await asyncio.sleep(self._every_s)
            try:
                if view_of(await self._authenticate(credential)) != view_of(principal):
                    return MissingScope(scope="as when the stream began")
                unsure = 0
            except (Unauthenticated, Forbidden) as error:
                return error
            except (Unavailable, DBAPIError, PoolTimeout, OSError) as error:
                unsure += 1
                _log.warning("vigil.unsure", reason=type(error).__name__, times=unsure)
        return CannotTell()

    def _end(self, credential: str, reason: CustodyError) -> None:
        watched = self._watched.pop(credential, None)
        for end in watched.ends if watched else ():
            if not end.done():
                end.set_result(reason)
