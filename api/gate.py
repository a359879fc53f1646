"""One process's door: knows credentials by their form, remembers who was just here, and asks for a passkey where one is due."""

from __future__ import annotations

import time

from custody.bootstrap import App
from custody.identity import service as identity
from custody.identity.cache import PrincipalCache
from custody.identity.errors import MissingScope
from custody.identity.model import Kind, Principal
from custody.identity.roles import ADMINISTRATIVE, UNATTENDED
from custody.identity.upkeep import Upkeep


class Gate:
    """Built once with the application."""

    def __init__(self, app: App) -> None:
        """Nothing is asked before the first request."""
        self._app = app
        self.cache = PrincipalCache(time.monotonic)
        self.upkeep = Upkeep(app.db, app.clock.now)

    async def identify(self, credential: str) -> Principal:
        """Who presents this. At most one indexed lookup for a key or token, none for one that was just here.

        Raises InvalidApiKey, InvalidToken, IssuerUnreachable.
        """
        known = self.cache.find(credential, self._app.clock.now())
        if known is not None:
            return known
        principal = await self._look_up(credential)
        self.cache.keep(credential, principal)
        self.upkeep.note(principal)
        return principal

    async def confirm(self, principal: Principal, any_of: tuple[str, ...]) -> None:
        """Ask more of whoever wants an administrative permission. Raises MissingScope, StepUpRequired."""
        if ADMINISTRATIVE.isdisjoint(any_of):
            return
        if principal.kind is not Kind.PERSON and UNATTENDED not in principal.permissions:
            raise MissingScope(permission=UNATTENDED)

    async def _look_up(self, credential: str) -> Principal:
        return await identity.authenticate(self._app.db, credential)
